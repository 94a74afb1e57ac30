/** What was set and not sent yet: many changes of one thing become one command, things that changed alike share one. */

import {
  ENTITIES_PER_RECORD,
  encodeTransforms,
  HAS_POSITION,
  HAS_ROTATION,
  HAS_SCALE,
  packFloats,
  packIds,
} from "../scene_codec.ts";
import type { CutPlaneHandle, CutPlaneValues } from "./cut_planes.ts";
import type { Entity, SubPart } from "./entity.ts";
import { type LightHandle, type LightValues, lightToWire } from "./lights.ts";
import { type MaterialHandle, type MaterialValues, materialToWire } from "./materials.ts";
import type { Command } from "./outbox.ts";
import { overridesKey, overridesToWire } from "./overrides.ts";

/** Entities and sub-parts of one command: it takes about 100 KB. */
const TRANSFORMS_PER_COMMAND = 1500;
const IDS_PER_COMMAND = 12_000;
const SUB_PARTS_PER_COMMAND = 6000;

export class Pending {
  /** What makes and takes, in order. */
  readonly structure: Command[] = [];
  /** What must come after everything else: textures go when nothing needs them any more. */
  readonly last: Command[] = [];
  readonly switched = new Set<Entity>();
  readonly restyled = new Set<Entity>();
  readonly dressed = new Set<SubPart>();
  readonly materials = new Map<MaterialHandle, Set<keyof MaterialValues>>();
  readonly lights = new Map<LightHandle, Set<keyof LightValues>>();
  readonly cutPlanes = new Map<CutPlaneHandle, Set<keyof CutPlaneValues>>();
  #effects: Record<string, unknown> | undefined;
  readonly #moved = new Map<Entity, number>();
  readonly #streamed = new Map<Entity, number>();

  /** Whether something is made or taken. */
  get structural(): boolean {
    return this.structure.length > 0;
  }

  moved(entity: Entity, bits: number): void {
    this.#moved.set(entity, (this.#moved.get(entity) ?? 0) | bits);
  }

  streamed(entity: Entity, bits: number): void {
    this.#streamed.set(entity, (this.#streamed.get(entity) ?? 0) | bits);
  }

  /** What was streamed has to be sent in a way that does not lose it. */
  makeSure(): void {
    for (const [entity, bits] of this.#streamed) this.moved(entity, bits);
    this.#streamed.clear();
  }

  effects(changes: Record<string, unknown>): void {
    this.#effects ??= {};
    for (const [name, value] of Object.entries(changes)) {
      const before = this.#effects[name];
      const nested = typeof value === "object" && value !== null && typeof before === "object" && before !== null;
      this.#effects[name] = nested ? { ...before, ...value } : value;
    }
  }

  /** An entity is gone: nothing of it need be sent any more, but what makes or takes. */
  forget(entity: Entity): void {
    this.#moved.delete(entity);
    this.#streamed.delete(entity);
    this.switched.delete(entity);
    this.restyled.delete(entity);
    for (const part of entity.subParts) this.dressed.delete(part);
    for (const light of entity.state.lights.values()) this.lights.delete(light);
    if (entity.state.cutPlane) this.cutPlanes.delete(entity.state.cutPlane);
  }

  /** Nothing of all this need be sent any more. */
  clear(): void {
    this.structure.length = this.last.length = 0;
    for (const each of [this.switched, this.restyled, this.dressed]) each.clear();
    for (const each of [this.materials, this.lights, this.cutPlanes, this.#moved, this.#streamed]) each.clear();
    this.#effects = undefined;
  }

  /** All of it as commands, in an order that holds; nothing is pending any more. */
  take(): Command[] {
    const commands: Command[] = this.structure.splice(0);
    for (const [material, names] of this.materials) {
      commands.push({ op: "setMaterial", id: material.id, set: materialToWire(material.values, names) });
    }
    for (const enabled of [true, false]) {
      const ids = [...this.switched].filter((entity) => entity.enabled === enabled).map((entity) => entity.id);
      for (const part of pieces(ids, IDS_PER_COMMAND)) {
        commands.push({ op: "setEnabled", enabled, ids: packIds(part) });
      }
    }
    for (const command of this.#transforms()) commands.push(command);
    for (const command of this.#states()) commands.push(command);
    for (const command of this.#dresses()) commands.push(command);
    for (const [light, names] of this.lights) {
      const { kind, entity } = light;
      commands.push({ op: "setLight", id: entity.id, kind, set: lightToWire(light.values, names) });
    }
    for (const [plane, names] of this.cutPlanes) {
      const set = Object.fromEntries([...names].map((name) => [name, plane.values[name]]));
      commands.push({ op: "setCutPlane", id: plane.entity.id, set });
    }
    if (this.#effects) commands.push({ op: "setEffects", set: this.#effects });
    commands.push(...this.last.splice(0));
    this.switched.clear();
    for (const each of [this.materials, this.lights, this.cutPlanes]) each.clear();
    this.#effects = undefined;
    return commands;
  }

  #transforms(): Command[] {
    const byBits = new Map<number, Entity[]>();
    for (const [entity, bits] of this.#moved) {
      const others = byBits.get(bits);
      if (others) others.push(entity);
      else byBits.set(bits, [entity]);
    }
    this.#moved.clear();
    const commands: Command[] = [];
    const column = (part: readonly Entity[], name: "position" | "rotation" | "scale"): string =>
      packFloats(
        part.map((entity) => entity[name]),
        name === "position",
      );
    for (const [bits, entities] of byBits) {
      for (const part of pieces(entities, TRANSFORMS_PER_COMMAND)) {
        commands.push({
          op: "setTransforms",
          ids: packIds(part.map((entity) => entity.id)),
          ...(bits & HAS_POSITION && { positions: column(part, "position") }),
          ...(bits & HAS_ROTATION && { rotations: column(part, "rotation") }),
          ...(bits & HAS_SCALE && { scales: column(part, "scale") }),
        });
      }
    }
    return commands;
  }

  #states(): Command[] {
    const alike = new Map<string, Entity[]>();
    for (const entity of this.restyled) {
      const key = overridesKey(entity.overrides);
      const others = alike.get(key);
      if (others) others.push(entity);
      else alike.set(key, [entity]);
    }
    this.restyled.clear();
    const commands: Command[] = [];
    for (const entities of alike.values()) {
      const states = overridesToWire((entities[0] as Entity).overrides);
      for (const part of pieces(entities, IDS_PER_COMMAND)) {
        commands.push({ op: "setStates", ids: packIds(part.map((entity) => entity.id)), ...states });
      }
    }
    return commands;
  }

  #dresses(): Command[] {
    const commands: Command[] = [];
    for (const part of pieces([...this.dressed], SUB_PARTS_PER_COMMAND)) {
      commands.push({
        op: "overrideMaterials",
        ids: packIds(part.map(({ entity }) => entity.id)),
        subParts: packIds(part.map(({ index }) => index)),
        materials: packIds(part.map(({ override }) => override?.id ?? 0)),
      });
    }
    this.dressed.clear();
    return commands;
  }
}

/** Transforms as records that may be lost. */
export function transformRecords(sequence: number, entities: readonly Entity[], bits: number): ArrayBuffer[] {
  return pieces(entities, ENTITIES_PER_RECORD).map((part) => encodeTransforms(sequence, part, bits));
}

function pieces<T>(items: readonly T[], size: number): T[][] {
  const found: T[][] = [];
  for (let start = 0; start < items.length; start += size) found.push(items.slice(start, start + size));
  return found;
}
