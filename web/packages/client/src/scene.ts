/**
 * The scene of a connection, as the device holds it.
 *
 *     const root = await connection.scene.loadModel("builtin://Engine");
 *     root.position = [0, 1, 0];                        // there at once, sent with the next turn
 *     await connection.scene.batch(() => {              // sent together, seen in one frame, refusals reject
 *       root.children[0]?.override({ hidden: true });
 *     });
 *
 * Everything set within one turn goes out as one batch. The server takes batches in order and never answers back with
 * state of its own. `docs/scene.md` tells what each thing means.
 */

import { FarframeError, isResult, type Result } from "./errors.ts";
import { Emitter } from "./events.ts";
import type { Bounds, LoadedModel, LoadProgress } from "./messages.ts";
import type { Quaternion, Vector3 } from "./records.ts";
import {
  decodeEntities,
  ENTITIES_PER_RECORD,
  type EntityRow,
  encodeTransforms,
  HAS_POSITION,
  HAS_ROTATION,
  HAS_SCALE,
  IS_CLOUD,
  IS_DISABLED,
  IS_MESH,
  IS_STATIC,
  packFloats,
  packIds,
} from "./scene_codec.ts";

/** Linear RGB, and how much of it is seen, each 0 to 1. */
export type Tint = readonly [red: number, green: number, blue: number, weight: number];

/**
 * What an entity forces upon itself and all below it: `true` or `false`; absent: it inherits. The nearest force on the
 * way up to the root wins, for each state on its own.
 */
export interface Overrides {
  /** Not drawn, but still hit by rays. */
  readonly hidden?: boolean | undefined;
  readonly selected?: boolean | undefined;
  readonly seeThrough?: boolean | undefined;
  /** `false`: no tint. */
  readonly tint?: Tint | false | undefined;
  /** Not hit by rays. */
  readonly disableCollision?: boolean | undefined;
  /** 0 to 255; `false`: all planes. */
  readonly cutPlaneMask?: number | false | undefined;
  readonly shell?: boolean | undefined;
  readonly transparencyWritesDepth?: boolean | undefined;
}

const STATES: Readonly<Record<keyof Overrides, number>> = {
  hidden: 1,
  selected: 2,
  seeThrough: 4,
  tint: 8,
  disableCollision: 16,
  cutPlaneMask: 64,
  shell: 128,
  transparencyWritesDepth: 256,
};
const ALL_STATES = Object.values(STATES).reduce((all, bit) => all | bit, 0);
const STATE_NAMES = Object.keys(STATES) as (keyof Overrides)[];

/** New transforms for entities, relative to their parents: an array each, as long as there are entities. */
export interface Transforms {
  readonly positions?: readonly Vector3[];
  readonly rotations?: readonly Quaternion[];
  readonly scales?: readonly Vector3[];
}

/** A command that the server refused. */
export interface SceneFailure {
  readonly result: Result;
  readonly message: string;
}

/** Where a ray met something. World space, metres; `subPart`: which of the entity's parts. */
export interface RayHit {
  readonly entity: Entity;
  readonly subPart: number;
  readonly position: Vector3;
  /** Unit, of the surface. */
  readonly normal: Vector3;
  readonly distance: number;
  readonly kind: "front" | "back" | "point";
}

export interface RayHits {
  readonly hits: readonly RayHit[];
  /** Whether all geometry could be looked at in time. */
  readonly complete: boolean;
}

export interface RayOptions {
  /** All by distance (default), the nearest, or any one. */
  policy?: "closestHits" | "closestHit" | "anyHit";
  /** At most; 0, the default, stands for 1,024. */
  maxHits?: number;
}

export interface CreateOptions {
  readonly parent?: Entity | undefined;
  readonly position?: Vector3;
  readonly rotation?: Quaternion;
  readonly scale?: Vector3;
  readonly enabled?: boolean;
}

export interface SceneLoadOptions {
  parent?: Entity;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

export interface SceneEvents {
  /** The server refused a command. */
  failure: SceneFailure;
}

/** What a scene needs of its connection. */
export interface SceneLink {
  request(method: string, params: object): Promise<unknown>;
  sendRecord(bytes: ArrayBuffer): void;
  load(uri: string, parent: number, options: SceneLoadOptions): Promise<LoadedModel>;
}

const MAX_NAME_CHARACTERS = 1024;
const FIRST_MODEL_ID = 2 ** 31;
const COMMANDS_PER_MESSAGE = 1000;
const ENTITIES_PER_COMMAND = 1500;
const MAX_IN_FLIGHT = 16;
/** After so long without anything new, what was streamed is made sure of. */
const REST_MILLISECONDS = 150;
const MAX_COORDINATE = 1e15;
const DONE_BEFORE: ReadonlySet<Result> = new Set<Result>([
  "AlreadyExists",
  "InvalidId",
  "InvalidParentId",
  "CyclicReference",
]);

/** A named transform in the scene, with all that hangs below it. Made by {@link Scene}. */
export class Entity {
  readonly id: number;
  readonly #scene: Scene;
  /** @internal */
  readonly state: EntityState;

  /** @internal */
  constructor(scene: Scene, id: number, state: EntityState) {
    this.id = id;
    this.#scene = scene;
    this.state = state;
  }

  /** For people and for {@link Scene.find}; any number of entities may have the same. */
  get name(): string {
    return this.state.name;
  }

  set name(value: string) {
    this.#scene.rename(this, value);
  }

  /** What it hangs below. Setting it keeps the local transform. Throws CyclicReference, ObjectStatic, InvalidId. */
  get parent(): Entity | undefined {
    return this.state.parent;
  }

  set parent(value: Entity | undefined) {
    this.#scene.reparent(this, value);
  }

  get children(): readonly Entity[] {
    return [...this.state.children];
  }

  /** Metres, relative to the parent. */
  get position(): Vector3 {
    return this.state.position;
  }

  set position(value: Vector3) {
    this.#scene.setTransforms([this], { positions: [value] });
  }

  /** A quaternion x, y, z, w, relative to the parent; any length but zero may be set. */
  get rotation(): Quaternion {
    return this.state.rotation;
  }

  set rotation(value: Quaternion) {
    this.#scene.setTransforms([this], { rotations: [value] });
  }

  get scale(): Vector3 {
    return this.state.scale;
  }

  set scale(value: Vector3) {
    this.#scene.setTransforms([this], { scales: [value] });
  }

  /** Whether it and all below it are drawn and hit by rays; beats every override. */
  get enabled(): boolean {
    return this.state.enabled;
  }

  set enabled(value: boolean) {
    this.#scene.enable(this, value);
  }

  /** What it forces upon itself and all below it. */
  get overrides(): Overrides {
    return this.state.overrides;
  }

  /** Forces states upon it and all below; `undefined` lets one inherit again, what is not named stays. */
  override(changes: Overrides): void {
    this.#scene.override([this], changes);
  }

  /** Whether it has not been destroyed. */
  get valid(): boolean {
    return this.state.alive;
  }

  /** Whether a model draws something at it. */
  get hasMesh(): boolean {
    return (this.state.flags & IS_MESH) !== 0;
  }

  get isPointCloud(): boolean {
    return (this.state.flags & IS_CLOUD) !== 0;
  }

  /** Whether it is a part of a model that was converted so that parts cannot be moved. */
  get isStatic(): boolean {
    return (this.state.flags & IS_STATIC) !== 0;
  }

  /** The model whose root it is. */
  get model(): LoadedModel | undefined {
    return this.#scene.modelOf(this);
  }

  /** Itself and all below it, parents first. */
  *descendants(): Generator<Entity> {
    const waiting: Entity[] = [this];
    for (let entity = waiting.pop(); entity; entity = waiting.pop()) {
      yield entity;
      waiting.push(...[...entity.state.children].reverse());
    }
  }

  /** The first with that name among itself and all below it. */
  find(name: string): Entity | undefined {
    for (const entity of this.descendants()) if (entity.name === name) return entity;
    return undefined;
  }

  /** Takes it and all below it out; a model's root takes the model out. Twice is fine. */
  destroy(): void {
    if (this.state.alive) this.#scene.destroy(this);
  }

  /** The box of what is drawn at it and below, or undefined for nothing, after everything set so far. */
  bounds(space: "world" | "local" = "world"): Promise<Bounds | undefined> {
    return this.#scene.bounds(this, space);
  }

  /** What the model's file says about it. */
  metadata(): Promise<Readonly<Record<string, string | number | boolean>>> {
    return this.#scene.metadata(this);
  }
}

/** @internal */
export interface EntityState {
  name: string;
  parent: Entity | undefined;
  readonly children: Set<Entity>;
  position: Vector3;
  rotation: Quaternion;
  scale: Vector3;
  enabled: boolean;
  overrides: Overrides;
  readonly flags: number;
  alive: boolean;
}

interface Batch {
  readonly commands: readonly object[];
  readonly sequence: number;
  again: boolean;
}

/** The entities of a connection: `connection.scene`. */
export class Scene extends Emitter<SceneEvents> {
  readonly #link: SceneLink;
  readonly #entities = new Map<number, Entity>();
  readonly #roots = new Set<Entity>();
  readonly #models = new Map<number, LoadedModel>();
  #nextId = 1;
  #sequence = 0;
  #structure: object[] = [];
  readonly #moved = new Map<Entity, number>();
  readonly #streamed = new Map<Entity, number>();
  readonly #switched = new Set<Entity>();
  readonly #restyled = new Set<Entity>();
  #scheduled = false;
  #held = 0;
  #rest: ReturnType<typeof setTimeout> | undefined;
  #outgoing: Batch[] = [];
  #unanswered = new Set<Batch>();
  #idle: (() => void)[] = [];
  #failures: SceneFailure[] = [];
  #error: FarframeError | undefined;
  #life = 0;

  constructor(link: SceneLink) {
    super();
    this.#link = link;
  }

  /** The entities without a parent, oldest first. */
  get roots(): readonly Entity[] {
    return [...this.#roots];
  }

  /** How many entities there are. */
  get size(): number {
    return this.#entities.size;
  }

  *[Symbol.iterator](): Generator<Entity> {
    for (const root of this.roots) yield* root.descendants();
  }

  /** The entity with that id. */
  get(id: number): Entity | undefined {
    return this.#entities.get(id);
  }

  /** The first with that name. */
  find(name: string): Entity | undefined {
    for (const entity of this) if (entity.name === name) return entity;
    return undefined;
  }

  /** All with that name. */
  findAll(name: string): Entity[] {
    return [...this].filter((entity) => entity.name === name);
  }

  /** Makes an entity; it is there at once. Throws StringTooLong, InvalidId (of the parent), InvalidParam. */
  create(name = "", options: CreateOptions = {}): Entity {
    checkName(name);
    if (options.parent) requireAlive(options.parent);
    const state: EntityState = {
      name,
      parent: options.parent,
      children: new Set(),
      position: checked("position", options.position ?? [0, 0, 0], 3) as Vector3,
      rotation: checked("rotation", options.rotation ?? [0, 0, 0, 1], 4) as Quaternion,
      scale: checked("scale", options.scale ?? [1, 1, 1], 3) as Vector3,
      enabled: options.enabled ?? true,
      overrides: {},
      flags: 0,
      alive: true,
    };
    const entity = new Entity(this, this.#nextId++, state);
    this.#add(entity);
    const { position, rotation, scale, enabled } = state;
    this.#structure.push({
      op: "create",
      id: entity.id,
      parent: options.parent?.id ?? 0,
      name,
      position,
      rotation,
      scale,
      enabled,
    });
    this.#schedule();
    return entity;
  }

  /** Loads a model and resolves with its root; its nodes hang below. Aborting cancels as {@link Connection.loadModel}. */
  async loadModel(uri: string, options: SceneLoadOptions = {}): Promise<Entity> {
    if (options.parent) requireAlive(options.parent);
    await this.sent();
    const model = await this.#link.load(uri, options.parent?.id ?? 0, options);
    await this.#mirror(model.rootEntity, model.rootEntity + model.entityCount - 1);
    const root = this.#entities.get(model.rootEntity);
    if (!root) throw new FarframeError("ProtocolError", "The server did not tell the model's root.");
    this.#models.set(root.id, model);
    return root;
  }

  /** Takes over what the server holds: for a connection that came back to its scene with nothing of its own. */
  async restore(models: readonly LoadedModel[] = []): Promise<void> {
    this.forget();
    for (const model of models) this.#models.set(model.rootEntity, model);
    await this.#mirror(1, 2 ** 32 - 1);
    for (const id of this.#entities.keys()) if (id < FIRST_MODEL_ID) this.#nextId = Math.max(this.#nextId, id + 1);
  }

  /** What is set by `work` goes out together and is seen in one frame. Rejects with the first refusal. */
  async batch(work: () => void | Promise<void>): Promise<void> {
    this.#send();
    this.#held++;
    try {
      await work();
    } finally {
      this.#held--;
    }
    await this.flush();
  }

  /** Waits until the server has done all. Rejects with the first command refused since the last call, or the end. */
  async flush(): Promise<void> {
    this.#send();
    while (!this.#error && (this.#unanswered.size > 0 || this.#outgoing.length > 0)) {
      await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
    const failures = this.#failures;
    this.#failures = [];
    if (this.#error) throw this.#error;
    const first = failures[0];
    if (first) throw new FarframeError(first.result, first.message);
  }

  /**
   * Places entities anew. `streaming`: for what is set with every frame; it may be lost on the way, but is never late,
   * and the last of a movement is made sure of. Throws InvalidParam, ObjectStatic, InvalidId; then nothing is changed.
   */
  setTransforms(entities: readonly Entity[], transforms: Transforms, options: { streaming?: boolean } = {}): void {
    for (const entity of entities) {
      requireAlive(entity);
      if (entity.isStatic) throw staticError(entity);
    }
    const { positions, rotations, scales } = transforms;
    for (const rows of [positions, rotations, scales]) {
      if (rows && rows.length !== entities.length) throw invalid("There is not one transform for each entity.");
    }
    const places = positions?.map((value) => checked("position", value, 3) as Vector3);
    const turns = rotations?.map((value) => checked("rotation", value, 4) as Quaternion);
    const sizes = scales?.map((value) => checked("scale", value, 3) as Vector3);
    const bits = (places ? HAS_POSITION : 0) | (turns ? HAS_ROTATION : 0) | (sizes ? HAS_SCALE : 0);
    if (!bits || entities.length === 0) return;
    entities.forEach(({ state }, index) => {
      if (places) state.position = places[index] as Vector3;
      if (turns) state.rotation = turns[index] as Quaternion;
      if (sizes) state.scale = sizes[index] as Vector3;
    });
    if (options.streaming && this.#structure.length === 0 && this.#held === 0) {
      this.#stream(entities, bits);
      return;
    }
    for (const entity of entities) this.#moved.set(entity, (this.#moved.get(entity) ?? 0) | bits);
    this.#schedule();
  }

  /** As {@link Entity.override}, for many. */
  override(entities: readonly Entity[], changes: Overrides): void {
    const { tint, cutPlaneMask } = changes;
    if (tint && (tint.length !== 4 || !tint.every((value) => value >= 0 && value <= 1))) {
      throw invalid("A tint has four numbers between 0 and 1.");
    }
    if (typeof cutPlaneMask === "number" && !(cutPlaneMask >= 0 && cutPlaneMask <= 255)) {
      throw invalid("A cut-plane mask lies between 0 and 255.");
    }
    for (const entity of entities) requireAlive(entity);
    for (const entity of entities) {
      entity.state.overrides = { ...entity.state.overrides, ...changes };
      this.#restyled.add(entity);
    }
    this.#schedule();
  }

  /** What a ray between two points (world, metres) meets, at full detail, whatever is drawn. Hidden parts are hit. */
  async castRay(start: Vector3, end: Vector3, options: RayOptions = {}): Promise<RayHits> {
    await this.sent();
    const answer = (await this.#link.request("scene.castRay", { start, end, ...options })) as {
      hits: (Omit<RayHit, "entity"> & { entity: number })[];
      complete?: boolean;
    };
    const hits: RayHit[] = [];
    for (const hit of answer.hits) {
      const entity = this.#entities.get(hit.entity);
      if (entity) hits.push({ ...hit, entity });
    }
    return { hits, complete: answer.complete ?? true };
  }

  /** The connection has come back to its scene: sends what was not answered once more, in order, and goes on. */
  resumed(): void {
    this.#life++;
    this.#error = undefined;
    for (const batch of this.#unanswered) batch.again = true;
    this.#outgoing = [...this.#unanswered, ...this.#outgoing];
    this.#unanswered = new Set();
    this.#makeSure();
    this.#pump();
  }

  /** The connection has ended: nothing is sent any more. */
  close(error: FarframeError): void {
    clearTimeout(this.#rest);
    this.#error = error;
    this.#outgoing = [];
    this.#unanswered.clear();
    this.#wake();
  }

  /** Forgets all entities, or those of one model, that the connection has taken out. @internal */
  forget(model?: number): void {
    if (model === undefined) {
      this.#drop(this.roots);
      this.#models.clear();
      this.#structure = [];
      return;
    }
    for (const [root, loaded] of this.#models) {
      const entity = this.#entities.get(root);
      if (loaded.modelId === model && entity) this.#drop([entity]);
    }
  }

  /** @internal */
  modelOf(entity: Entity): LoadedModel | undefined {
    return this.#models.get(entity.id);
  }

  /** @internal */
  rename(entity: Entity, name: string): void {
    requireAlive(entity);
    checkName(name);
    entity.state.name = name;
    this.#structure.push({ op: "setName", id: entity.id, name });
    this.#schedule();
  }

  /** @internal */
  reparent(entity: Entity, parent: Entity | undefined): void {
    requireAlive(entity);
    if (entity.isStatic) throw staticError(entity);
    if (parent) requireAlive(parent);
    for (let above = parent; above; above = above.parent) {
      if (above === entity) {
        throw new FarframeError("CyclicReference", `The entity ${entity.id} would become its own ancestor.`);
      }
    }
    if (parent === entity.state.parent) return;
    (entity.state.parent?.state.children ?? this.#roots).delete(entity);
    entity.state.parent = parent;
    (parent?.state.children ?? this.#roots).add(entity);
    this.#structure.push({ op: "setParent", id: entity.id, parent: parent?.id ?? 0 });
    this.#schedule();
  }

  /** @internal */
  enable(entity: Entity, enabled: boolean): void {
    requireAlive(entity);
    if (entity.state.enabled === enabled) return;
    entity.state.enabled = enabled;
    this.#switched.add(entity);
    this.#schedule();
  }

  /** @internal */
  destroy(entity: Entity): void {
    this.#drop([entity]);
    this.#structure.push({ op: "destroy", id: entity.id });
    this.#schedule();
  }

  /** @internal */
  async bounds(entity: Entity, space: "world" | "local"): Promise<Bounds | undefined> {
    requireAlive(entity);
    await this.sent();
    const answer = await this.#link.request("scene.getBounds", { entity: entity.id, space });
    return (answer as { bounds?: Bounds }).bounds;
  }

  /** @internal */
  async metadata(entity: Entity): Promise<Record<string, string | number | boolean>> {
    requireAlive(entity);
    await this.sent();
    const found: Record<string, string | number | boolean> = {};
    for (let after = ""; ; ) {
      const answer = (await this.#link.request("scene.getMetadata", { entity: entity.id, after })) as {
        metadata: Record<string, string | number | boolean>;
        more?: boolean;
      };
      Object.assign(found, answer.metadata);
      const last = Object.keys(answer.metadata).pop();
      if (!answer.more || last === undefined) return found;
      after = last;
    }
  }

  #add(entity: Entity): void {
    this.#entities.set(entity.id, entity);
    (entity.state.parent?.state.children ?? this.#roots).add(entity);
  }

  #drop(tops: readonly Entity[]): void {
    for (const top of tops) {
      (top.state.parent?.state.children ?? this.#roots).delete(top);
      for (const entity of [...top.descendants()]) {
        entity.state.alive = false;
        this.#entities.delete(entity.id);
        this.#models.delete(entity.id);
        this.#moved.delete(entity);
        this.#streamed.delete(entity);
        this.#switched.delete(entity);
        this.#restyled.delete(entity);
      }
    }
  }

  async #mirror(first: number, last: number): Promise<void> {
    const rows: EntityRow[] = [];
    for (let at = first; at; ) {
      const page = (await this.#link.request("scene.getEntities", { first: at, last })) as {
        count: number;
        data: string;
        next?: number;
      };
      rows.push(...(await decodeEntities(page.count, page.data)));
      if (page.next && page.next <= at) {
        throw new FarframeError("ProtocolError", "The server's pages of entities do not go on.");
      }
      at = page.next ?? 0;
    }
    const made = rows.map((row) => {
      const entity = new Entity(this, row.id, {
        name: row.name,
        parent: undefined,
        children: new Set(),
        position: row.position,
        rotation: row.rotation,
        scale: row.scale,
        enabled: (row.flags & IS_DISABLED) === 0,
        overrides: overridesOf(row),
        flags: row.flags,
        alive: true,
      });
      this.#entities.set(row.id, entity);
      return entity;
    });
    made.forEach((entity, index) => {
      entity.state.parent = this.#entities.get(rows[index]?.parent ?? 0);
      (entity.state.parent?.state.children ?? this.#roots).add(entity);
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#held > 0) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      if (this.#scheduled) this.#send();
    });
  }

  /** Sends what was set, before something is asked: messages are worked on in the order in which they are sent. @internal */
  async sent(): Promise<void> {
    this.#send();
    while (!this.#error && this.#outgoing.length > 0) {
      await new Promise<void>((resolve) => this.#idle.push(resolve));
    }
  }

  #send(): void {
    this.#scheduled = false;
    if (this.#held > 0) return;
    const commands: object[] = this.#structure;
    this.#structure = [];
    for (const enabled of [true, false]) {
      const ids = [...this.#switched].filter((entity) => entity.enabled === enabled).map((entity) => entity.id);
      for (const part of parts(ids, 8 * ENTITIES_PER_COMMAND)) {
        commands.push({ op: "setEnabled", enabled, ids: packIds(part) });
      }
    }
    this.#switched.clear();
    commands.push(...this.#transforms(), ...this.#states());
    if (commands.length > 0) this.#queue(commands);
  }

  #transforms(): object[] {
    const byBits = new Map<number, Entity[]>();
    for (const [entity, bits] of this.#moved) {
      const others = byBits.get(bits);
      if (others) others.push(entity);
      else byBits.set(bits, [entity]);
    }
    this.#moved.clear();
    const commands: object[] = [];
    for (const [bits, entities] of byBits) {
      for (const part of parts(entities, ENTITIES_PER_COMMAND)) {
        commands.push({
          op: "setTransforms",
          ids: packIds(part.map((entity) => entity.id)),
          ...(bits & HAS_POSITION && {
            positions: packFloats(
              part.map((entity) => entity.position),
              true,
            ),
          }),
          ...(bits & HAS_ROTATION && {
            rotations: packFloats(
              part.map((entity) => entity.rotation),
              false,
            ),
          }),
          ...(bits & HAS_SCALE && {
            scales: packFloats(
              part.map((entity) => entity.scale),
              false,
            ),
          }),
        });
      }
    }
    return commands;
  }

  #states(): object[] {
    const alike = new Map<string, Entity[]>();
    for (const entity of this.#restyled) {
      const key = JSON.stringify(STATE_NAMES.map((name) => entity.overrides[name] ?? null));
      const others = alike.get(key);
      if (others) others.push(entity);
      else alike.set(key, [entity]);
    }
    this.#restyled.clear();
    const commands: object[] = [];
    for (const entities of alike.values()) {
      const { overrides } = entities[0] as Entity;
      let on = 0;
      let off = 0;
      for (const name of STATE_NAMES) {
        const value = overrides[name];
        if (value === false) off |= STATES[name];
        else if (value !== undefined) on |= STATES[name];
      }
      for (const part of parts(entities, 8 * ENTITIES_PER_COMMAND)) {
        commands.push({
          op: "setStates",
          ids: packIds(part.map((entity) => entity.id)),
          on,
          off,
          inherit: ALL_STATES & ~(on | off),
          ...(overrides.tint && { tint: overrides.tint }),
          ...(typeof overrides.cutPlaneMask === "number" && { mask: overrides.cutPlaneMask }),
        });
      }
    }
    return commands;
  }

  #queue(commands: readonly object[]): void {
    this.#nextSequence();
    let message: object[] = [];
    let size = 0;
    for (const command of commands) {
      const weight = weightOf(command as { ids?: string; name?: string; op: string });
      if (message.length > 0 && (size + weight > ENTITIES_PER_COMMAND || message.length >= COMMANDS_PER_MESSAGE)) {
        this.#outgoing.push({ commands: message, sequence: this.#sequence, again: false });
        message = [];
        size = 0;
      }
      message.push(command);
      size += weight;
    }
    this.#outgoing.push({ commands: message, sequence: this.#sequence, again: false });
    this.#pump();
  }

  #nextSequence(): void {
    this.#sequence = (this.#sequence + 1) >>> 0 || 1;
  }

  #pump(): void {
    while (!this.#error && this.#unanswered.size < MAX_IN_FLIGHT) {
      const batch = this.#outgoing.shift();
      if (!batch) break;
      this.#unanswered.add(batch);
      void this.#deliver(batch, this.#life);
    }
    this.#wake();
  }

  #wake(): void {
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  async #deliver(batch: Batch, life: number): Promise<void> {
    const { commands, sequence } = batch;
    let failures: readonly SceneFailure[] = [];
    try {
      const answer = (await this.#link.request("scene.apply", { commands, sequence })) as {
        failures?: { result: string; message?: string }[];
      };
      failures = (answer.failures ?? []).map(({ result, message }) => ({
        result: isResult(result) ? result : "Fail",
        message: message || "A command was refused.",
      }));
    } catch (error) {
      if (life !== this.#life) return;
      const failure = error instanceof FarframeError ? error : new FarframeError("Fail", String(error));
      if (ENDS.has(failure.result)) {
        // Whether it was done is not known: it is kept in case the connection comes back.
        this.#error = failure;
        this.#wake();
        return;
      }
      failures = [{ result: failure.result, message: failure.message }];
    }
    if (life !== this.#life) return;
    this.#unanswered.delete(batch);
    for (const failure of failures) {
      if (batch.again && DONE_BEFORE.has(failure.result)) continue;
      if (this.#failures.length < 1000) this.#failures.push(failure);
      this.emit("failure", failure);
    }
    this.#pump();
  }

  #stream(entities: readonly Entity[], bits: number): void {
    this.#nextSequence();
    for (const part of parts(entities, ENTITIES_PER_RECORD)) {
      this.#link.sendRecord(encodeTransforms(this.#sequence, part, bits));
    }
    for (const entity of entities) this.#streamed.set(entity, (this.#streamed.get(entity) ?? 0) | bits);
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => this.#makeSure(), REST_MILLISECONDS);
  }

  /** Nothing has been streamed for a while: sends the last of it in a way that does not lose it. */
  #makeSure(): void {
    clearTimeout(this.#rest);
    for (const [entity, bits] of this.#streamed) this.#moved.set(entity, (this.#moved.get(entity) ?? 0) | bits);
    this.#streamed.clear();
    this.#send();
  }
}

/** What a request fails with when its connection is gone. */
const ENDS: ReadonlySet<Result> = new Set<Result>([
  "ConnectionLost",
  "DisconnectRequest",
  "SessionStopped",
  "SessionExpired",
  "SessionNotReady",
  "OtherSessionConnected",
  "DeviceLost",
]);

function parts<T>(items: readonly T[], size: number): T[][] {
  const found: T[][] = [];
  for (let start = 0; start < items.length; start += size) found.push(items.slice(start, start + size));
  return found;
}

/** About how many entities' worth of bytes a command takes. */
function weightOf(command: { ids?: string; name?: string; op: string }): number {
  if (command.op === "setTransforms") return Math.ceil((command.ids?.length ?? 0) / 5.33);
  if (command.ids !== undefined) return 2 + Math.ceil(command.ids.length / 40);
  return command.name === undefined ? 1 : 3 + Math.ceil(command.name.length / 20);
}

function checkName(name: string): void {
  if ([...name].length > MAX_NAME_CHARACTERS) {
    throw new FarframeError("StringTooLong", "The name is too long.", {
      nextStep: `Use at most ${MAX_NAME_CHARACTERS} characters.`,
    });
  }
}

function requireAlive(entity: Entity): void {
  if (!entity.valid) throw new FarframeError("InvalidId", `The entity ${entity.id} (${entity.name}) was destroyed.`);
}

function staticError(entity: Entity): FarframeError {
  return new FarframeError(
    "ObjectStatic",
    `The entity ${entity.id} is part of a model that was converted with sceneGraphMode static.`,
    { nextStep: "Move the model's root, or convert it with sceneGraphMode dynamic." },
  );
}

function invalid(message: string): FarframeError {
  return new FarframeError("InvalidParam", message);
}

/** Numbers that the server takes; rotations are made unit. */
function checked(name: string, value: readonly number[], width: number): readonly number[] {
  if (value.length !== width || !value.every((number) => Math.abs(number) <= MAX_COORDINATE)) {
    throw invalid(`A ${name} has ${width} finite numbers.`);
  }
  if (name !== "rotation") return [...value];
  const length = Math.hypot(...value);
  if (!(length > 1e-30)) throw invalid("A rotation is a quaternion of any length but zero.");
  return value.map((number) => number / length);
}

function overridesOf(row: EntityRow): Overrides {
  const found: Record<string, unknown> = {};
  for (const name of STATE_NAMES) {
    if (row.off & STATES[name]) found[name] = false;
    else if (row.on & STATES[name])
      found[name] = name === "tint" ? row.tint : name === "cutPlaneMask" ? row.mask : true;
  }
  return found as Overrides;
}
