/** Keys: one table of what they do, and the sheet that tells a person. */

import { h } from "../../shared/dom.ts";
import { keep, recall } from "../../shared/stored.ts";

const SINGLE_KEYS = "farframe.single-keys";

export interface Shortcut {
  /** As `KeyboardEvent.key`, lower case; with `alt+` before it. */
  readonly key: string;
  readonly title: string;
  readonly group: "Look" | "Model" | "Tools" | "Page";
  run(): void;
}

/** Keys that the picture and the tree know by themselves. */
const OTHERS: readonly (readonly [string, string, string])[] = [
  ["Picture", "Arrows", "Orbit"],
  ["Picture", "Shift arrows", "Pan"],
  ["Picture", "+ −", "Zoom"],
  ["Picture", "Enter", "Pick at the middle"],
  ["Picture", "Home", "Fit"],
  ["Tree", "Arrows", "Move, open, close"],
  ["Tree", "Shift arrows", "Select along"],
  ["Tree", "Ctrl space", "Add to the selection"],
  ["Tree", "Enter", "Show in the picture"],
  ["Tree", "*", "Open all beside it"],
];

const KEY_NAMES: Readonly<Record<string, string>> = { escape: "Esc", delete: "Del" };

export function keyText(key: string): string {
  return key
    .split("+")
    .map((part) => KEY_NAMES[part] ?? part.charAt(0).toUpperCase() + part.slice(1))
    .join(" ");
}

function typesText(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLSelectElement ||
    target instanceof HTMLTextAreaElement ||
    (target instanceof HTMLInputElement && !["checkbox", "range", "button", "color"].includes(target.type))
  );
}

export class Shortcuts {
  readonly #table: ReadonlyMap<string, Shortcut>;
  readonly #dialog: HTMLDialogElement;
  #single = recall(SINGLE_KEYS) !== false;

  /** `active` says whether keys count at present. */
  constructor(shortcuts: readonly Shortcut[], dialog: HTMLDialogElement, active: () => boolean) {
    this.#table = new Map(shortcuts.map((shortcut) => [shortcut.key, shortcut]));
    this.#dialog = dialog;
    this.#fill(shortcuts);
    document.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || dialog.open || !active()) return;
      const leaves = event.key === "Escape";
      if (typesText(event.target) && !leaves) return;
      // Where alt makes other letters, the key's own place counts.
      const digit = /^Digit(\d)$/.exec(event.code)?.[1];
      const key = event.altKey ? `alt+${digit ?? event.key.toLowerCase()}` : event.key.toLowerCase();
      if (!this.#single && !event.altKey && !leaves && key !== "?") return;
      const shortcut = this.#table.get(key);
      if (!shortcut) return;
      event.preventDefault();
      shortcut.run();
    });
  }

  /** Shows the sheet of keys. */
  help(): void {
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #fill(shortcuts: readonly Shortcut[]): void {
    const groups = new Map<string, [string, string][]>();
    const add = (group: string, key: string, title: string): void => {
      const rows = groups.get(group) ?? [];
      rows.push([key, title]);
      groups.set(group, rows);
    };
    for (const { group, key, title } of shortcuts) if (title) add(group, keyText(key), title);
    for (const [group, key, title] of OTHERS) add(group, key, title);
    const single = h("input", {
      type: "checkbox",
      checked: this.#single,
      change: () => {
        this.#single = single.checked;
        keep(SINGLE_KEYS, this.#single);
      },
    });
    this.#dialog.replaceChildren(
      h(
        "div",
        { class: "row" },
        h("h1", { class: "grow", id: "keys-title" }, "Keys"),
        h("button", { class: "small", "data-testid": "keys-close", click: () => this.#dialog.close() }, "Close"),
      ),
      h(
        "div",
        { class: "keys" },
        ...[...groups].map(([group, rows]) =>
          h(
            "section",
            {},
            h("h2", {}, group),
            h(
              "dl",
              {},
              ...rows.map(([key, title]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, title))),
            ),
          ),
        ),
      ),
      h("label", { class: "check" }, single, "Single keys do something (off: only Esc, ? and keys with Alt)"),
    );
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog) this.#dialog.close();
    });
  }
}
