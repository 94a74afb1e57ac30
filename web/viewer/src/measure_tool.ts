/** Measures between two points that a person picks: the distance and its parts along the axes. */

import type { Vector3 } from "@farframe/client";
import { announce } from "../../shared/announce.ts";
import { h } from "../../shared/dom.ts";
import { keep, recall } from "../../shared/stored.ts";
import { add, lengthOf, scaled, subtract } from "./geometry.ts";
import type { Drawing } from "./overlay.ts";
import { isUnit, lengthText, UNITS, type Unit, unitFor } from "./units.ts";

const UNIT_KEY = "farframe.unit";
const AXES = ["X", "Y", "Z"] as const;

/** A distance and its parts, metres. */
export interface Measure {
  readonly distance: number;
  readonly parts: Vector3;
}

export function measure(from: Vector3, to: Vector3): Measure {
  const parts = subtract(to, from);
  return { distance: lengthOf(parts), parts };
}

/** The line, its three legs along the axes, and the label at its middle. */
export function drawingsOf(points: readonly Vector3[], unit: Unit): Drawing[] {
  const [from, to] = points;
  const drawings: Drawing[] = [];
  if (from && to) {
    const { distance, parts } = measure(from, to);
    let corner = from;
    AXES.forEach((axis, index) => {
      const step: Vector3 = [0, 1, 2].map((at) => (at === index ? (parts[at] as number) : 0)) as unknown as Vector3;
      const next = add(corner, step);
      drawings.push({ kind: "line", from: corner, to: next, style: `leg axis-${axis.toLowerCase()}` });
      corner = next;
    });
    drawings.push({ kind: "line", from, to, style: "measure" });
    drawings.push({ kind: "label", at: scaled(add(from, to), 0.5), text: lengthText(distance, unit) });
  }
  for (const at of points) drawings.push({ kind: "mark", at, style: "mark" });
  return drawings;
}

export class MeasureTool {
  readonly element: HTMLElement;
  readonly #draw: (drawings: readonly Drawing[]) => void;
  readonly #hint = h("p", { class: "hint", "data-testid": "measure-hint" });
  readonly #values: readonly HTMLElement[];
  readonly #result: HTMLElement;
  readonly #unit: HTMLSelectElement;
  readonly #clear: HTMLButtonElement;
  #points: Vector3[] = [];
  #unitChosen: Unit | undefined;
  #size = 1;

  constructor(draw: (drawings: readonly Drawing[]) => void) {
    this.#draw = draw;
    const stored = recall(UNIT_KEY);
    this.#unitChosen = isUnit(stored) ? stored : undefined;
    this.#unit = h(
      "select",
      { "aria-label": "Unit", "data-testid": "measure-unit", change: () => this.#chooseUnit() },
      ...UNITS.map((unit) => h("option", { value: unit }, unit)),
    );
    this.#values = ["distance", "x", "y", "z"].map((name) => h("dd", { "data-testid": `measure-${name}` }));
    this.#result = h(
      "dl",
      { class: "measures numbers", hidden: true },
      ...["Distance", ...AXES].map((title, index) =>
        h("div", index > 0 ? { class: `axis-${title.toLowerCase()}` } : {}, h("dt", {}, title), this.#values[index]),
      ),
    );
    this.#clear = h("button", { class: "small", "data-testid": "measure-clear", click: () => this.clear() }, "Clear");
    this.element = h("div", { class: "tool-row" }, this.#hint, this.#result, this.#unit, this.#clear);
    this.#show();
  }

  /** The points picked, none to two. */
  get points(): readonly Vector3[] {
    return this.#points;
  }

  /** How large the model is, metres: what unit suits it. */
  set size(metres: number) {
    this.#size = metres;
    this.#show();
  }

  get unit(): Unit {
    return this.#unitChosen ?? unitFor(this.#size);
  }

  /** Takes a point of the model, metres; the third begins anew. */
  pick(point: Vector3): void {
    this.#points = this.#points.length === 2 ? [point] : [...this.#points, point];
    this.#show();
    if (this.#points.length === 2) announce(this.#sentence());
    else announce("First point. Pick the second.");
  }

  clear(): void {
    this.#points = [];
    this.#show();
  }

  #chooseUnit(): void {
    this.#unitChosen = this.#unit.value as Unit;
    keep(UNIT_KEY, this.#unitChosen);
    this.#show();
  }

  #sentence(): string {
    const [from, to] = this.#points as [Vector3, Vector3];
    const { distance, parts } = measure(from, to);
    const text = (metres: number): string => lengthText(metres, this.unit);
    return `Distance ${text(distance)}; ${AXES.map((axis, index) => `${axis} ${text(parts[index] as number)}`).join(", ")}.`;
  }

  #show(): void {
    const [from, to] = this.#points;
    this.#unit.value = this.unit;
    this.#hint.hidden = to !== undefined;
    this.#hint.textContent = from ? "Pick the second point" : "Pick two points on the model";
    this.#result.hidden = to === undefined;
    this.#clear.hidden = from === undefined;
    if (from && to) {
      const { distance, parts } = measure(from, to);
      [distance, ...parts].forEach((metres, index) => {
        (this.#values[index] as HTMLElement).textContent = lengthText(metres, this.unit);
      });
    }
    this.#draw(drawingsOf(this.#points, this.unit));
  }
}
