/** The list of named views: save, go to, rename, remove, give away as a link or a file, take from a file. */

import { announce } from "../../shared/announce.ts";
import { glyph, h } from "../../shared/dom.ts";
import { download, fileName } from "../../shared/download.ts";
import { keep, recall } from "../../shared/stored.ts";
import { freeName, linkPartOf, type NamedView, textOf, viewFrom, viewsFrom, withView } from "./named_views.ts";

const MAX_FILE_BYTES = 4_000_000;

export interface ViewsContext {
  /** What is seen now, under a name. */
  capture(name: string): NamedView;
  restore(view: NamedView): void;
  /** The address of this page with that view in it. */
  linkTo(part: string): string;
}

export class ViewsPanel {
  readonly #element: HTMLElement;
  readonly #context: ViewsContext;
  readonly #name: HTMLInputElement;
  readonly #list = h("ul", { class: "views", "data-testid": "views" });
  readonly #problem = h("p", { class: "problem", role: "alert", hidden: true });
  readonly #file: HTMLInputElement;
  readonly #export: HTMLButtonElement;
  #model = "";
  #title = "";
  #views: readonly NamedView[] = [];

  constructor(element: HTMLElement, context: ViewsContext) {
    this.#element = element;
    this.#context = context;
    this.#name = h("input", {
      class: "grow",
      "data-testid": "view-name",
      "aria-label": "Name of the view",
      maxlength: 80,
    });
    this.#file = h("input", {
      type: "file",
      accept: ".json,application/json",
      hidden: true,
      "data-testid": "view-file",
      change: () => void this.#import(),
    });
    this.#export = h("button", { class: "small grow", "data-testid": "view-export", click: () => this.#exportAll() });
    this.#export.append(glyph("save"), "Export");
    const open = h("button", { class: "small grow", "data-testid": "view-import", click: () => this.#file.click() });
    open.append(glyph("open"), "Import…");
    this.#element.replaceChildren(
      h(
        "form",
        {
          class: "panel-section",
          submit: (event) => {
            event.preventDefault();
            this.save(this.#name.value);
          },
        },
        h("h2", {}, "Save what you see"),
        h("div", { class: "row" }, this.#name, h("button", { type: "submit", "data-testid": "view-save" }, "Save")),
        this.#problem,
      ),
      h(
        "section",
        { class: "panel-section", "aria-label": "Saved views" },
        this.#list,
        h("div", { class: "row" }, this.#export, open, this.#file),
      ),
    );
    this.#show();
  }

  /** The views of another model: `key` names it in the storage, `title` for people. */
  setModel(key: string, title: string): void {
    this.#model = key;
    this.#title = title;
    const stored = recall(this.#key);
    this.#views = Array.isArray(stored) ? stored.flatMap((view) => viewFrom(view) ?? []) : [];
    this.#show();
  }

  get views(): readonly NamedView[] {
    return this.#views;
  }

  /** Saves what is seen now; without a name under a new one. */
  save(name = ""): void {
    const view = this.#context.capture(name.trim() || freeName(this.#views));
    this.#keep(withView(this.#views, view));
    this.#name.value = "";
    announce(`${view.name} saved.`);
  }

  /** Goes to the view at that place, from 0. */
  go(index: number): void {
    const view = this.#views[index];
    if (!view) return;
    this.#context.restore(view);
    announce(view.name);
  }

  get #key(): string {
    return `farframe.views:${this.#model}`;
  }

  #keep(views: readonly NamedView[]): void {
    this.#views = views;
    const kept = keep(this.#key, views);
    this.#tell(kept ? "" : "This browser keeps nothing. Export the views to have them later.");
    this.#show();
  }

  #tell(problem: string): void {
    this.#problem.textContent = problem;
    this.#problem.hidden = problem === "";
  }

  #exportAll(): void {
    const blob = new Blob([textOf(this.#views, this.#title)], { type: "application/json" });
    download(blob, fileName(`${this.#title}-views`, "json"));
  }

  async #import(): Promise<void> {
    const file = this.#file.files?.[0];
    this.#file.value = "";
    if (!file) return;
    const model = this.#model;
    try {
      if (file.size > MAX_FILE_BYTES) throw new SyntaxError("This file is too large to hold views.");
      const views = viewsFrom(await file.text());
      // They were meant for the model that was there when the file was chosen.
      if (this.#model !== model) return;
      this.#keep(views.reduce<readonly NamedView[]>((all, view) => withView(all, view), this.#views));
      announce(views.length === 1 ? "One view imported." : `${views.length} views imported.`);
    } catch (thrown) {
      this.#tell(
        thrown instanceof SyntaxError && thrown.message.startsWith("This")
          ? thrown.message
          : "This file holds no views.",
      );
    }
  }

  async #copyLink(view: NamedView, button: HTMLElement): Promise<void> {
    const link = this.#context.linkTo(linkPartOf(view));
    try {
      await navigator.clipboard.writeText(link);
      announce("Link copied.");
      button.classList.add("done");
      setTimeout(() => button.classList.remove("done"), 1500);
    } catch {
      // Without the right to the clipboard a person copies it by hand.
      this.#tell("");
      const field = h("input", {
        readonly: true,
        value: link,
        "aria-label": "Link to the view",
        "data-testid": "view-link",
      });
      button.closest("li")?.append(field);
      field.focus();
      field.select();
    }
  }

  #show(): void {
    this.#export.disabled = this.#views.length === 0;
    this.#name.placeholder = freeName(this.#views);
    const icon = (name: "link" | "trash", label: string, act: (button: HTMLElement) => void): HTMLElement => {
      const button = h("button", { class: "small icon quiet", title: label, "aria-label": label });
      button.append(glyph(name));
      button.addEventListener("click", () => act(button));
      return button;
    };
    this.#list.hidden = this.#views.length === 0;
    this.#list.replaceChildren(
      ...this.#views.map((view, index) =>
        h(
          "li",
          { "data-testid": "view" },
          h(
            "button",
            { class: "quiet grow view-name", click: () => this.go(index), "data-testid": "view-go" },
            h("span", { class: "ellipsis" }, view.name),
            index < 9 && h("kbd", { "aria-hidden": "true" }, `Alt ${index + 1}`),
          ),
          icon("link", `Copy a link to ${view.name}`, (button) => void this.#copyLink(view, button)),
          icon("trash", `Remove ${view.name}`, () => {
            this.#keep(this.#views.filter((other) => other !== view));
            announce(`${view.name} removed.`);
          }),
        ),
      ),
    );
  }
}
