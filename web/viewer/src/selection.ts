/** What is selected: in the tree, in the picture (outlined), in the properties. */

import { Emitter, type Entity, type Overrides } from "@farframe/client";

export interface SelectionEvents {
  /** Other entities are selected now. */
  change: readonly Entity[];
}

export class Selection extends Emitter<SelectionEvents> {
  readonly #override: (entities: readonly Entity[], changes: Overrides) => void;
  #entities = new Set<Entity>();

  /** `override` marks entities in the scene. */
  constructor(override: (entities: readonly Entity[], changes: Overrides) => void) {
    super();
    this.#override = override;
  }

  /** In the order in which they were selected. */
  get entities(): readonly Entity[] {
    return [...this.#entities];
  }

  /** The one selected last. */
  get last(): Entity | undefined {
    return [...this.#entities].at(-1);
  }

  get size(): number {
    return this.#entities.size;
  }

  has(entity: Entity): boolean {
    return this.#entities.has(entity);
  }

  /** Selects these and nothing else. */
  set(entities: Iterable<Entity>): void {
    const wanted = new Set(entities);
    const gone = [...this.#entities].filter((entity) => entity.valid && !wanted.has(entity));
    const come = [...wanted].filter((entity) => !this.#entities.has(entity));
    const same = gone.length === 0 && come.length === 0 && wanted.size === this.#entities.size;
    this.#entities = wanted;
    if (same) return;
    if (gone.length > 0) this.#override(gone, { selected: undefined });
    if (come.length > 0) this.#override(come, { selected: true });
    this.emit("change", this.entities);
  }

  /** Adds one, or takes it out. */
  toggle(entity: Entity): void {
    this.set(this.has(entity) ? this.entities.filter((other) => other !== entity) : [...this.entities, entity]);
  }

  clear(): void {
    this.set([]);
  }

  /** Lets go of what is no longer in the scene. */
  prune(): void {
    this.set(this.entities.filter((entity) => entity.valid));
  }
}
