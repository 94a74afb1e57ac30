/**
 * The scene's tree on the page. Only the rows in sight are elements, so that 50,000 entities scroll like fifty. The tree
 * itself has the focus and names its active row, as a tree that is not all there has to.
 *
 *     arrows  move, open, close     shift arrows  select along     ctrl space  add or take out     Enter  show it
 */

import type { Entity } from "@farframe/client";
import { announce } from "../../shared/announce.ts";
import { glyph, grouped, h } from "../../shared/dom.ts";
import type { Selection } from "./selection.ts";
import { type Row, type TreeModel, titleOf } from "./tree_model.ts";
import { isHidden } from "./visibility.ts";

const ROW_PIXELS = 28;
const COARSE_ROW_PIXELS = 44;
/** Rows beyond the edges, so that a quick scroll does not show emptiness. */
const MARGIN_ROWS = 8;
const SEARCH_DELAY_MILLISECONDS = 120;
const INDENT_PIXELS = 14;

export interface TreeEvents {
  /** Enter or a double click: bring it into view. */
  onShow(entity: Entity): void;
  onToggleVisibility(entity: Entity): void;
}

export interface TreeElements {
  readonly tree: HTMLElement;
  readonly search: HTMLInputElement;
  readonly count: HTMLElement;
}

export class TreeView {
  readonly #model: TreeModel;
  readonly #selection: Selection;
  readonly #events: TreeEvents;
  readonly #tree: HTMLElement;
  readonly #sizer = h("div", { class: "tree-sizer", role: "presentation" });
  readonly #search: HTMLInputElement;
  readonly #count: HTMLElement;
  readonly #rowPixels: number;
  readonly #elements: HTMLElement[] = [];
  #active: Entity | undefined;
  /** Where a selection with shift began. */
  #anchor: Entity | undefined;
  #searchTimer: ReturnType<typeof setTimeout> | undefined;
  #searching: AbortController | undefined;
  #drawing = 0;

  constructor(elements: TreeElements, model: TreeModel, selection: Selection, events: TreeEvents) {
    this.#tree = elements.tree;
    this.#search = elements.search;
    this.#count = elements.count;
    this.#model = model;
    this.#selection = selection;
    this.#events = events;
    this.#rowPixels = matchMedia("(pointer: coarse)").matches ? COARSE_ROW_PIXELS : ROW_PIXELS;
    this.#tree.replaceChildren(this.#sizer);
    this.#tree.addEventListener("scroll", () => this.#schedule(), { passive: true });
    this.#tree.addEventListener("keydown", (event) => this.#key(event));
    this.#tree.addEventListener("focus", () => this.#focused());
    this.#sizer.addEventListener("click", (event) => this.#click(event));
    this.#sizer.addEventListener("dblclick", (event) => {
      const row = this.#rowAt(event);
      if (row && !(event.target as Element).closest(".twist, .eye")) this.#events.onShow(row.entity);
    });
    new ResizeObserver(() => this.#schedule()).observe(this.#tree);
    this.#search.addEventListener("input", () => {
      clearTimeout(this.#searchTimer);
      this.#searchTimer = setTimeout(() => void this.#find(), SEARCH_DELAY_MILLISECONDS);
    });
    this.#search.addEventListener("keydown", (event) => this.#searchKey(event));
    selection.on("change", () => this.#schedule());
  }

  /** The scene has other entities: all rows anew. */
  reload(): void {
    if (this.#active && !this.#active.valid) this.#active = undefined;
    this.#model.prune();
    if (this.#search.value.trim()) void this.#find();
    else this.#rowsChanged();
  }

  /** Names, states or what is hidden have changed: the rows in sight anew. */
  refresh(): void {
    this.#schedule();
  }

  /** Opens the tree down to an entity and scrolls to it. */
  reveal(entity: Entity): void {
    if (this.#model.indexOf(entity) < 0) {
      this.#model.reveal(entity);
      this.#rowsChanged();
    }
    if (this.#model.indexOf(entity) < 0 && this.#model.searching) {
      this.#search.value = "";
      void this.#find().then((found) => {
        if (!found || !entity.valid) return;
        this.#model.reveal(entity);
        this.#rowsChanged();
        this.#activate(entity);
      });
      return;
    }
    this.#activate(entity);
  }

  focusSearch(): void {
    this.#search.focus();
    this.#search.select();
  }

  #focused(): void {
    this.#active ??= this.#selection.last ?? this.#model.rows[0]?.entity;
    this.#schedule();
  }

  /** Searches for what is in the field; false when another search took its place. */
  async #find(): Promise<boolean> {
    clearTimeout(this.#searchTimer);
    this.#searching?.abort();
    const searching = new AbortController();
    this.#searching = searching;
    const text = this.#search.value;
    if (!(await this.#model.search(text, searching.signal))) return false;
    this.#tree.scrollTop = 0;
    this.#rowsChanged();
    if (!this.#model.searching) return true;
    const found = this.#model.hits.size;
    announce(found === 1 ? "One part found." : `${found} parts found.`);
    return true;
  }

  #searchKey(event: KeyboardEvent): void {
    if (event.key === "Escape" && this.#search.value) {
      event.preventDefault();
      this.#search.value = "";
      void this.#find();
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      this.#tree.focus();
    } else if (event.key === "Enter") {
      event.preventDefault();
      void this.#find().then((found) => found && this.#selection.set(this.#model.hits));
    }
  }

  #rowsChanged(): void {
    const rows = this.#model.rows;
    this.#sizer.style.height = `${rows.length * this.#rowPixels}px`;
    const found = this.#model.hits.size;
    this.#count.textContent = this.#model.searching ? `${grouped(found)} found` : "";
    this.#tree.hidden = rows.length === 0;
    this.#draw();
  }

  #schedule(): void {
    if (this.#drawing) return;
    this.#drawing = requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#draw();
    });
  }

  #draw(): void {
    const rows = this.#model.rows;
    const first = Math.max(0, Math.floor(this.#tree.scrollTop / this.#rowPixels) - MARGIN_ROWS);
    const inSight = Math.ceil(this.#tree.clientHeight / this.#rowPixels) + 2 * MARGIN_ROWS;
    const last = Math.min(rows.length, first + inSight);
    for (let slot = 0; slot < last - first; slot++) {
      const element = this.#elements[slot] ?? this.#makeRow(slot);
      this.#fill(element, rows[first + slot] as Row, first + slot);
    }
    for (const element of this.#elements.splice(Math.max(0, last - first))) element.remove();
    const at = this.#model.indexOf(this.#active);
    const active = at >= first && at < last ? this.#elements[at - first] : undefined;
    if (active) this.#tree.setAttribute("aria-activedescendant", active.id);
    else this.#tree.removeAttribute("aria-activedescendant");
  }

  #makeRow(slot: number): HTMLElement {
    const twist = h("span", { class: "twist" });
    twist.append(glyph("chevron"));
    const eye = h("span", { class: "eye" });
    eye.append(glyph("eye"), glyph("eyeOff"));
    const element = h(
      "div",
      { role: "treeitem", id: `row-${slot}`, class: "tree-row" },
      twist,
      h("span", { class: "name" }),
      eye,
    );
    element.style.height = `${this.#rowPixels}px`;
    this.#elements[slot] = element;
    this.#sizer.append(element);
    return element;
  }

  #fill(element: HTMLElement, row: Row, index: number): void {
    const { entity } = row;
    const hidden = isHidden(entity);
    const title = titleOf(entity);
    element.style.transform = `translateY(${index * this.#rowPixels}px)`;
    element.style.paddingInlineStart = `${(row.level - 1) * INDENT_PIXELS}px`;
    element.dataset["index"] = String(index);
    element.dataset["entity"] = String(entity.id);
    const set = (name: string, value: string | undefined): void => {
      if (value === undefined) element.removeAttribute(name);
      else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
    };
    set("aria-level", String(row.level));
    set("aria-posinset", String(row.position));
    set("aria-setsize", String(row.siblings));
    set("aria-expanded", row.expandable ? String(row.expanded) : undefined);
    set("aria-selected", String(this.#selection.has(entity)));
    set("aria-label", hidden ? `${title}, hidden` : title);
    element.classList.toggle("active", entity === this.#active);
    element.classList.toggle("concealed", hidden);
    element.classList.toggle("hit", this.#model.hits.has(entity));
    element.classList.toggle("group", !entity.hasMesh && !entity.isPointCloud);
    const name = element.children[1] as HTMLElement;
    if (name.textContent !== title) name.textContent = title;
    element.title = title.length > 24 ? title : "";
  }

  #rowAt(event: Event): Row | undefined {
    const element = (event.target as Element).closest<HTMLElement>("[data-index]");
    return element ? this.#model.rows[Number(element.dataset["index"])] : undefined;
  }

  #click(event: MouseEvent): void {
    const row = this.#rowAt(event);
    if (!row) return;
    const target = event.target as Element;
    if (target.closest(".twist") && row.expandable) {
      this.#model.setExpanded(row.entity, !row.expanded);
      this.#rowsChanged();
      return;
    }
    if (target.closest(".eye")) {
      this.#events.onToggleVisibility(row.entity);
      return;
    }
    this.#active = row.entity;
    if (event.shiftKey) this.#selectAlong();
    else if (event.ctrlKey || event.metaKey) this.#selection.toggle(row.entity);
    else this.#selection.set([row.entity]);
    if (!event.shiftKey) this.#anchor = row.entity;
    this.#schedule();
  }

  /** Selects the rows from the anchor to the active one. */
  #selectAlong(): void {
    const [from, to] = [this.#model.indexOf(this.#anchor ?? this.#active), this.#model.indexOf(this.#active)];
    if (to < 0) return;
    const [first, last] = [Math.min(from < 0 ? to : from, to), Math.max(from, to)];
    this.#selection.set(this.#model.rows.slice(first, last + 1).map((row) => row.entity));
  }

  #activate(entity: Entity): void {
    this.#active = entity;
    const at = this.#model.indexOf(entity);
    if (at >= 0) {
      const [top, bottom] = [at * this.#rowPixels, (at + 1) * this.#rowPixels];
      const { scrollTop, clientHeight } = this.#tree;
      if (top < scrollTop) this.#tree.scrollTop = top;
      else if (bottom > scrollTop + clientHeight) this.#tree.scrollTop = bottom - clientHeight;
    }
    this.#draw();
  }

  #key(event: KeyboardEvent): void {
    if (event.altKey || event.metaKey) return;
    const rows = this.#model.rows;
    const at = this.#model.indexOf(this.#active);
    const row = rows[at];
    const page = Math.max(1, Math.floor(this.#tree.clientHeight / this.#rowPixels) - 1);
    const goTo = (index: number): void => {
      const next = rows[Math.min(rows.length - 1, Math.max(0, index))];
      if (!next) return;
      this.#activate(next.entity);
      if (event.shiftKey) this.#selectAlong();
      else if (!event.ctrlKey) {
        this.#anchor = next.entity;
        this.#selection.set([next.entity]);
      }
    };
    switch (event.key) {
      case "ArrowDown":
        goTo(at + 1);
        break;
      case "ArrowUp":
        goTo(at < 0 ? 0 : at - 1);
        break;
      case "PageDown":
        goTo(at + page);
        break;
      case "PageUp":
        goTo(at - page);
        break;
      case "Home":
        goTo(0);
        break;
      case "End":
        goTo(rows.length - 1);
        break;
      case "ArrowRight":
        if (row?.expandable && !row.expanded) this.#expand(row.entity, true);
        else if (row?.expanded) goTo(at + 1);
        break;
      case "ArrowLeft":
        if (row?.expanded) this.#expand(row.entity, false);
        else if (row?.entity.parent) goTo(this.#model.indexOf(row.entity.parent));
        break;
      case "*":
        if (row) {
          this.#model.expandSiblings(row.entity);
          this.#rowsChanged();
          this.#activate(row.entity);
        }
        break;
      case " ":
        if (row && event.ctrlKey) this.#selection.toggle(row.entity);
        else if (row) this.#selection.set([row.entity]);
        break;
      case "Enter":
        if (row) this.#events.onShow(row.entity);
        break;
      case "a":
        if (!event.ctrlKey) return;
        this.#selection.set(rows.map((each) => each.entity));
        break;
      default:
        return;
    }
    event.preventDefault();
  }

  #expand(entity: Entity, expanded: boolean): void {
    this.#model.setExpanded(entity, expanded);
    this.#rowsChanged();
    this.#activate(entity);
  }
}
