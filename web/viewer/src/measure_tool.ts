/** Measures that a person takes: distances between two points with their parts along the axes, and angles between faces. */

import type { Vector3 } from "@farframe/client";
import { announce } from "../../shared/announce.ts";
import { glyph, h } from "../../shared/dom.ts";
import { keep, recall } from "../../shared/stored.ts";
import { add, lengthOf, scaled, subtract } from "./geometry.ts";
import type { Drawing } from "./overlay.ts";
import { angleBetween, type Picked, type SnapKind } from "./snapping.ts";
import { isUnit, lengthText, UNITS, type Unit, unitFor } from "./units.ts";

const UNIT_KEY = "farframe.unit";
const SNAP_KEY = "farframe.snap";
const AXES = ["X", "Y", "Z"] as const;
const MAX_MEASURES = 50;
const ANGLE_DIGITS = 1;

export type MeasureKind = "distance" | "angle";

/** What was measured. Metres; `angle`: degrees between the faces at the two points, for an angle. */
export interface Measure {
  readonly from: Vector3;
  readonly to: Vector3;
  readonly angle: number | undefined;
}

/** A distance and its parts, metres. */
export interface Distance {
  readonly distance: number;
  readonly parts: Vector3;
}

export function distanceOf({ from, to }: Pick<Measure, "from" | "to">): Distance {
  const parts = subtract(to, from);
  return { distance: lengthOf(parts), parts };
}

/** What people read for a measure: 182.4 mm, or 90.0°. */
export function measureText(measure: Measure, unit: Unit): string {
  if (measure.angle !== undefined) return `${measure.angle.toFixed(ANGLE_DIGITS)}°`;
  return lengthText(distanceOf(measure).distance, unit);
}

/**
 * Lines with labels for all measures, and marks; the newest distance has its three legs along the axes, too. `begun`: the
 * first point of one that is not whole yet.
 */
export function drawingsOf(measures: readonly Measure[], begun: Vector3 | undefined, unit: Unit): Drawing[] {
  const drawings: Drawing[] = [];
  measures.forEach((measure, index) => {
    const { from, to } = measure;
    if (measure.angle === undefined && index === measures.length - 1) {
      const { parts } = distanceOf(measure);
      let corner = from;
      AXES.forEach((axis, along) => {
        const step: Vector3 = [0, 1, 2].map((at) => (at === along ? (parts[at] as number) : 0)) as unknown as Vector3;
        const next = add(corner, step);
        drawings.push({ kind: "line", from: corner, to: next, style: `leg axis-${axis.toLowerCase()}` });
        corner = next;
      });
    }
    drawings.push({ kind: "line", from, to, style: measure.angle === undefined ? "measure" : "leg" });
  });
  for (const { from, to } of measures) {
    for (const at of [from, to]) drawings.push({ kind: "mark", at, style: "mark" });
  }
  if (begun) drawings.push({ kind: "mark", at: begun, style: "mark" });
  measures.forEach((measure, index) => {
    const text = measureText(measure, unit);
    const numbered = measures.length > 1 ? `${index + 1}: ${text}` : text;
    drawings.push({ kind: "label", at: scaled(add(measure.from, measure.to), 0.5), text: numbered });
  });
  return drawings;
}

export interface MeasureEvents {
  onDraw(drawings: readonly Drawing[]): void;
  /** Measures came or went. */
  onChange(count: number): void;
  /** Lengths are told in another unit. */
  onUnit(): void;
}

export class MeasureTool {
  readonly element: HTMLElement;
  readonly #events: MeasureEvents;
  readonly #hint = h("p", { class: "hint grow", "data-testid": "measure-hint" });
  readonly #kinds: readonly HTMLButtonElement[];
  readonly #snap: HTMLInputElement;
  readonly #unit: HTMLSelectElement;
  readonly #clear: HTMLButtonElement;
  readonly #list = h("ol", { class: "measure-list", "aria-label": "Measures", "data-testid": "measure-list" });
  #kind: MeasureKind = "distance";
  #measures: readonly Measure[] = [];
  #begun: Picked | undefined;
  #revision = 0;
  #unitChosen: Unit | undefined;
  #size = 1;

  constructor(events: MeasureEvents) {
    this.#events = events;
    const stored = recall(UNIT_KEY);
    this.#unitChosen = isUnit(stored) ? stored : undefined;
    this.#kinds = (["distance", "angle"] as const).map((kind) =>
      h(
        "button",
        {
          class: "small",
          "data-testid": `measure-${kind === "distance" ? "lengths" : "angles"}`,
          title: kind === "distance" ? "Between two points" : "Between two faces",
          click: () => this.#choose(kind),
        },
        kind === "distance" ? "Distance" : "Angle",
      ),
    );
    this.#snap = h("input", {
      type: "checkbox",
      checked: recall(SNAP_KEY) !== false,
      "data-testid": "measure-snap",
      change: () => keep(SNAP_KEY, this.#snap.checked),
    });
    this.#unit = h(
      "select",
      { "aria-label": "Unit", "data-testid": "measure-unit", change: () => this.#chooseUnit() },
      ...UNITS.map((unit) => h("option", { value: unit }, unit)),
    );
    this.#clear = h(
      "button",
      {
        class: "small quiet",
        "data-testid": "measure-clear",
        click: () => {
          this.clear();
          announce("All measures removed.");
          this.#kinds[0]?.focus();
        },
      },
      "Remove all",
    );
    this.element = h(
      "div",
      { class: "measure-tool" },
      h(
        "div",
        { class: "tool-row" },
        h("span", { class: "segments", role: "group", "aria-label": "What to measure" }, ...this.#kinds),
        h(
          "label",
          { class: "check", title: "Take the corner or edge near the pointer" },
          this.#snap,
          "Snap to corners and edges",
        ),
        h("span", { class: "grow" }),
        this.#unit,
      ),
      h("div", { class: "tool-row" }, this.#hint, this.#clear),
      this.#list,
    );
    this.#show();
  }

  get measures(): readonly Measure[] {
    return this.#measures;
  }

  /** Whether the first of two points was picked. */
  get begun(): boolean {
    return this.#begun !== undefined;
  }

  /** Whether points shall lie on corners and edges; angles are between faces. */
  get snaps(): boolean {
    return this.#snap.checked && this.#kind === "distance";
  }

  /** How large the model is, metres: what unit suits it. */
  set size(metres: number) {
    this.#size = metres;
    this.#show();
  }

  get unit(): Unit {
    return this.#unitChosen ?? unitFor(this.#size);
  }

  /** Grows whenever what was begun is given up: a point that was asked for before that is not wanted any more. */
  get revision(): number {
    return this.#revision;
  }

  /** Takes a point of the model; each second one makes a measure. */
  pick(picked: Picked): void {
    const from = this.#begun;
    if (this.#kind === "angle" && !picked.normal) {
      announce("There is no face.");
      return;
    }
    if (!from) {
      this.#begun = picked;
      this.#show();
      announce(
        this.#kind === "angle"
          ? "First face. Pick the second."
          : `First point${placeOf(picked.kind)}. Pick the second.`,
      );
      return;
    }
    this.#begun = undefined;
    const angle = this.#kind === "angle" && from.normal && picked.normal && angleBetween(from.normal, picked.normal);
    const measure: Measure = { from: from.point, to: picked.point, angle: angle === false ? undefined : angle };
    this.#measures = [...this.#measures, measure].slice(-MAX_MEASURES);
    this.#changed();
    announce(this.#sentence(measure, placeOf(picked.kind)));
  }

  /** Gives up what was begun; the measures stay. */
  giveUp(): void {
    this.#revision += 1;
    this.#begun = undefined;
    this.#show();
  }

  /** Removes all. */
  clear(): void {
    this.#revision += 1;
    this.#begun = undefined;
    this.#measures = [];
    this.#changed();
  }

  #choose(kind: MeasureKind): void {
    this.#kind = kind;
    this.giveUp();
    announce(this.#hint.textContent);
  }

  #chooseUnit(): void {
    this.#unitChosen = this.#unit.value as Unit;
    keep(UNIT_KEY, this.#unitChosen);
    this.#show();
    this.#events.onUnit();
  }

  #remove(measure: Measure): void {
    const at = this.#measures.indexOf(measure);
    this.#measures = this.#measures.filter((other) => other !== measure);
    this.#changed();
    announce(`Measure ${at + 1} removed.`);
    const rows = this.#list.querySelectorAll<HTMLElement>("button");
    (rows[Math.min(at, rows.length - 1)] ?? this.#kinds[0])?.focus();
  }

  #sentence(measure: Measure, place: string): string {
    if (measure.angle !== undefined) return `Angle ${measureText(measure, this.unit)}.`;
    const { distance, parts } = distanceOf(measure);
    const text = (metres: number): string => lengthText(metres, this.unit);
    const along = AXES.map((axis, index) => `${axis} ${text(parts[index] as number)}`).join(", ");
    return `Second point${place}. Distance ${text(distance)}; ${along}.`;
  }

  #changed(): void {
    this.#show();
    this.#events.onChange(this.#measures.length);
  }

  #hintText(): string {
    if (this.#kind === "angle") return this.#begun ? "Pick the second face" : "Pick two faces of the model";
    return this.#begun ? "Pick the second point" : "Pick two points on the model";
  }

  #row(measure: Measure, index: number): HTMLElement {
    const text = measureText(measure, this.unit);
    const { parts } = distanceOf(measure);
    const figures =
      measure.angle === undefined
        ? AXES.map((axis, at) => [axis, lengthText(parts[at] as number, this.unit)] as const)
        : [];
    const remove = h("button", {
      class: "small icon quiet",
      title: `Remove measure ${index + 1}`,
      "aria-label": `Remove measure ${index + 1}`,
      "data-testid": "measure-remove",
      click: () => this.#remove(measure),
    });
    remove.append(glyph("close"));
    return h(
      "li",
      { "data-testid": "measure-row" },
      h("span", { class: "faint numbers", "aria-hidden": "true" }, String(index + 1)),
      h(
        "dl",
        { class: "measures numbers grow" },
        h(
          "div",
          {},
          h("dt", { class: "visually-hidden" }, measure.angle === undefined ? "Distance" : "Angle"),
          h("dd", { "data-testid": measure.angle === undefined ? "measure-distance" : "measure-angle" }, text),
        ),
        ...figures.map(([axis, figure]) =>
          h(
            "div",
            { class: `axis-${axis.toLowerCase()}` },
            h("dt", {}, axis),
            h("dd", { "data-testid": `measure-${axis.toLowerCase()}` }, figure),
          ),
        ),
      ),
      remove,
    );
  }

  #show(): void {
    this.#kinds.forEach((button, index) => {
      button.setAttribute("aria-pressed", String((index === 1) === (this.#kind === "angle")));
    });
    this.#unit.value = this.unit;
    this.#hint.textContent = this.#hintText();
    this.#clear.hidden = this.#measures.length === 0;
    this.#list.hidden = this.#measures.length === 0;
    this.#list.replaceChildren(...this.#measures.map((measure, index) => this.#row(measure, index)));
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#events.onDraw(drawingsOf(this.#measures, this.#begun?.point, this.unit));
  }
}

function placeOf(kind: SnapKind): string {
  return kind === "face" ? "" : ` on ${kind === "edge" ? "an edge" : "a corner"}`;
}
