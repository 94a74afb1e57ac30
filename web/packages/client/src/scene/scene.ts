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

import { abortable } from "../abortable.ts";
import { cancelled, FarframeError } from "../errors.ts";
import { Emitter } from "../events.ts";
import type { Bounds, LoadedModel, LoadProgress } from "../messages.ts";
import type { Quaternion, Vector3 } from "../records.ts";
import type { RequestOptions } from "../rpc.ts";
import { unpackIds } from "../scene_codec.ts";
import { type AnimationInfo, ModelAnimation } from "./animations.ts";
import { invalid, text } from "./checks.ts";
import { type CutPlane, CutPlaneHandle, type CutPlaneValues } from "./cut_planes.ts";
import {
  type CameraOverride,
  type Debug,
  Effects,
  type Outline,
  type Shell,
  type SingleSidedMode,
  type Sky,
  type StageSpace,
  type ZFighting,
} from "./effects.ts";
import { Entity, requireAlive, type SubPart, staticError } from "./entity.ts";
import { Holdings, newState } from "./holdings.ts";
import { type Light, LightHandle, type LightKind, type LightValues, lightFromWire } from "./lights.ts";
import {
  type Material,
  MaterialHandle,
  type MaterialKind,
  type MaterialValues,
  makeMaterial,
  materialToWire,
  Texture,
  type TextureInfo,
  type TextureKind,
} from "./materials.ts";
import { LAST_ID, Mirror } from "./mirror.ts";
import { Outbox, type SceneFailure } from "./outbox.ts";
import { checkOverrides, type Overrides } from "./overrides.ts";
import { Pending, transformRecords } from "./pending.ts";
import type { OverlapOptions, Overlaps, RayHit, RayHits, RayOptions, Shape } from "./queries.ts";
import { checkTransforms, position, rotation, scale, type Transforms } from "./transforms.ts";

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

export interface TextureLoadOptions {
  /** A 2D texture by default; a file of the other kind is refused. */
  kind?: TextureKind;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

const MOVING: ReadonlySet<string> = new Set(["create", "destroy", "setParent", "setTransforms", "setAnimation"]);

export interface SceneEvents {
  /** The server refused a command. */
  failure: SceneFailure;
  /** Something came, went or was moved, so that the scene may reach elsewhere: once for all that is sent together. */
  moved: undefined;
}

/** What a scene needs of its connection. */
export interface SceneLink {
  /** Sends a request at once. */
  request(method: string, params: object, options?: RequestOptions): Promise<unknown>;
  /** Resolves when there is a line to ask over. */
  ready(): Promise<void>;
  sendRecord(bytes: ArrayBuffer): void;
  load(uri: string, parent: number, options: SceneLoadOptions): Promise<LoadedModel>;
  loadTexture(uri: string, kind: TextureKind, options: TextureLoadOptions): Promise<TextureInfo>;
}

type Metadata = Record<string, string | number | boolean>;
type Values = Readonly<Record<string, unknown>>;

const FIRST_MODEL_ID = 2 ** 31;
/** After so long without anything new, what was streamed is made sure of. */
const REST_MILLISECONDS = 150;
const checkName = text(1024);

/** What is in a connection's scene: `connection.scene`. */
export class Scene extends Emitter<SceneEvents> {
  readonly #link: SceneLink;
  readonly #pending = new Pending();
  readonly #holdings = new Holdings(this.#pending);
  readonly #outbox: Outbox;
  readonly #effects: Effects;
  readonly #mirror: Mirror;
  #nextId = 1;
  #nextMaterial = 1;
  #sequence = 0;
  /** Grows whenever all is forgotten: what was asked for before has nothing to do with what is there then. */
  #life = 0;
  #texturesLoading = 0;
  /** Textures that nobody here asked for in the end, unless a load that is under way gets the same. */
  readonly #orphans = new Map<number, TextureInfo>();
  #scheduled = false;
  #held = 0;
  #rest: ReturnType<typeof setTimeout> | undefined;

  constructor(link: SceneLink) {
    super();
    this.#link = link;
    this.#outbox = new Outbox(
      (params) => link.request("scene.apply", params),
      (failure) => this.emit("failure", failure),
    );
    this.#mirror = new Mirror(this, this.#holdings, this.#home, (method, params) => this.#ask(method, params));
    this.#effects = new Effects((changes) => {
      this.#pending.effects(changes);
      this.#schedule();
    });
  }

  // What is there -----------------------------------------------------------------------------------------------

  /** The entities without a parent, oldest first. */
  get roots(): readonly Entity[] {
    return [...this.#holdings.roots];
  }

  /** How many entities there are. */
  get size(): number {
    return this.#holdings.entities.size;
  }

  *[Symbol.iterator](): Generator<Entity> {
    for (const root of this.roots) yield* root.descendants();
  }

  /** The entity with that id. */
  get(id: number): Entity | undefined {
    return this.#holdings.entities.get(id);
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

  /** All materials: those that were made here, and those of models. */
  get materials(): readonly Material[] {
    return [...this.#holdings.materials.values()];
  }

  /** The material with that id. */
  getMaterial(id: number): Material | undefined {
    return this.#holdings.materials.get(id);
  }

  /** The textures that were loaded and not destroyed. */
  get textures(): readonly Texture[] {
    return [...this.#holdings.textures.values()].filter((texture) => texture.valid);
  }

  // How all of it is drawn --------------------------------------------------------------------------------------

  /** Outlines of what is selected. */
  get outline(): Outline {
    return this.#effects.outline;
  }

  get shell(): Shell {
    return this.#effects.shell;
  }

  get zFighting(): ZFighting {
    return this.#effects.zFighting;
  }

  /** Near and far in the place of those of poses. */
  get camera(): CameraOverride {
    return this.#effects.camera;
  }

  /** Where the space of poses stands in the world. */
  get stage(): StageSpace {
    return this.#effects.stage;
  }

  get debug(): Debug {
    return this.#effects.debug;
  }

  /** How surfaces are drawn that have one side. */
  get singleSided(): SingleSidedMode {
    return this.#effects.singleSided;
  }

  set singleSided(mode: SingleSidedMode) {
    this.#effects.singleSided = mode;
  }

  /** A factor on the size of points. */
  get pointSize(): number {
    return this.#effects.pointSize;
  }

  set pointSize(size: number) {
    this.#effects.pointSize = size;
  }

  /** What lights from all sides: a built-in sky's name (`builtin://…`) or a texture. */
  get sky(): Sky {
    return this.#effects.sky;
  }

  set sky(sky: Sky) {
    this.#effects.sky = sky;
  }

  // What makes --------------------------------------------------------------------------------------------------

  /** Makes an entity; it is there at once. Throws StringTooLong, InvalidId (of the parent), InvalidParam. */
  create(name = "", options: CreateOptions = {}): Entity {
    checkName("name", name);
    if (options.parent) requireAlive(options.parent);
    const placed = {
      position: position("position", options.position ?? [0, 0, 0]),
      rotation: rotation("rotation", options.rotation ?? [0, 0, 0, 1]),
      scale: scale("scale", options.scale ?? [1, 1, 1]),
    };
    const enabled = options.enabled ?? true;
    const state = newState({ name, parent: options.parent, enabled, ...placed });
    const entity = new Entity(this, this.#nextId++, state);
    this.#holdings.add(entity);
    this.#pending.structure.push({
      op: "create",
      id: entity.id,
      parent: options.parent?.id ?? 0,
      name,
      ...placed,
      enabled,
    });
    this.#schedule();
    return entity;
  }

  /** Loads a model and resolves with its root; its nodes hang below. Aborting cancels as {@link Connection.loadModel}. */
  async loadModel(uri: string, options: SceneLoadOptions = {}): Promise<Entity> {
    const { parent, signal } = options;
    if (parent) requireAlive(parent);
    const life = this.#life;
    await this.#before(signal);
    const model = await this.#link.load(uri, parent?.id ?? 0, options);
    const stillWanted = (): void => {
      if (signal?.aborted) throw cancelled("Loading the model");
      if (life === this.#life && (parent?.valid ?? true)) return;
      const what = life === this.#life ? "What it should hang below" : "Everything";
      throw new FarframeError("Cancelled", `${what} was taken out of the scene while the model was loading.`);
    };
    try {
      await this.#mirror.take(model.rootEntity, model.rootEntity + model.entityCount - 1, [model], stillWanted);
    } catch (error) {
      // Nobody would know of it. What went with its parent, or with everything, is gone.
      if (life === this.#life && (parent?.valid ?? true)) this.discard(model);
      throw error;
    }
    this.emit("moved", undefined);
    return this.#holdings.entities.get(model.rootEntity) as Entity;
  }

  /** Makes a material; it is there at once. Throws InvalidParam, InvalidId, StringTooLong. */
  createMaterial(kind: MaterialKind = "pbr", values: Partial<MaterialValues> = {}): Material {
    const material = makeMaterial(this.#home, this.#nextMaterial, kind, values);
    this.#nextMaterial++;
    this.#holdings.materials.set(material.id, material);
    const set = materialToWire(material.values, Object.keys(values) as (keyof MaterialValues)[]);
    this.#pending.structure.push({ op: "createMaterial", id: material.id, kind, set });
    this.#schedule();
    return material;
  }

  /** Loads a texture: DDS, KTX2, PNG, JPEG or HDR. The same URI gives the same texture while that lives. */
  async loadTexture(uri: string, options: TextureLoadOptions = {}): Promise<Texture> {
    const { kind = "2d", signal } = options;
    this.#texturesLoading++;
    try {
      await this.#before(signal);
      return this.#texture(await this.#link.loadTexture(uri, kind, options));
    } finally {
      this.#texturesLoading--;
      this.#dropOrphans();
    }
  }

  /** Takes over what the server holds: for a connection that came back to its scene with nothing of its own. */
  async restore(models: readonly LoadedModel[] = []): Promise<void> {
    this.forget();
    await this.#mirror.pages("scene.getTextures", {}, (page: { textures: readonly TextureInfo[] }) => {
      for (const info of page.textures) this.#texture(info);
    });
    await this.#mirror.take(1, LAST_ID, models);
    const next = (ids: Iterable<number>, from: number): number => {
      let least = from;
      for (const id of ids) if (id < FIRST_MODEL_ID) least = Math.max(least, id + 1);
      return least;
    };
    this.#nextId = next(this.#holdings.entities.keys(), this.#nextId);
    this.#nextMaterial = next(this.#holdings.materials.keys(), this.#nextMaterial);
    await this.#mirror.pages("scene.getComponents", {}, (page: ComponentsPage) => {
      for (const { entity: id, kind, values } of page.lights ?? []) {
        const entity = this.#holdings.entities.get(id);
        if (entity)
          this.#newLight(entity, kind).adopt(lightFromWire(values, (texture) => this.#holdings.textures.get(texture)));
      }
      for (const { entity: id, values } of page.cutPlanes ?? []) {
        const entity = this.#holdings.entities.get(id);
        if (entity) this.#newCutPlane(entity).adopt(values);
      }
    });
    const effects = await this.#mirror.askIfKnown<Values>("scene.getEffects", {});
    this.#effects.adopt(effects ?? {}, (id) => this.#holdings.textures.get(id));
  }

  // Together, and in order --------------------------------------------------------------------------------------

  /** What is set by `work` goes out together and is seen in one frame. Rejects with the first refusal. */
  async batch(work: () => void | Promise<void>): Promise<void> {
    this.#send();
    this.#held++;
    try {
      await work();
    } finally {
      this.#held--;
      // Also what was set before `work` failed is set.
      this.#send();
    }
    await this.flush();
  }

  /**
   * Waits until the server has done all that was set, what was streamed included. Rejects with the first command refused
   * since the last call, or the end.
   */
  flush(): Promise<void> {
    this.#makeSure();
    return this.#outbox.flush();
  }

  /** Sends what was set, before something is asked: messages are worked on in the order in which they are sent. @internal */
  sent(): Promise<void> {
    this.#send();
    return this.#outbox.sent();
  }

  // Many at once ------------------------------------------------------------------------------------------------

  /**
   * Places entities anew. `streaming`: for what is set with every frame; it may be lost on the way, but is never late,
   * and the last of a movement is made sure of. Throws InvalidParam, ObjectStatic, InvalidId; then nothing is changed.
   */
  setTransforms(entities: readonly Entity[], transforms: Transforms, options: { streaming?: boolean } = {}): void {
    for (const entity of entities) {
      requireAlive(entity);
      if (entity.isStatic) throw staticError(entity);
    }
    const checked = checkTransforms(transforms, entities.length);
    if (!checked.bits || entities.length === 0) return;
    entities.forEach(({ state }, row) => {
      checked.apply(state, row);
    });
    if (options.streaming && !this.#pending.structural && this.#held === 0) {
      this.#stream(entities, checked.bits);
      return;
    }
    for (const entity of entities) this.#pending.moved(entity, checked.bits);
    this.#schedule();
  }

  /** As {@link Entity.override}, for many. */
  override(entities: readonly Entity[], changes: Overrides): void {
    checkOverrides(changes);
    // The page may go on with its array.
    const kept = changes.tint ? { ...changes, tint: [...changes.tint] as const } : changes;
    for (const entity of entities) requireAlive(entity);
    for (const entity of entities) {
      entity.state.overrides = { ...entity.state.overrides, ...kept };
      this.#pending.restyled.add(entity);
    }
    this.#schedule();
  }

  /** Draws sub-parts with another material, on their entities only; `undefined`: with the mesh's own again. */
  dress(parts: readonly SubPart[], material: Material | undefined): void {
    this.#requireMaterial(material);
    for (const part of parts) requireAlive(part.entity);
    for (const part of parts) {
      part.dress = material;
      this.#pending.dressed.add(part);
    }
    this.#schedule();
  }

  // Questions ---------------------------------------------------------------------------------------------------

  /** What a ray between two points (world, metres) meets, at full detail, whatever is drawn. Hidden parts are hit. */
  async castRay(start: Vector3, end: Vector3, { signal, ...options }: RayOptions = {}): Promise<RayHits> {
    const answer = await this.#ask<{
      hits: (Omit<RayHit, "entity"> & { entity: number })[];
      complete?: boolean;
    }>("scene.castRay", { start, end, ...options }, signal);
    const hits: RayHit[] = [];
    for (const hit of answer.hits) {
      const entity = this.#holdings.entities.get(hit.entity);
      if (entity) hits.push({ ...hit, entity });
    }
    return { hits, complete: answer.complete ?? true };
  }

  /** Which parts a box or a ball (world, metres) overlaps, at full detail. Hidden parts are found; disabled ones are not. */
  async findOverlaps(shape: Shape, { signal, ...options }: OverlapOptions = {}): Promise<Overlaps> {
    const answer = await this.#ask<{ entities: string; subParts: string; more?: boolean; complete?: boolean }>(
      "scene.findOverlaps",
      { shape, ...options },
      signal,
    );
    const subParts = unpackIds(answer.subParts);
    const parts = unpackIds(answer.entities).flatMap((id, index) => {
      const entity = this.#holdings.entities.get(id);
      return entity ? [{ entity, subPart: subParts[index] ?? 0 }] : [];
    });
    return { parts, more: answer.more ?? false, complete: answer.complete ?? true };
  }

  // What the connection tells -----------------------------------------------------------------------------------

  /** The connection has come back to its scene: sends what was not answered once more, in order, and goes on. @internal */
  resumed(): void {
    this.#outbox.resumed();
    this.#makeSure();
  }

  /** The connection has ended: nothing is sent any more. @internal */
  close(error: FarframeError): void {
    clearTimeout(this.#rest);
    this.#outbox.close(error);
  }

  /** Takes a model out that nobody here knows: its load was given up, or its answer was lost. @internal */
  discard(model: LoadedModel): void {
    const root = this.#holdings.entities.get(model.rootEntity);
    if (root) this.#holdings.drop([root]);
    this.#pending.structure.push({ op: "destroy", id: model.rootEntity });
    this.#schedule();
  }

  /** Takes a texture out that nobody here knows: its load was given up, or its answer was lost. @internal */
  discardTexture(info: TextureInfo): void {
    if (info.wanted === false) return;
    this.#orphans.set(info.id, info);
    this.#dropOrphans();
  }

  /** As {@link discardTexture}, with all that the server has. @internal */
  async discardUnknownTextures(request: (method: string, params: object) => Promise<unknown>): Promise<void> {
    for (let first: number | undefined = 1; first; ) {
      const page = (await request("scene.getTextures", { first })) as {
        textures: readonly TextureInfo[];
        next?: number;
      };
      for (const info of page.textures) this.discardTexture(info);
      first = page.next !== undefined && page.next > first ? page.next : undefined;
    }
  }

  /** The same URI gives the same texture: while one is loading it may be this one. */
  #dropOrphans(): void {
    if (this.#texturesLoading > 0 || this.#orphans.size === 0) return;
    for (const id of this.#orphans.keys()) {
      if (!this.#holdings.textures.get(id)?.valid) this.#pending.last.push({ op: "destroyTexture", id });
    }
    this.#orphans.clear();
    this.#schedule();
  }

  /** Forgets everything, or what belongs to one model, that the connection has taken out. @internal */
  forget(model?: number): void {
    if (model === undefined) {
      this.#life++;
      this.#orphans.clear();
      this.#holdings.clear();
      this.#effects.adopt({}, () => undefined);
      this.#pending.clear();
      return;
    }
    for (const [root, loaded] of this.#holdings.models) {
      const entity = this.#holdings.entities.get(root);
      if (loaded.modelId === model && entity) this.#holdings.drop([entity]);
    }
  }

  // What entities, materials and lights ask for -----------------------------------------------------------------

  /** @internal */
  modelOf(entity: Entity): LoadedModel | undefined {
    return this.#holdings.models.get(entity.id);
  }

  /** @internal */
  rename(entity: Entity, name: string): void {
    requireAlive(entity);
    checkName("name", name);
    entity.state.name = name;
    this.#pending.structure.push({ op: "setName", id: entity.id, name });
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
    this.#holdings.hang(entity, parent);
    this.#pending.structure.push({ op: "setParent", id: entity.id, parent: parent?.id ?? 0 });
    this.#schedule();
  }

  /** @internal */
  enable(entity: Entity, enabled: boolean): void {
    requireAlive(entity);
    if (entity.state.enabled === enabled) return;
    entity.state.enabled = enabled;
    this.#pending.switched.add(entity);
    this.#schedule();
  }

  /** @internal */
  destroy(entity: Entity): void {
    this.#holdings.drop([entity]);
    this.#pending.structure.push({ op: "destroy", id: entity.id });
    this.#schedule();
  }

  /** @internal */
  dressMesh(part: SubPart, material: Material | undefined): void {
    requireAlive(part.entity);
    this.#requireMaterial(material);
    part.mesh.current = material ?? part.mesh.own;
    const { entity, index } = part;
    // In order with what makes and takes: another entity may show the mesh when this one is gone.
    this.#pending.structure.push({
      op: "setMeshMaterial",
      id: entity.id,
      subPart: index,
      material: material?.id ?? 0,
    });
    this.#schedule();
  }

  /** @internal */
  addLight(entity: Entity, kind: LightKind, values: Partial<LightValues>): Light {
    const known = entity.state.lights.get(kind);
    const light = known ?? (new LightHandle(this.#home, entity, kind) as Light);
    light.set(values);
    if (!known) {
      entity.state.lights.set(kind, light);
      // Also where nothing is set: that makes it.
      if (!this.#pending.lights.has(light)) this.#pending.lights.set(light, new Set());
      this.#schedule();
    }
    return light;
  }

  /** @internal */
  addCutPlane(entity: Entity, values: Partial<CutPlaneValues>): CutPlane {
    const known = entity.state.cutPlane;
    const plane = known ?? (new CutPlaneHandle(this.#home, entity) as CutPlane);
    plane.set(values);
    if (!known) {
      entity.state.cutPlane = plane;
      if (!this.#pending.cutPlanes.has(plane)) this.#pending.cutPlanes.set(plane, new Set());
      this.#schedule();
    }
    return plane;
  }

  /** @internal */
  async bounds(entity: Entity, space: "world" | "local"): Promise<Bounds | undefined> {
    requireAlive(entity);
    return (await this.#ask<{ bounds?: Bounds }>("scene.getBounds", { entity: entity.id, space })).bounds;
  }

  /** @internal */
  async metadata(entity: Entity): Promise<Metadata> {
    requireAlive(entity);
    const found: Metadata = {};
    for (let after = ""; ; ) {
      const answer = await this.#ask<{ metadata: Metadata; more?: boolean }>("scene.getMetadata", {
        entity: entity.id,
        after,
      });
      Object.assign(found, answer.metadata);
      const last = Object.keys(answer.metadata).pop();
      if (!answer.more || last === undefined) return found;
      after = last;
    }
  }

  /** @internal */
  async animations(root: Entity): Promise<ModelAnimation[]> {
    requireAlive(root);
    const found: ModelAnimation[] = [];
    const send = (entity: Entity, set: Record<string, unknown>): void => {
      requireAlive(entity);
      this.#pending.structure.push({ op: "setAnimation", id: entity.id, ...set });
      this.#schedule();
    };
    for (;;) {
      const page = await this.#ask<{ animations: readonly AnimationInfo[]; more?: boolean }>("scene.getAnimations", {
        entity: root.id,
        first: found.length,
      });
      for (const info of page.animations) found.push(new ModelAnimation(root, found.length, info, send));
      if (!page.more || page.animations.length === 0) return found;
    }
  }

  /** What materials, textures, lights and cut planes tell. */
  readonly #home = {
    materialChanged: (material: MaterialHandle, names: readonly (keyof MaterialValues)[]): void => {
      note(this.#pending.materials, material, names);
      this.#schedule();
    },
    materialDestroyed: (material: MaterialHandle): void => {
      this.#holdings.materials.delete(material.id);
      this.#pending.materials.delete(material);
      this.#pending.structure.push({ op: "destroyMaterial", id: material.id });
      this.#schedule();
    },
    textureDestroyed: (texture: Texture): void => {
      this.#pending.last.push({ op: "destroyTexture", id: texture.id });
      this.#schedule();
    },
    lightChanged: (light: LightHandle, names: readonly (keyof LightValues)[]): void => {
      note(this.#pending.lights, light, names);
      this.#schedule();
    },
    lightRemoved: (light: LightHandle): void => {
      const { entity, kind } = light;
      entity.state.lights.delete(kind);
      this.#pending.lights.delete(light);
      this.#pending.structure.push({ op: "removeLight", id: entity.id, kind });
      this.#schedule();
    },
    cutPlaneChanged: (plane: CutPlaneHandle, names: readonly (keyof CutPlaneValues)[]): void => {
      note(this.#pending.cutPlanes, plane, names);
      this.#schedule();
    },
    cutPlaneRemoved: (plane: CutPlaneHandle): void => {
      plane.entity.state.cutPlane = undefined;
      this.#pending.cutPlanes.delete(plane);
      this.#pending.structure.push({ op: "removeCutPlane", id: plane.entity.id });
      this.#schedule();
    },
  };

  #requireMaterial(material: Material | undefined): void {
    if (material === undefined) return;
    if (!(material instanceof MaterialHandle)) throw invalid("A part is drawn with a material.");
    if (this.#holdings.materials.get(material.id) !== (material as Material)) {
      throw new FarframeError("InvalidId", `The material ${material.id} was destroyed.`);
    }
  }

  #newLight(entity: Entity, kind: LightKind): Light {
    const light = new LightHandle(this.#home, entity, kind) as Light;
    entity.state.lights.set(kind, light);
    return light;
  }

  #newCutPlane(entity: Entity): CutPlane {
    const plane = new CutPlaneHandle(this.#home, entity) as CutPlane;
    entity.state.cutPlane = plane;
    return plane;
  }

  #texture(info: TextureInfo): Texture {
    const known = this.#holdings.textures.get(info.id);
    if (known?.valid) return known;
    const texture = new Texture(this.#home, info);
    if (info.wanted === false) texture.forget();
    this.#holdings.textures.set(info.id, texture);
    return texture;
  }

  async #ask<R>(method: string, params: object, signal?: AbortSignal): Promise<R> {
    // What was asked counts, whatever the page does with its arrays until there is a line.
    const asked = structuredClone(params);
    await this.#before(signal);
    return (await this.#link.request(method, asked, signal ? { signal } : {})) as R;
  }

  /** Waits for a line, and until what was set so far is on its way. Rejects when the signal aborts first. */
  async #before(signal?: AbortSignal): Promise<void> {
    await abortable(this.#link.ready(), signal, "The request");
    await abortable(this.sent(), signal, "The request");
  }

  #schedule(): void {
    if (this.#scheduled || this.#held > 0) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      if (this.#scheduled) this.#send();
    });
  }

  #send(): void {
    this.#scheduled = false;
    if (this.#held > 0) return;
    const commands = this.#pending.take();
    if (commands.length === 0) return;
    this.#outbox.push(commands, this.#nextSequence());
    if (commands.some(({ op }) => MOVING.has(op))) this.emit("moved", undefined);
  }

  #nextSequence(): number {
    this.#sequence = (this.#sequence + 1) >>> 0 || 1;
    return this.#sequence;
  }

  #stream(entities: readonly Entity[], bits: number): void {
    for (const record of transformRecords(this.#nextSequence(), entities, bits)) this.#link.sendRecord(record);
    for (const entity of entities) this.#pending.streamed(entity, bits);
    this.emit("moved", undefined);
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => this.#makeSure(), REST_MILLISECONDS);
  }

  /** Nothing has been streamed for a while: sends the last of it in a way that does not lose it. */
  #makeSure(): void {
    clearTimeout(this.#rest);
    this.#pending.makeSure();
    this.#send();
  }
}

interface ComponentsPage {
  readonly lights?: readonly { entity: number; kind: LightKind; values: Values }[];
  readonly cutPlanes?: readonly { entity: number; values: Partial<CutPlaneValues> }[];
}

function note<K, N>(pending: Map<K, Set<N>>, key: K, names: readonly N[]): void {
  let known = pending.get(key);
  if (!known) {
    known = new Set();
    pending.set(key, known);
  }
  for (const name of names) known.add(name);
}
