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
  eye: "M2 10s3-5 8-5 8 5 8 5-3 5-8 5-8-5-8-5zM10 7.6a2.4 2.4 0 1 0 0 4.8 2.4 2.4 0 0 0 0-4.8z",
  eyeOff:
    "M3 3l14 14M8 5.2C8.6 5.1 9.3 5 10 5c5 0 8 5 8 5a14 14 0 0 1-2.3 2.7M5.3 6.5A14 14 0 0 0 2 10s3 5 8 5c1.4 0 2.6-.4 3.7-.9",
  isolate: "M10 2.5v3M10 14.5v3M2.5 10h3M14.5 10h3M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z",
  ruler: "M2.5 13 13 2.5 17.5 7 7 17.5zM5.5 10l1.8 1.8M8 7.5l2.5 2.5M10.5 5l1.8 1.8",
  section: "M10 2v16M7.5 4.5 3 7v7l4.5 2.5M12.5 4.5 17 7v7l-4.5 2.5",
  explode:
    "M7.5 7.5h5v5h-5zM5 5 2.5 2.5M15 5l2.5-2.5M5 15l-2.5 2.5M15 15l2.5 2.5M2.5 5.5v-3h3M14.5 2.5h3v3M2.5 14.5v3h3M14.5 17.5h3v-3",
  photo: "M2.5 6h3.7l1.3-2h5l1.3 2h3.7v10h-15zM10 8a2.8 2.8 0 1 0 0 5.6A2.8 2.8 0 0 0 10 8z",
  keys: "M2 5.5h16v9H2zM5 8.5h.01M8.3 8.5h.01M11.7 8.5h.01M15 8.5h.01M6.5 11.7h7",
  search: "M8.8 3.5a5.3 5.3 0 1 0 0 10.6 5.3 5.3 0 0 0 0-10.6zM12.7 12.7 17 17",
  chevron: "M7.5 5l5 5-5 5",
  bookmark: "M5.5 3h9v14L10 13.5 5.5 17z",
  save: "M10 3v10M6 9.5l4 4 4-4M3.5 16.5h13",
  open: "M10 13.5v-10M6 7l4-4 4 4M3.5 16.5h13",
  link: "M8.5 11.5a3 3 0 0 0 4.3 0l3-3a3 3 0 0 0-4.3-4.3l-1 1M11.5 8.5a3 3 0 0 0-4.3 0l-3 3a3 3 0 0 0 4.3 4.3l1-1",
  flip: "M4 7h11l-3-3M16 13H5l3 3",
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
