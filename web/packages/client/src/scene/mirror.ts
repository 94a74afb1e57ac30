/** How a scene takes over what the server holds: a model that was loaded, or everything. */

import { FarframeError } from "../errors.ts";
import type { LoadedModel } from "../messages.ts";
import { decodeEntities, decodeSubParts, type EntityRow, IS_DISABLED, type SubPartRow } from "../scene_codec.ts";
import { Entity, MeshPart, SubPart } from "./entity.ts";
import { type Holdings, newState } from "./holdings.ts";
import {
  FIRST_MODEL_MATERIAL,
  type Material,
  MaterialHandle,
  type MaterialHome,
  type MaterialKind,
  materialFromWire,
} from "./materials.ts";
import { overridesFromWire } from "./overrides.ts";
import type { Scene } from "./scene.ts";

export const LAST_ID = 2 ** 32 - 1;

interface Packed {
  readonly count: number;
  readonly data: string;
}

interface MaterialInfo {
  readonly id: number;
  readonly kind: MaterialKind;
  readonly values: Readonly<Record<string, unknown>>;
}

export class Mirror {
  readonly #scene: Scene;
  readonly #holdings: Holdings;
  readonly #home: MaterialHome;
  readonly #ask: (method: string, params: object) => Promise<unknown>;

  /** `ask` asks the server, after all that was set so far. */
  constructor(
    scene: Scene,
    holdings: Holdings,
    home: MaterialHome,
    ask: (method: string, params: object) => Promise<unknown>,
  ) {
    this.#scene = scene;
    this.#holdings = holdings;
    this.#home = home;
    this.#ask = ask;
  }

  /** Makes local entities, and what they are made of, of those at the server that have ids in a range. */
  async take(
    first: number,
    last: number,
    models: readonly LoadedModel[],
    stillWanted: () => void = () => undefined,
  ): Promise<void> {
    const rows: EntityRow[] = [];
    await this.pages("scene.getEntities", { first, last }, async (page: Packed) => {
      rows.push(...(await decodeEntities(page.count, page.data)));
    });
    const parts: SubPartRow[] = [];
    await this.pages("scene.getSubParts", { first, last }, async (page: Packed) => {
      for (const row of await decodeSubParts(page.count, page.data)) parts.push(row);
    });
    const whole = last === LAST_ID;
    let [least, greatest] = whole ? [1, LAST_ID] : [LAST_ID, 0];
    if (!whole) {
      for (const { material } of parts) {
        if (material < FIRST_MODEL_MATERIAL || this.#holdings.materials.has(material)) continue;
        least = Math.min(least, material);
        greatest = Math.max(greatest, material);
      }
    }
    const infos: MaterialInfo[] = [];
    if (least <= greatest) {
      await this.pages(
        "scene.getMaterials",
        { first: least, last: greatest },
        (page: { materials: MaterialInfo[] }) => {
          infos.push(...page.materials);
        },
      );
    }
    // Everything is there: from here on nothing waits, so that nobody sees half of it.
    stillWanted();
    if (!whole && !rows.some(({ id }) => id === first)) {
      throw new FarframeError("ProtocolError", "The server did not tell the model's root.");
    }
    for (const { id, kind, values } of infos) {
      if (this.#holdings.materials.has(id)) continue;
      const known = materialFromWire(values, (texture) => this.#holdings.textures.get(texture));
      const material = new MaterialHandle(this.#home, id, kind, known) as Material;
      this.#holdings.materials.set(id, material);
    }
    const made = rows.map((row) => {
      const { name, position: place, rotation: turn, scale: size, flags } = row;
      const state = newState({ name, position: place, rotation: turn, scale: size, flags });
      state.enabled = (flags & IS_DISABLED) === 0;
      state.overrides = overridesFromWire(row);
      const entity = new Entity(this.#scene, row.id, state);
      this.#holdings.entities.set(row.id, entity);
      return entity;
    });
    made.forEach((entity, index) => {
      entity.state.parent = this.#holdings.entities.get(rows[index]?.parent ?? 0);
      (entity.state.parent?.state.children ?? this.#holdings.roots).add(entity);
    });
    for (const model of models) {
      this.#holdings.models.set(model.rootEntity, model);
      const { entityCount: entities, rootEntity } = model;
      this.#holdings.belongings.set(rootEntity, { entities, materials: new Set(), meshes: new Set() });
    }
    this.#assemble(parts, models);
  }

  /** Gives entities their sub-parts, and models what came with them. */
  #assemble(rows: readonly SubPartRow[], models: readonly LoadedModel[]): void {
    const byEntity = new Map<number, SubPart[]>();
    for (const row of rows) {
      const entity = this.#holdings.entities.get(row.entity);
      if (!entity) continue;
      let mesh = this.#holdings.meshes.get(row.part);
      if (!mesh) {
        mesh = new MeshPart(this.#holdings.materials.get(row.material), this.#holdings.materials.get(row.replaced));
        this.#holdings.meshes.set(row.part, mesh);
      }
      const parts = byEntity.get(row.entity) ?? [];
      byEntity.set(row.entity, parts);
      parts.push(new SubPart(this.#scene, entity, parts.length, mesh, this.#holdings.materials.get(row.override)));
      const model = models.find(
        ({ rootEntity, entityCount }) => row.entity >= rootEntity && row.entity < rootEntity + entityCount,
      );
      const belongings = model && this.#holdings.belongings.get(model.rootEntity);
      belongings?.meshes.add(row.part);
      if (row.material >= FIRST_MODEL_MATERIAL) belongings?.materials.add(row.material);
    }
    for (const [id, parts] of byEntity) {
      const entity = this.#holdings.entities.get(id);
      if (entity) entity.state.subParts = parts;
    }
  }

  /** Asks for one page after the other; a server that does not know the method has none. */
  async pages<P extends object>(
    method: string,
    params: object,
    take: (page: P) => void | Promise<void>,
  ): Promise<void> {
    let at = (params as { first?: number }).first ?? 1;
    let skip = 0;
    while (at) {
      const page = await this.askIfKnown<P & { next?: number; skip?: number }>(method, {
        ...params,
        first: at,
        ...(skip > 0 && { skip }),
      });
      if (!page) return;
      await take(page);
      const next = page.next ?? 0;
      // What one entity is made of may take several pages.
      const goesOn = next > at || (next === at && (page.skip ?? 0) > skip);
      if (next && !goesOn) throw new FarframeError("ProtocolError", `The server's pages of ${method} do not go on.`);
      at = next;
      skip = page.skip ?? 0;
    }
  }

  /** As the question itself; undefined from an older server that does not know the method. */
  async askIfKnown<R>(method: string, params: object): Promise<R | undefined> {
    try {
      return (await this.#ask(method, params)) as R;
    } catch (error) {
      if (error instanceof FarframeError && error.result === "NotSupported") return undefined;
      throw error;
    }
  }
}
