/** A small sheet that a button opens: closed by Escape, by a click elsewhere, and when the focus leaves it. */

export class Popover {
  readonly #button: HTMLElement;
  readonly #sheet: HTMLElement;

  constructor(button: HTMLElement, sheet: HTMLElement) {
    this.#button = button;
    this.#sheet = sheet;
    sheet.hidden = true;
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", sheet.id);
    button.addEventListener("click", () => this.toggle());
    addEventListener("pointerdown", (event) => {
      const target = event.target as Node;
      if (this.open && !sheet.contains(target) && !button.contains(target)) this.close(false);
    });
    sheet.addEventListener("focusout", (event) => {
      const to = event.relatedTarget as Node | null;
      if (this.open && to && !sheet.contains(to) && !button.contains(to)) this.close(false);
    });
    sheet.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      this.close();
    });
  }

  get open(): boolean {
    return !this.#sheet.hidden;
  }

  toggle(): void {
    if (this.open) {
      this.close();
      return;
    }
    this.#sheet.hidden = false;
    this.#button.setAttribute("aria-expanded", "true");
    this.#sheet.querySelector<HTMLElement>("button, input, select")?.focus();
  }

  /** Closes it and, unless the focus went elsewhere already, gives it back to the button. */
  close(giveFocus = true): void {
    if (!this.open) return;
    const within = this.#sheet.contains(document.activeElement);
    this.#sheet.hidden = true;
    this.#button.setAttribute("aria-expanded", "false");
    if (giveFocus && within) this.#button.focus();
  }
}
