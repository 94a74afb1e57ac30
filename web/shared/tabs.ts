/** Tabs: a `role="tablist"` whose tabs name their panels by `aria-controls`. */

import { byId } from "./dom.ts";
import { rove } from "./roving.ts";

export class Tabs {
  readonly #tabs: HTMLElement[];
  readonly #stopAt: (item: HTMLElement) => void;
  readonly #onChange: (panel: string) => void;
  #current = "";

  /** `onChange` hears the id of the panel that is shown. */
  constructor(list: HTMLElement, onChange: (panel: string) => void = () => undefined) {
    this.#tabs = [...list.querySelectorAll<HTMLElement>("[role=tab]")];
    this.#onChange = onChange;
    for (const tab of this.#tabs) tab.addEventListener("click", () => this.show(panelOf(tab)));
    this.#stopAt = rove(list, "[role=tab]", { onMove: (tab) => this.show(panelOf(tab)) });
    const first = this.#tabs.find((tab) => tab.getAttribute("aria-selected") === "true") ?? this.#tabs[0];
    if (first) this.show(panelOf(first));
  }

  /** The id of the panel that is shown. */
  get current(): string {
    return this.#current;
  }

  show(panel: string): void {
    for (const tab of this.#tabs) {
      const chosen = panelOf(tab) === panel;
      tab.setAttribute("aria-selected", String(chosen));
      byId(panelOf(tab)).hidden = !chosen;
      if (chosen) this.#stopAt(tab);
    }
    if (panel === this.#current) return;
    this.#current = panel;
    this.#onChange(panel);
  }
}

function panelOf(tab: HTMLElement): string {
  return tab.getAttribute("aria-controls") ?? "";
}
