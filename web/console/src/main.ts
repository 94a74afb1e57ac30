/** The console's page: the account's sessions and uploads, reached through a one-time link. */

import {
  type FarframeError,
  type ManagementClient,
  type Session,
  type SessionSize,
  toFarframeError,
} from "@farframe/client";
import "../../shared/theme.css";
import "./console.css";
import { type Access, managementFor, signIn, signOut, takeFragment } from "../../shared/access.ts";
import { byId, bytes, h, placeGlyphs, withCode } from "../../shared/dom.ts";
import { explain } from "../../shared/messages.ts";

const fragment = takeFragment();

const POLL_MILLISECONDS = 4000;
const STARTING_POLL_MILLISECONDS = 700;
const EXTENSION_MINUTES = 15;
const MAX_LEASE_MINUTES = 1440;

const TONES: Readonly<Record<string, string>> = { Ready: "good", Starting: "busy", Error: "bad" };

class Console {
  readonly #management: ManagementClient;
  /** Sessions that ended while this page was open: the service's list leaves them out. */
  readonly #ended = new Map<string, Session>();
  #sessions: Session[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #refreshing = false;

  constructor(access: Access) {
    this.#management = managementFor(access);
    byId("content").hidden = false;
    byId("account").hidden = false;
    byId("account-id").textContent = access.accountId;
    byId("account-id").title = access.accountId;
    byId("expires").textContent =
      access.expiresAt === undefined
        ? "–"
        : new Date(access.expiresAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    byId<HTMLFormElement>("new-session").addEventListener("submit", (event) => {
      event.preventDefault();
      const form = new FormData(event.target as HTMLFormElement);
      const size = String(form.get("size")) as SessionSize;
      void this.#act(() => this.#management.createSession({ size, leaseMinutes: Number(form.get("lease")) }));
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) void this.refresh();
    });
  }

  async refresh(): Promise<void> {
    if (this.#refreshing) return;
    this.#refreshing = true;
    clearTimeout(this.#timer);
    try {
      const listed = await this.#management.listSessions();
      const gone = this.#sessions.filter(
        (session) => !this.#ended.has(session.id) && !listed.some(({ id }) => id === session.id),
      );
      for (const { id } of gone) this.#ended.set(id, await this.#management.getSession(id));
      this.#sessions = [...listed, ...[...this.#ended.values()].filter(({ id }) => !listed.some((s) => s.id === id))];
      this.#draw();
      await this.#drawUploads();
      clearProblem();
    } catch (thrown) {
      const error = toFarframeError(thrown, "Asking the service");
      showProblem(error);
      if (error.result === "AuthenticationFailed") return;
    } finally {
      this.#refreshing = false;
    }
    const starting = this.#sessions.some(({ status }) => status === "Starting");
    if (!document.hidden) {
      this.#timer = setTimeout(() => void this.refresh(), starting ? STARTING_POLL_MILLISECONDS : POLL_MILLISECONDS);
    }
  }

  async #act(action: () => Promise<unknown>): Promise<void> {
    try {
      await action();
    } catch (thrown) {
      showProblem(toFarframeError(thrown));
      return;
    }
    await this.refresh();
  }

  #draw(): void {
    const host = byId("sessions");
    if (this.#sessions.length === 0) {
      host.replaceChildren(h("p", { class: "blank" }, "No session is running. Start one to get a render server."));
      return;
    }
    // Redrawing would take the focus off a button; give it back to the one with the same name.
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.key : undefined;
    host.replaceChildren(h("div", { class: "sessions" }, ...this.#sessions.map((session) => this.#session(session))));
    if (focused) host.querySelector<HTMLElement>(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #session(session: Session): HTMLElement {
    const { id, status } = session;
    const live = status === "Ready" || status === "Starting";
    const left = Math.max(0, session.maxLeaseTimeMinutes - session.elapsedTimeMinutes);
    const fill = h("div");
    fill.style.width = `${(left / Math.max(1, session.maxLeaseTimeMinutes)) * 100}%`;
    const details = [
      session.size,
      `started ${new Date(session.creationTime).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`,
      session.teraflops === undefined ? "" : `${Number(session.teraflops.toPrecision(2))} teraflops`,
    ];
    const button = (name: string, label: string, className: string, click: () => void): HTMLElement =>
      h("button", { class: `small ${className}`, "data-testid": name, "data-key": `${name} ${id}`, click }, label);
    const newTotal = Math.min(MAX_LEASE_MINUTES, session.maxLeaseTimeMinutes + EXTENSION_MINUTES);
    const actions = live && [
      h(
        "a",
        {
          class: "button small primary",
          "data-testid": "open-viewer",
          "data-key": `open ${id}`,
          href: `viewer/#session=${encodeURIComponent(id)}`,
        },
        "Open viewer",
      ),
      status === "Ready" &&
        h(
          "a",
          {
            class: "button small",
            "data-testid": "watch",
            "data-key": `watch ${id}`,
            title: "See what the driving device sees, and change nothing",
            href: `viewer/?watch#session=${encodeURIComponent(id)}`,
          },
          "Watch",
        ),
      status === "Ready" &&
        session.arrInspectorPort !== undefined &&
        button("inspect", "Inspector", "", () => void this.#inspect(session)),
      newTotal > session.maxLeaseTimeMinutes &&
        button(
          "extend",
          `Extend ${newTotal - session.maxLeaseTimeMinutes} min`,
          "",
          () => void this.#act(() => this.#management.extendSession(id, newTotal)),
        ),
      button("stop", "Stop", "danger", () => {
        if (confirm(`Stop session ${id}? A connected device loses its picture at once.`)) {
          void this.#act(() => this.#management.stopSession(id));
        }
      }),
    ];
    return h(
      "article",
      {
        class: "session",
        "data-testid": "session",
        "data-session": id,
        "data-status": status,
        "aria-label": `Session ${id}`,
      },
      h(
        "div",
        { class: "grow" },
        h("div", { class: "id ellipsis", title: id }, id),
        h("div", { class: "detail ellipsis numbers" }, details.filter(Boolean).join(", ")),
      ),
      live
        ? h(
            "div",
            { class: "lease numbers" },
            h("span", {}, `${left} of ${session.maxLeaseTimeMinutes} min left`),
            h("div", { class: "bar" }, fill),
          )
        : h("span", { class: "faint" }, "–"),
      h("span", { class: "status", "data-tone": TONES[status] ?? "" }, status),
      h("div", { class: "actions" }, ...(actions || [])),
      session.error ? h("p", { class: "reason" }, session.error.message) : null,
    );
  }

  /** The inspector lives at the render server, another origin, and gets a token for its session only. */
  async #inspect(session: Session): Promise<void> {
    try {
      window.open(await this.#management.inspectorLink(session.id), "_blank", "noopener,noreferrer");
    } catch (thrown) {
      showProblem(toFarframeError(thrown));
    }
  }

  async #drawUploads(): Promise<void> {
    const { uploads, usedBytes, quotaBytes } = await this.#management.listUploads();
    byId("uploads-section").hidden = false;
    byId("uploads-sum").textContent = `${bytes(usedBytes)} of ${bytes(quotaBytes)} used`;
    byId("uploads").replaceChildren(
      uploads.length === 0
        ? h("p", { class: "blank" }, "Nothing has been uploaded. Drop a model on the viewer.")
        : h(
            "table",
            { class: "uploads" },
            h(
              "thead",
              {},
              h("tr", {}, h("th", { scope: "col" }, "File"), h("th", { scope: "col", class: "number" }, "Size")),
            ),
            h(
              "tbody",
              {},
              ...uploads.map((upload) =>
                h(
                  "tr",
                  {},
                  h("td", {}, h("code", {}, upload.uri)),
                  h("td", { class: "number numbers" }, bytes(upload.bytes)),
                ),
              ),
            ),
          ),
    );
  }
}

function showProblem(error: FarframeError): void {
  const { title, text } = explain(error);
  const problem = byId("problem");
  problem.dataset.result = error.result;
  problem.className = "notice bad";
  problem.replaceChildren(h("strong", {}, title), ...withCode(text));
  problem.hidden = false;
}

function clearProblem(): void {
  byId("problem").hidden = true;
}

async function begin(): Promise<void> {
  placeGlyphs();
  try {
    await new Console(await signIn(fragment.get("link"))).refresh();
  } catch (thrown) {
    const error = toFarframeError(thrown, "Opening the console");
    if (error.status === 401) signOut();
    showProblem(error);
  }
}

void begin();
