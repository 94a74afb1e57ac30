/** Lines and labels over the picture, drawn anew with each frame for the view that the frame shows: they stay put. */

import type { Vector3, View } from "@farframe/client";
import { project } from "./projection.ts";

const SVG = "http://www.w3.org/2000/svg";
const LABEL_PADDING = 6;
const LABEL_HEIGHT = 22;
const MARK_RADIUS = 4;

/** Something to draw: `points` of the world, joined by a line, or marked, or labelled. */
export type Drawing =
  | { readonly kind: "line"; readonly from: Vector3; readonly to: Vector3; readonly style: string }
  | { readonly kind: "mark"; readonly at: Vector3; readonly style: string }
  | { readonly kind: "label"; readonly at: Vector3; readonly text: string };

export class Overlay {
  readonly #svg: SVGSVGElement;
  readonly #nodes: Element[] = [];
  #drawings: readonly Drawing[] = [];

  constructor(svg: SVGSVGElement) {
    this.#svg = svg;
  }

  /** What shall be drawn from now on. */
  set drawings(drawings: readonly Drawing[]) {
    this.#drawings = drawings;
    for (const node of this.#nodes.splice(0)) node.remove();
    for (const drawing of drawings) this.#nodes.push(nodeFor(drawing));
    this.#svg.replaceChildren(...this.#nodes);
  }

  /** Draws it for a view, in `width` x `height` CSS pixels. */
  draw(view: View, width: number, height: number): void {
    if (this.#drawings.length === 0) return;
    const pixels = (point: Vector3): readonly [number, number] | undefined => {
      const at = project(view, point);
      return at && [at.x * width, at.y * height];
    };
    this.#drawings.forEach((drawing, index) => {
      const node = this.#nodes[index] as SVGElement;
      if (drawing.kind === "line") {
        const [from, to] = [pixels(drawing.from), pixels(drawing.to)];
        node.toggleAttribute("hidden", !from || !to);
        if (!from || !to) return;
        set(node, { x1: from[0], y1: from[1], x2: to[0], y2: to[1] });
        return;
      }
      const at = pixels(drawing.at);
      node.toggleAttribute("hidden", !at);
      if (!at) return;
      if (drawing.kind === "mark") set(node, { cx: at[0], cy: at[1] });
      else node.setAttribute("transform", `translate(${at[0].toFixed(1)} ${at[1].toFixed(1)})`);
    });
  }
}

function set(node: Element, attributes: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value.toFixed(1));
}

function nodeFor(drawing: Drawing): Element {
  const make = (tag: string, style: string): Element => {
    const element = document.createElementNS(SVG, tag);
    element.setAttribute("class", style);
    return element;
  };
  if (drawing.kind === "line") return make("line", drawing.style);
  if (drawing.kind === "mark") {
    const mark = make("circle", drawing.style);
    set(mark, { r: MARK_RADIUS });
    return mark;
  }
  const group = make("g", "label");
  const text = make("text", "");
  text.textContent = drawing.text;
  const box = make("rect", "");
  // Eight pixels a character hold bold digits at this size.
  const width = drawing.text.length * 8 + 2 * LABEL_PADDING;
  set(box, { x: -width / 2, y: -LABEL_HEIGHT / 2, width, height: LABEL_HEIGHT, rx: 4 });
  group.append(box, text);
  return group;
}
