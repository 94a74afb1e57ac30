/** Section planes: across axes, on faces, each moved, turned over and removed by itself. They stay when the tool is closed. */

import type { Bounds, Entity, Scene, Vector3 } from "@farframe/client";
import { announce } from "../../shared/announce.ts";
import { glyph, h } from "../../shared/dom.ts";
import { lengthOf, subtract } from "./geometry.ts";
import {
  AXIS_NAMES,
  acrossAxis,
  isCutAway,
  MAX_SECTIONS,
  movedTo,
  onFace,
  partOf,
  positionOf,
  rotationOf,
  type SectionAxis,
  type SectionState,
  titlesOf,
} from "./section.ts";
import { lengthText, type Unit } from "./units.ts";

/** The cut is seen by a thin line of this colour, linear, as wide as that part of the scene. */
const EDGE_COLOR = [1, 0.45, 0.05, 1] as const;
const EDGE_PART = 0.0025;
const STEPS = 1000;
const PICK_HINT = "Click on a face, or press Enter for the one in the middle";

export interface SectionContext {
  readonly scene: Scene | undefined;
  readonly bounds: Bounds | undefined;
  readonly unit: Unit;
  /** Planes came or went. */
  onChange(): void;
  /** A face is to be picked now, or no longer. */
  onPicking(on: boolean): void;
}

/** One plane: in the scene, and its row in the list. */
interface Cut {
  state: SectionState;
  title: string;
  entity: Entity | undefined;
  readonly row: HTMLElement;
  readonly label: HTMLElement;
  readonly slider: HTMLInputElement;
  readonly value: HTMLOutputElement;
  readonly flip: HTMLButtonElement;
  readonly remove: HTMLButtonElement;
}

export class SectionTool {
  readonly element: HTMLElement;
  readonly #context: SectionContext;
  readonly #axes: readonly HTMLButtonElement[];
  readonly #face: HTMLButtonElement;
  readonly #clear: HTMLButtonElement;
  readonly #hint = h("p", { class: "hint", "data-testid": "section-hint" });
  readonly #list = h("ul", { class: "planes", "aria-label": "Section planes", "data-testid": "section-planes" });
  #cuts: readonly Cut[] = [];
  /** Made anew whenever somebody begins to pick a face. */
  #picking: object | undefined;

  constructor(context: SectionContext) {
    this.#context = context;
    this.#axes = AXIS_NAMES.map((name, axis) =>
      h(
        "button",
        {
          class: `small axis-${name.toLowerCase()}`,
          "aria-pressed": "false",
          "aria-label": `Across ${name}`,
          title: `Cut across ${name}`,
          "data-testid": `section-${name.toLowerCase()}`,
          click: () => this.#toggleAxis(axis as SectionAxis),
        },
        name,
      ),
    );
    this.#face = h(
      "button",
      {
        class: "small",
        "aria-pressed": "false",
        title: "Put a plane on a face of the model",
        "data-testid": "section-face",
        click: () => this.pickFace(this.#picking === undefined),
      },
      "On a face",
    );
    this.#clear = h(
      "button",
      {
        class: "small quiet",
        "data-testid": "section-remove",
        click: () => {
          this.set([]);
          announce("All section planes removed.");
          this.#axes[0]?.focus();
        },
      },
      "Remove all",
    );
    this.element = h(
      "div",
      { class: "section-tool" },
      h(
        "div",
        { class: "tool-row" },
        h("span", { class: "segments" }, ...this.#axes),
        this.#face,
        h("span", { class: "grow" }),
        this.#clear,
      ),
      this.#hint,
      this.#list,
    );
    this.#show();
  }

  get states(): readonly SectionState[] {
    return this.#cuts.map((cut) => cut.state);
  }

  /** What people call the planes, in their order. */
  get titles(): readonly string[] {
    return this.#cuts.map((cut) => cut.title);
  }

  /** What carries the planes in the scene: none of the model's parts. */
  get entities(): ReadonlySet<Entity> {
    return new Set(this.#cuts.flatMap((cut) => cut.entity ?? []));
  }

  /** While the next click is for a face: the same object until that is over. */
  get picking(): object | undefined {
    return this.#picking;
  }

  /** Begins with a section across X, through the middle, unless there is one. */
  begin(): void {
    const { bounds } = this.#context;
    if (this.#cuts.length === 0 && bounds) this.set([acrossAxis(0, bounds)]);
    else this.#show();
  }

  /** Cuts by these planes and no others. */
  set(states: readonly SectionState[]): void {
    const { scene, bounds } = this.#context;
    const wanted = scene && bounds ? states.slice(0, MAX_SECTIONS) : [];
    for (const cut of this.#cuts) cut.entity?.destroy();
    this.#cuts = wanted.map((state) => this.#cutOf(state));
    this.#changed();
  }

  /** Puts a plane on a face: `normal` points out of it, to who looks. */
  addFace(point: Vector3, normal: Vector3): void {
    const { bounds } = this.#context;
    this.pickFace(false);
    if (!bounds || this.#cuts.length >= MAX_SECTIONS || !(lengthOf(normal) > 0)) return;
    this.#add(onFace(point, normal, bounds));
  }

  /** Lets the next click choose a face, or no longer. */
  pickFace(on: boolean): void {
    if (on === (this.#picking !== undefined)) return;
    this.#picking = on ? {} : undefined;
    this.#show();
    this.#context.onPicking(on);
    if (on) announce(`${PICK_HINT}.`);
  }

  /** The scene reaches elsewhere, or its unit is another: the planes stay, their sliders do not. */
  refresh(): void {
    if (!this.#context.bounds) this.set([]);
    else for (const cut of this.#cuts) this.#place(cut);
  }

  /** Forgets the planes: the scene that had them is gone. */
  forget(): void {
    this.#cuts = [];
    this.pickFace(false);
    this.#changed();
  }

  /** Tells of points whether they are cut away as it is cut now, wherever the planes are later; none while there is none. */
  get cut(): ((point: Vector3) => boolean) | undefined {
    const { states } = this;
    return states.length > 0 ? (point) => states.some((state) => isCutAway(state, point)) : undefined;
  }

  #toggleAxis(axis: SectionAxis): void {
    const { bounds } = this.#context;
    const there = this.#cuts.find((cut) => cut.state.axis === axis);
    if (there) this.#remove(there);
    else if (bounds && this.#cuts.length < MAX_SECTIONS) this.#add(acrossAxis(axis, bounds));
  }

  #add(state: SectionState): void {
    const cut = this.#cutOf(state);
    this.#cuts = [...this.#cuts, cut];
    this.#changed();
    announce(`Section plane ${cut.title} added, ${this.#cuts.length} of at most ${MAX_SECTIONS}.`);
  }

  #remove(cut: Cut): void {
    const at = this.#cuts.indexOf(cut);
    const within = cut.row.contains(document.activeElement);
    cut.entity?.destroy();
    this.#cuts = this.#cuts.filter((other) => other !== cut);
    this.#changed();
    announce(`Section plane ${cut.title} removed.`);
    if (within) (this.#cuts[Math.min(at, this.#cuts.length - 1)]?.remove ?? this.#axes[0])?.focus();
  }

  #cutOf(state: SectionState): Cut {
    const icon = (name: "flip" | "close", id: string): HTMLButtonElement => {
      const button = h("button", { class: "small icon quiet", "data-testid": id });
      button.append(glyph(name));
      return button;
    };
    const cut: Cut = {
      state,
      title: "",
      entity: undefined,
      row: h("li", { "data-testid": "section-plane" }),
      label: h("span", { class: "plane-title" }),
      slider: h("input", { type: "range", min: 0, max: STEPS, "data-testid": "section-slider" }),
      value: h("output", { class: "numbers", "data-testid": "section-value" }),
      flip: icon("flip", "section-flip"),
      remove: icon("close", "section-remove-one"),
    };
    if (state.axis !== undefined) cut.label.classList.add(`axis-${AXIS_NAMES[state.axis]?.toLowerCase()}`);
    cut.row.append(cut.label, cut.slider, cut.value, cut.flip, cut.remove);
    cut.slider.addEventListener("input", () => {
      const { bounds } = this.#context;
      if (!bounds) return;
      cut.state = movedTo(cut.state, cut.slider.valueAsNumber / STEPS, bounds);
      this.#place(cut);
    });
    cut.flip.addEventListener("click", () => {
      cut.state = { ...cut.state, flipped: !cut.state.flipped };
      this.#place(cut);
      announce(`Section plane ${cut.title} cuts the ${cut.state.flipped ? "other" : "first"} side.`);
    });
    cut.remove.addEventListener("click", () => this.#remove(cut));
    return cut;
  }

  /** Planes came or went: names, the scene and the list anew. */
  #changed(): void {
    const titles = titlesOf(this.states);
    this.#cuts.forEach((cut, index) => {
      const title = titles[index] as string;
      cut.title = title;
      cut.label.textContent = title;
      cut.slider.setAttribute("aria-label", `Where plane ${title} is`);
      for (const [button, label] of [
        [cut.flip, `Cut the other side of plane ${title}`],
        [cut.remove, `Remove plane ${title}`],
      ] as const) {
        button.setAttribute("aria-label", label);
        button.title = label;
      }
      this.#place(cut);
    });
    this.#list.replaceChildren(...this.#cuts.map((cut) => cut.row));
    this.#show();
    this.#context.onChange();
  }

  #place(cut: Cut): void {
    const { scene, bounds, unit } = this.#context;
    if (!scene || !bounds) return;
    const { state } = cut;
    const name = `Section plane ${cut.title}`;
    const [position, rotation] = [positionOf(state, bounds), rotationOf(state)];
    const length = EDGE_PART * lengthOf(subtract(bounds.max, bounds.min));
    if (!cut.entity?.valid) cut.entity = scene.create(name, { position, rotation });
    if (cut.entity.name !== name) cut.entity.name = name;
    scene.setTransforms([cut.entity], { positions: [position], rotations: [rotation] });
    cut.entity.cutPlane = { normal: "x", fadeColor: EDGE_COLOR, fadeLength: length, capped: true };
    cut.slider.value = String(Math.round(partOf(state, bounds) * STEPS));
    const text = lengthText(state.offset - state.from, unit);
    cut.slider.setAttribute("aria-valuetext", text);
    cut.value.textContent = text;
    cut.flip.setAttribute("aria-pressed", String(state.flipped));
  }

  #show(): void {
    const full = this.#cuts.length >= MAX_SECTIONS;
    this.#axes.forEach((button, axis) => {
      const on = this.#cuts.some((cut) => cut.state.axis === axis);
      button.setAttribute("aria-pressed", String(on));
      button.disabled = full && !on;
    });
    this.#face.disabled = full;
    this.#face.setAttribute("aria-pressed", String(this.#picking !== undefined));
    this.#clear.disabled = this.#cuts.length === 0;
    this.#list.hidden = this.#cuts.length === 0;
    this.#hint.hidden = this.#cuts.length > 0 && this.#picking === undefined;
    this.#hint.textContent = this.#picking ? PICK_HINT : "Nothing is cut. Choose an axis, or a face of the model.";
  }
}
