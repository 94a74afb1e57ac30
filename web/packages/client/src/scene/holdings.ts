/** What a scene holds, by id, and what goes along with what. Here nobody is asked or told anything. */

import type { LoadedModel } from "../messages.ts";
import type { Entity, EntityState, MeshPart } from "./entity.ts";
import type { Material, Texture } from "./materials.ts";
import type { Pending } from "./pending.ts";

export class Holdings {
  readonly entities = new Map<number, Entity>();
  /** The entities without a parent, oldest first. */
  readonly roots = new Set<Entity>();
  /** By their roots. */
  readonly models = new Map<number, LoadedModel>();
  readonly materials = new Map<number, Material>();
  readonly textures = new Map<number, Texture>();
  readonly meshes = new Map<number, MeshPart>();
  /** By a model's root, what came with it. */
  readonly belongings = new Map<number, { entities: number; materials: Set<number>; meshes: Set<number> }>();
  readonly #pending: Pending;

  /** Of what is gone nothing is left in `pending`, either. */
  constructor(pending: Pending) {
    this.#pending = pending;
  }

  /** Takes an entity in; its state says what it hangs below. */
  add(entity: Entity): void {
    this.entities.set(entity.id, entity);
    (entity.state.parent?.state.children ?? this.roots).add(entity);
  }

  /** Hangs an entity below another one, or below nothing. */
  hang(entity: Entity, parent: Entity | undefined): void {
    (entity.state.parent?.state.children ?? this.roots).delete(entity);
    entity.state.parent = parent;
    (parent?.state.children ?? this.roots).add(entity);
  }

  /** Lets entities go with all below them, and models with all that came with them. */
  drop(tops: readonly Entity[]): void {
    for (const top of tops) {
      (top.state.parent?.state.children ?? this.roots).delete(top);
      for (const entity of [...top.descendants()]) {
        entity.state.alive = false;
        this.entities.delete(entity.id);
        this.#pending.forget(entity);
        if (this.models.delete(entity.id)) this.#dropBelongings(entity.id);
      }
    }
  }

  /** A model is gone: so are its materials, and what was drawn at parts of it that hang elsewhere now. */
  #dropBelongings(root: number): void {
    const gone = this.belongings.get(root);
    this.belongings.delete(root);
    if (!gone) return;
    for (const id of gone.materials) {
      const material = this.materials.get(id);
      material?.forget();
      if (material) this.#pending.materials.delete(material);
      this.materials.delete(id);
    }
    for (const id of gone.meshes) this.meshes.delete(id);
    for (let id = root; id < root + gone.entities; id++) {
      const entity = this.entities.get(id);
      if (!entity) continue;
      for (const part of entity.subParts) this.#pending.dressed.delete(part);
      entity.state.subParts = [];
    }
  }

  /** Lets everything go. */
  clear(): void {
    this.drop([...this.roots]);
    for (const material of this.materials.values()) material.forget();
    for (const texture of this.textures.values()) texture.forget();
    for (const known of [this.models, this.materials, this.textures, this.meshes, this.belongings]) known.clear();
  }
}

/** The state of an entity that is new here. */
export function newState(
  given: Pick<EntityState, "name" | "position" | "rotation" | "scale"> & {
    parent?: Entity | undefined;
    enabled?: boolean;
    flags?: number;
  },
): EntityState {
  return {
    name: given.name,
    parent: given.parent,
    children: new Set(),
    position: given.position,
    rotation: given.rotation,
    scale: given.scale,
    enabled: given.enabled ?? true,
    overrides: {},
    flags: given.flags ?? 0,
    alive: true,
    subParts: [],
    lights: new Map(),
    cutPlane: undefined,
  };
}
