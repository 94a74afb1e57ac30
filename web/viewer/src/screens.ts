/** What is shown while there is no picture: progress, the choice of a session, and what went wrong. */

import type { FarframeError, Session, SessionSize } from "@farframe/client";
import { byId, h, withCode } from "../../shared/dom.ts";
import { explain, type Remedy } from "../../shared/messages.ts";

export type Step = "link" | "session" | "server" | "connect";

const STEPS: readonly [Step, string][] = [
  ["link", "Open the link"],
  ["session", "Lease a session"],
  ["server", "Start the render server"],
  ["connect", "Connect"],
];

const screen = (): HTMLElement => byId("screen");

/** Takes the screen away. */
export function clearScreen(): void {
  screen().replaceChildren();
}

function show(card: HTMLElement, focus?: HTMLElement | null): void {
  screen().replaceChildren(card);
  focus?.focus();
}

/** Shows how far the way to the picture is. `since` (on `performance.now()`'s clock) shows the seconds of this step. */
export function showProgress(step: Step, onCancel?: () => void): void {
  const at = STEPS.findIndex(([name]) => name === step);
  const since = performance.now();
  const seconds = h("time", { class: "numbers faint" });
  const card = h(
    "section",
    { class: "card", "data-testid": "progress", role: "status", "aria-label": "Connecting" },
    h(
      "ul",
      { class: "steps" },
      ...STEPS.map(([, title], index) => {
        const state = index < at ? "done" : index === at ? "now" : "later";
        return h(
          "li",
          { "data-step": state, "aria-current": state === "now" ? "step" : undefined },
          title,
          state === "now" && seconds,
        );
      }),
    ),
    onCancel && h("div", { class: "actions" }, h("button", { class: "small", click: onCancel }, "Cancel")),
  );
  show(card);
  const timer = setInterval(() => {
    if (!card.isConnected) clearInterval(timer);
    const elapsed = (performance.now() - since) / 1000;
    if (elapsed >= 1) seconds.textContent = `${elapsed.toFixed(0)} s`;
  }, 500);
}

/** What a person decided on the screen of sessions. */
export type Choice = { open: string } | { create: { size: SessionSize; leaseMinutes: number } };

/** Lets a person pick a session or ask for a new one. */
export function chooseSession(sessions: readonly Session[], watching = false): Promise<Choice> {
  return new Promise((resolve) => {
    const size = h(
      "select",
      { "data-testid": "new-size", name: "size" },
      h("option", {}, "Standard"),
      h("option", {}, "Premium"),
    );
    const lease = h("input", {
      "data-testid": "new-lease",
      name: "lease",
      type: "number",
      min: 1,
      max: 1440,
      value: 30,
      required: true,
    });
    const create = h(
      "button",
      { class: "primary", type: "submit", "data-testid": "new-session" },
      "Start a new session",
    );
    const form = h(
      "form",
      {
        submit: (event) => {
          event.preventDefault();
          resolve({ create: { size: size.value as SessionSize, leaseMinutes: lease.valueAsNumber } });
        },
      },
      h("label", { class: "field" }, "Size", size),
      h("label", { class: "field" }, "Lease, minutes", lease),
      create,
    );
    const list =
      sessions.length > 0 &&
      h(
        "ul",
        { class: "sessions", "data-testid": "session-list" },
        ...sessions.map((session) =>
          h(
            "li",
            {},
            h(
              "button",
              { "data-testid": "open-session", "data-session": session.id, click: () => resolve({ open: session.id }) },
              h("span", { class: "ellipsis" }, session.id),
              h("span", { class: "status", "data-tone": session.status === "Ready" ? "good" : "busy" }, session.status),
              h("small", {}, `${session.size}, ${session.maxLeaseTimeMinutes - session.elapsedTimeMinutes} min left`),
            ),
          ),
        ),
      );
    show(
      h(
        "section",
        { class: "card", "data-testid": "sessions" },
        h(
          "h1",
          {},
          watching ? "Choose a session to watch" : sessions.length > 0 ? "Choose a session" : "Start a session",
        ),
        h(
          "p",
          { class: "soft" },
          watching
            ? sessions.length > 0
              ? "You see what the driving device sees, and change nothing."
              : "There is no session at present. Reload this page when there is one."
            : sessions.length > 0
              ? "A session is a render server that is yours until its lease ends."
              : "A session leases a render server. It is yours until the lease ends or you stop it.",
        ),
        list,
        !watching && list && h("hr"),
        !watching && form,
      ),
      list ? list.querySelector("button") : watching ? null : create,
    );
  });
}

/** Tells what went wrong and waits for what the person wants to do about it. */
export function showError(error: FarframeError, allowed: readonly Remedy[]): Promise<Remedy> {
  const { title, text, remedy } = explain(error);
  return new Promise((resolve) => {
    const again = (name: Remedy, label: string, primary: boolean): HTMLElement =>
      h(
        "button",
        {
          class: primary ? "primary" : "",
          "data-testid": name === "sessions" ? "choose-session" : name,
          click: () => resolve(name),
        },
        label,
      );
    const reconnect =
      allowed.includes("reconnect") &&
      remedy === "reconnect" &&
      again("reconnect", error.result === "OtherSessionConnected" ? "Try again" : "Reconnect", true);
    const sessions =
      allowed.includes("sessions") &&
      remedy !== "none" &&
      again("sessions", "Choose a session", remedy === "sessions" || !reconnect);
    const actions = [reconnect, sessions].filter((button) => button instanceof HTMLElement);
    show(
      h(
        "section",
        { class: "card", role: "alert", "data-testid": "error", "data-result": error.result },
        h("h1", {}, title),
        h("p", { class: "soft" }, ...withCode(text)),
        // A link of one session leads to no other: only its giver can go on.
        remedy === "sessions" &&
          !sessions &&
          h("p", { class: "soft" }, ...withCode("A new session has a link of its own: `farframe view` prints it.")),
        actions.length > 0 && h("div", { class: "actions" }, ...actions),
      ),
      actions[0],
    );
  });
}
