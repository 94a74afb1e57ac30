/** A few lines in place of a framework: make elements, find elements, show numbers. */

type Child = Node | string | null | undefined | false;
type Properties = Record<string, string | number | boolean | ((event: Event) => void) | undefined>;

/**
 * Makes an element. Functions become listeners (`click: …`), booleans set or leave out an attribute, the rest are
 * attributes. Text goes in as text, never as markup.
 */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  // A button submits its form by default, which nobody expects of one that does not say so.
  if (tag === "button") element.setAttribute("type", "button");
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.filter((child): child is Node | string => child instanceof Node || typeof child === "string"),
  );
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Outlines on a 20 x 20 grid. */
const GLYPHS = {
  fit: "M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4M7.5 8.5 10 7l2.5 1.5v3L10 13l-2.5-1.5z",
  chart: "M3 17h14M5.5 14V9.5M10 14V4M14.5 14V7",
  full: "M12 3h5v5M17 3l-5.5 5.5M8 17H3v-5M3 17l5.5-5.5",
  close: "M5 5l10 10M15 5 5 15",
  trash: "M4 6h12M8 6V4h4v2M6 6l.7 10.5h6.6L14 6",
  file: "M5 2.8h6.5L15.5 7v10.2H5zM11.3 2.8V7h4.2",
  folder: "M2.5 15.5v-11h5L9.3 6.5h8.2v9z",
  model: "M10 2.5 16.5 6v8L10 17.5 3.5 14V6zM3.5 6 10 9.5 16.5 6M10 9.5v8",
  layers: "M10 3 17 6.8l-7 3.8-7-3.8zM3.4 10.4 10 14l6.6-3.6M3.4 13.6 10 17.2l6.6-3.6",
  plus: "M10 4v12M4 10h12",
  clock: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM10 6v4l2.6 1.8",
  leave: "M8 3H3.5v14H8M12.5 6.5 16 10l-3.5 3.5M16 10H7.5",
} as const;

export type Glyph = keyof typeof GLYPHS;

/** A small outline picture; for eyes only. */
export function glyph(name: Glyph): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", "glyph");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", GLYPHS[name]);
  svg.append(path);
  return svg;
}

/** Puts the picture that `data-glyph` names into each element below `root` that has one. */
export function placeGlyphs(root: ParentNode = document): void {
  for (const element of root.querySelectorAll<HTMLElement>("[data-glyph]")) {
    element.prepend(glyph(element.dataset.glyph as Glyph));
  }
}

/** The element with that id. Throws when the page lacks it, which is a bug. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no element with id ${id}.`);
  return element as T;
}

/** Thin spaces between thousands: 212 345. */
export function grouped(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A size in bytes with a fitting unit. */
export function bytes(value: number): string {
  if (value < 1000) return `${value} B`;
  if (value < 1e6) return `${(value / 1e3).toFixed(0)} kB`;
  return value < 1e9 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e9).toFixed(2)} GB`;
}

/** Milliseconds with one digit below ten. */
export function milliseconds(value: number | undefined): string {
  if (value === undefined) return "–";
  return value < 9.95 ? value.toFixed(1) : value.toFixed(0);
}

/** Text with `code` in backquotes as elements. */
export function withCode(text: string): (string | Node)[] {
  return text.split("`").map((part, index) => (index % 2 === 1 ? h("code", {}, part) : part));
}
