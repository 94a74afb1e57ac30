/** The slider that takes the model apart and puts it together again, exactly as it was. */

import { type Bounds, type Entity, type Scene, toFarframeError } from "@farframe/client";
import { announce } from "../../shared/announce.ts";
import { h } from "../../shared/dom.ts";
import { explain } from "../../shared/messages.ts";
import { type Piece, piecesOf, plan } from "./explode.ts";
import { add, middleOf, scaled } from "./geometry.ts";

export interface ExplodeContext {
  readonly scene: Scene | undefined;
  readonly bounds: Bounds | undefined;
  /** What to take apart: the model's root, or what is selected. */
  readonly roots: readonly Entity[];
  /** The pieces lie elsewhere now. */
  onMoved(): void;
}

export class ExplodeTool {
  readonly element: HTMLElement;
  readonly #context: ExplodeContext;
  readonly #slider: HTMLInputElement;
  readonly #note = h("output", { class: "numbers", "data-testid": "explode-amount" }, "0 %");
  #pieces: readonly Piece[] = [];
  #planning: Promise<void> | undefined;
  #abort = new AbortController();

  constructor(context: ExplodeContext) {
    this.#context = context;
    this.#slider = h("input", {
      type: "range",
      min: 0,
      max: 100,
      value: 0,
      "aria-label": "How far apart",
      "data-testid": "explode-slider",
      input: () => void this.set(this.#slider.valueAsNumber / 100),
    });
    this.element = h(
      "div",
      { class: "tool-row" },
      h("span", { class: "hint" }, "Apart"),
      this.#slider,
      this.#note,
      h(
        "button",
        {
          class: "small",
          "data-testid": "explode-reset",
          click: () => void this.set(0).then(() => announce("Put together.")),
        },
        "Reset",
      ),
    );
  }

  /** How far apart, 0 to 1. */
  get amount(): number {
    return this.#slider.valueAsNumber / 100;
  }

  /** Moves the pieces apart by `amount`, 0 to 1. Never rejects: what fails is said at the slider. */
  async set(amount: number): Promise<void> {
    this.#slider.value = String(Math.round(amount * 100));
    this.#note.textContent = `${Math.round(amount * 100)} %`;
    if (this.#pieces.length === 0 && amount === 0 && !this.#planning) return;
    this.#planning ??= this.#plan();
    const planning = this.#planning;
    try {
      await planning;
      if (this.#planning === planning) this.#move();
    } catch (thrown) {
      // What was given up meanwhile says nothing about what was begun since.
      if (this.#planning !== planning) return;
      this.forget();
      const error = toFarframeError(thrown, "Taking it apart");
      if (error.result !== "Cancelled") this.#note.textContent = explain(error).title;
    }
  }

  /** Puts the pieces back at once and forgets them: the scene is about to be another. */
  reset(): void {
    this.#slider.value = "0";
    this.#move();
    this.forget();
  }

  /** Forgets where the pieces were: the scene has changed. */
  forget(): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#pieces = [];
    this.#planning = undefined;
    this.#slider.value = "0";
    this.#note.textContent = "0 %";
  }

  async #plan(): Promise<void> {
    const { bounds, roots } = this.#context;
    if (!bounds) return;
    const entities = roots.flatMap((root) => piecesOf(root));
    const { signal } = this.#abort;
    const pieces = await plan(entities, middleOf(bounds), signal);
    signal.throwIfAborted();
    this.#pieces = pieces;
    if (this.#pieces.length === 0) this.#note.textContent = "This model cannot be taken apart";
  }

  #move(): void {
    const scene = this.#context.scene;
    const amount = this.amount;
    const pieces = this.#pieces.filter((piece) => piece.entity.valid);
    if (!scene || pieces.length === 0) return;
    scene.setTransforms(
      pieces.map((piece) => piece.entity),
      {
        positions: pieces.map((piece) =>
          amount === 0 ? piece.position : add(piece.position, scaled(piece.away, amount)),
        ),
      },
      { streaming: true },
    );
    // Put together, the next time begins with where things are then: a person may have moved them.
    if (amount === 0) {
      this.#pieces = [];
      this.#planning = undefined;
    }
    this.#context.onMoved();
  }
}
