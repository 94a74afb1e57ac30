/**
 * What is shown: hide, show, isolate. All of it is overrides of the scene, so that what is hidden stays hidden on the
 * server at no cost; the nearest override wins, which is what makes isolating two commands for any number of parts.
 */

import type { Entity, Overrides } from "@farframe/client";

/** Hidden parts are no longer hit by rays either: a person clicks on what is seen. */
const HIDDEN: Overrides = { hidden: true, disableCollision: true };
const SHOWN: Overrides = { hidden: false, disableCollision: false };
const INHERITED: Overrides = { hidden: undefined, disableCollision: undefined };

/** What visibility needs of a scene. */
export interface Stage {
  readonly roots: readonly Entity[];
  override(entities: readonly Entity[], changes: Overrides): void;
}

/** Whether an entity is hidden, by itself or from above. */
export function isHidden(entity: Entity | undefined): boolean {
  for (let above = entity; above; above = above.parent) {
    const { hidden } = above.overrides;
    if (hidden !== undefined) return hidden;
  }
  return false;
}

/** Those among them that are below no other of them. */
export function topmost(entities: Iterable<Entity>): Entity[] {
  const all = new Set(entities);
  return [...all].filter((entity) => {
    for (let above = entity.parent; above; above = above.parent) if (all.has(above)) return false;
    return true;
  });
}

export class Visibility {
  readonly #stage: Stage;
  /** Whatever was forced to hide or to show here. */
  readonly #touched = new Set<Entity>();

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  /** Whether anything differs from how the model came. */
  get changed(): boolean {
    for (const entity of this.#touched) if (entity.valid) return true;
    return false;
  }

  hide(entities: Iterable<Entity>): void {
    this.#force([...entities], HIDDEN);
  }

  /** Shows them, whatever is above; what was hidden below on its own account stays so. */
  show(entities: Iterable<Entity>): void {
    const all = [...entities];
    this.#force(all, INHERITED);
    this.#force(
      all.filter((entity) => isHidden(entity)),
      SHOWN,
    );
  }

  toggle(entity: Entity): void {
    if (isHidden(entity)) this.show([entity]);
    else this.hide([entity]);
  }

  /** Hides everything but these and what is below them. */
  isolate(entities: Iterable<Entity>): void {
    const kept = topmost(entities);
    this.showAll();
    this.#force(this.#stage.roots, HIDDEN);
    this.#force(kept, SHOWN);
  }

  showAll(): void {
    const touched = [...this.#touched].filter((entity) => entity.valid);
    if (touched.length > 0) this.#stage.override(touched, INHERITED);
    this.#touched.clear();
  }

  /** What is forced, by the places of the entities after `first`, to be kept with a view. */
  forced(first: number): { hidden: number[]; shown: number[] } {
    const places = (hidden: boolean): number[] =>
      [...this.#touched]
        .filter((entity) => entity.valid && entity.id >= first && entity.overrides.hidden === hidden)
        .map((entity) => entity.id - first);
    return { hidden: places(true), shown: places(false) };
  }

  /** Forces anew, as {@link forced} told. */
  restore(hidden: readonly Entity[], shown: readonly Entity[]): void {
    this.showAll();
    this.#force(hidden, HIDDEN);
    this.#force(shown, SHOWN);
  }

  #force(entities: readonly Entity[], states: Overrides): void {
    if (entities.length === 0) return;
    this.#stage.override(entities, states);
    for (const entity of entities) {
      if (states === INHERITED) this.#touched.delete(entity);
      else this.#touched.add(entity);
    }
  }
}
