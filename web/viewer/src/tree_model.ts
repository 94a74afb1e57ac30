/**
 * The rows of the scene's tree, without a page: which entities are to be seen, in order. A tree of 50,000 entities, all
 * opened, is one pass over them; a search goes in slices, so that the page stays responsive.
 */

import type { Entity } from "@farframe/client";

export interface Row {
  readonly entity: Entity;
  /** From 1. */
  readonly level: number;
  /** Its place among its siblings, from 1, and how many they are. */
  readonly position: number;
  readonly siblings: number;
  readonly expandable: boolean;
  readonly expanded: boolean;
}

const SLICE_MILLISECONDS = 5;
const ENTITIES_PER_LOOK_AT_THE_CLOCK = 256;

/** What a person reads for an entity. */
export function titleOf(entity: Entity): string {
  if (entity.name) return entity.name;
  if (entity.model?.name) return entity.model.name;
  return entity.isPointCloud ? "Points" : entity.hasMesh ? "Part" : "Group";
}

export class TreeModel {
  readonly #roots: () => readonly Entity[];
  readonly #expanded = new Set<Entity>();
  /** With a search: those found, and all above them. */
  #found: ReadonlySet<Entity> | undefined;
  #hits: ReadonlySet<Entity> = new Set();
  #rows: readonly Row[] = [];
  #indices: Map<Entity, number> | undefined;

  constructor(roots: () => readonly Entity[]) {
    this.#roots = roots;
  }

  get rows(): readonly Row[] {
    return this.#rows;
  }

  /** What the search found; empty without one. */
  get hits(): ReadonlySet<Entity> {
    return this.#hits;
  }

  get searching(): boolean {
    return this.#found !== undefined;
  }

  /** Makes the rows anew: after the scene, the search or what is open has changed. */
  rebuild(): void {
    const rows: Row[] = [];
    const shown = (entities: readonly Entity[]): readonly Entity[] =>
      this.#found ? entities.filter((entity) => this.#found?.has(entity)) : entities;
    const waiting: { siblings: readonly Entity[]; at: number }[] = [{ siblings: shown(this.#roots()), at: 0 }];
    for (let list = waiting.at(-1); list; list = waiting.at(-1)) {
      const entity = list.siblings[list.at++];
      if (!entity) {
        waiting.pop();
        continue;
      }
      const children = shown(entity.children);
      // What a search shows is open down to what it found; below that a person opens what they like.
      const expanded =
        children.length > 0 && (this.#expanded.has(entity) || (this.#found !== undefined && !this.#closed.has(entity)));
      rows.push({
        entity,
        level: waiting.length,
        position: list.at,
        siblings: list.siblings.length,
        expandable: children.length > 0,
        expanded,
      });
      if (expanded) waiting.push({ siblings: children, at: 0 });
    }
    this.#rows = rows;
    this.#indices = undefined;
  }

  /** What a person closed while they searched. */
  readonly #closed = new Set<Entity>();

  /** The row of an entity, or -1 where it is not shown. */
  indexOf(entity: Entity | undefined): number {
    if (!entity) return -1;
    this.#indices ??= new Map(this.#rows.map((row, index) => [row.entity, index]));
    return this.#indices.get(entity) ?? -1;
  }

  setExpanded(entity: Entity, expanded: boolean): void {
    if (expanded) {
      this.#expanded.add(entity);
      this.#closed.delete(entity);
    } else {
      this.#expanded.delete(entity);
      this.#closed.add(entity);
    }
    this.rebuild();
  }

  /** Opens all with children among the siblings of an entity. */
  expandSiblings(entity: Entity): void {
    for (const sibling of entity.parent?.children ?? this.#roots()) {
      if (sibling.children.length > 0) this.#expanded.add(sibling);
    }
    this.rebuild();
  }

  /** Opens what is above an entity. */
  reveal(entity: Entity): void {
    for (let above = entity.parent; above; above = above.parent) {
      this.#expanded.add(above);
      this.#closed.delete(above);
    }
    this.rebuild();
  }

  /** Opens a new model down to where it branches, so that its groups are seen at once. */
  open(root: Entity): void {
    let entity: Entity | undefined = root;
    while (entity) {
      this.#expanded.add(entity);
      const children: readonly Entity[] = entity.children;
      entity = children.length === 1 ? children[0] : undefined;
    }
    this.rebuild();
  }

  /** Forgets entities that are gone. */
  prune(): void {
    for (const set of [this.#expanded, this.#closed]) {
      for (const entity of set) if (!entity.valid) set.delete(entity);
    }
    this.rebuild();
  }

  /**
   * Shows only what has all words of `text` in its name, with what is above it; an empty text shows all. Resolves with
   * false when `signal` ended it.
   */
  async search(text: string, signal: AbortSignal, pause: () => Promise<void> = nextTask): Promise<boolean> {
    const words = text.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) {
      this.#found = undefined;
      this.#hits = new Set();
      this.#closed.clear();
      this.rebuild();
      return true;
    }
    const hits = new Set<Entity>();
    const found = new Set<Entity>();
    let began = performance.now();
    let count = 0;
    for (const root of this.#roots()) {
      for (const entity of root.descendants()) {
        const title = titleOf(entity).toLocaleLowerCase();
        if (words.every((word) => title.includes(word))) {
          hits.add(entity);
          for (let above: Entity | undefined = entity; above && !found.has(above); above = above.parent) {
            found.add(above);
          }
        }
        if (++count % ENTITIES_PER_LOOK_AT_THE_CLOCK > 0 || performance.now() - began < SLICE_MILLISECONDS) continue;
        await pause();
        if (signal.aborted) return false;
        began = performance.now();
      }
    }
    if (signal.aborted) return false;
    this.#hits = hits;
    this.#found = found;
    this.#closed.clear();
    this.rebuild();
    return true;
  }
}

function nextTask(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
