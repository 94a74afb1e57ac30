/** The section plane: along which axis, from which side, where. It stays when its options are closed. */

import type { Bounds, Entity, Scene, Vector3 } from "@farframe/client";
import { announce } from "../../shared/announce.ts";
import { glyph, h } from "../../shared/dom.ts";
import { lengthOf, subtract } from "./geometry.ts";
import type { SectionState } from "./named_views.ts";
import { isCutAway, planeOf, type SectionPlane } from "./section.ts";

const AXES = ["X", "Y", "Z"] as const;
const FIRST: SectionState = { axis: 0, flipped: false, at: 0.5 };
/** The cut is seen by a thin line of this colour, linear, as wide as that part of the scene. */
const EDGE_COLOR = [1, 0.45, 0.05, 1] as const;
const EDGE_PART = 0.0025;
const NAME = "Section plane";

export interface SectionContext {
  readonly scene: Scene | undefined;
  readonly bounds: Bounds | undefined;
  /** The section came, went or moved. */
  onChange(on: boolean): void;
}

export class SectionTool {
  readonly element: HTMLElement;
  readonly #context: SectionContext;
  readonly #axes: readonly HTMLButtonElement[];
  readonly #slider: HTMLInputElement;
  readonly #flip: HTMLButtonElement;
  #state: SectionState | undefined;
  #plane: SectionPlane | undefined;
  #entity: Entity | undefined;

  constructor(context: SectionContext, onRemove: () => void) {
    this.#context = context;
    this.#axes = AXES.map((axis, index) =>
      h(
        "button",
        {
          class: `small axis-${axis.toLowerCase()}`,
          "aria-pressed": "false",
          "aria-label": `Across ${axis}`,
          "data-testid": `section-${axis.toLowerCase()}`,
          click: () => this.set({ ...(this.#state ?? FIRST), axis: index as 0 | 1 | 2 }),
        },
        axis,
      ),
    );
    this.#slider = h("input", {
      type: "range",
      min: 0,
      max: 1000,
      value: 500,
      "aria-label": "Where the plane is",
      "data-testid": "section-slider",
      input: () => this.set({ ...(this.#state ?? FIRST), at: this.#slider.valueAsNumber / 1000 }),
    });
    this.#flip = h("button", {
      class: "small icon",
      title: "Cut the other side",
      "aria-label": "Cut the other side",
      "aria-pressed": "false",
      "data-testid": "section-flip",
      click: () => this.set({ ...(this.#state ?? FIRST), flipped: !this.#state?.flipped }),
    });
    this.#flip.append(glyph("flip"));
    this.element = h(
      "div",
      { class: "tool-row" },
      h("span", { class: "segments" }, ...this.#axes),
      this.#slider,
      this.#flip,
      h(
        "button",
        {
          class: "small",
          "data-testid": "section-remove",
          click: () => {
            this.set(undefined);
            announce("Section removed.");
            onRemove();
          },
        },
        "Remove",
      ),
    );
  }

  get state(): SectionState | undefined {
    return this.#state;
  }

  /** What carries the plane in the scene: not one of the model's parts. */
  get entity(): Entity | undefined {
    return this.#entity;
  }

  /** Begins with a section through the middle, unless there is one. */
  begin(): void {
    if (!this.#state) this.set(FIRST);
  }

  /** Cuts so, or not at all. */
  set(state: SectionState | undefined): void {
    const { scene, bounds } = this.#context;
    this.#state = bounds && scene ? state : undefined;
    this.#plane = this.#state && bounds && planeOf(this.#state, bounds);
    if (scene && bounds && this.#plane) {
      const size = lengthOf(subtract(bounds.max, bounds.min));
      if (!this.#entity?.valid) this.#entity = scene.create(NAME, { position: this.#plane.position });
      this.#entity.position = this.#plane.position;
      this.#entity.cutPlane = { normal: this.#plane.normal, fadeColor: EDGE_COLOR, fadeLength: size * EDGE_PART };
    } else {
      this.#entity?.destroy();
      this.#entity = undefined;
    }
    this.#show();
    this.#context.onChange(this.#state !== undefined);
  }

  /** The scene is another, or its size is: the plane keeps its part of it. */
  refresh(): void {
    if (this.#state) this.set(this.#state);
  }

  /** Forgets the plane: the scene that had it is gone. */
  forget(): void {
    this.#entity = undefined;
    this.#state = undefined;
    this.#plane = undefined;
    this.#show();
    this.#context.onChange(false);
  }

  /** Tells of points whether they are cut away as it is cut now, wherever the plane is later; none while there is none. */
  get cut(): ((point: Vector3) => boolean) | undefined {
    const [state, plane] = [this.#state, this.#plane];
    return state && plane && ((point) => isCutAway(state, plane, point));
  }

  #show(): void {
    const { axis, at, flipped } = this.#state ?? FIRST;
    this.#axes.forEach((button, index) => {
      button.setAttribute("aria-pressed", String(index === axis));
    });
    this.#slider.value = String(Math.round(at * 1000));
    this.#flip.setAttribute("aria-pressed", String(flipped));
  }
}
