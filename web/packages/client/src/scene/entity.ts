/** Entities as the device holds them: what is set is there at once, and goes to the server by itself. */

import { FarframeError } from "../errors.ts";
import type { Bounds, LoadedModel } from "../messages.ts";
import type { Quaternion, Vector3 } from "../records.ts";
import { IS_CLOUD, IS_MESH, IS_STATIC } from "../scene_codec.ts";
import type { ModelAnimation } from "./animations.ts";
import { type CutPlane, CutPlaneHandle, type CutPlaneValues } from "./cut_planes.ts";
import type {
  DirectionalLight,
  DirectionalLightValues,
  Light,
  LightKind,
  LightOf,
  PointLight,
  PointLightValues,
  SpotLight,
  SpotLightValues,
} from "./lights.ts";
import type { Material } from "./materials.ts";
import type { Overrides } from "./overrides.ts";
import type { Scene } from "./scene.ts";

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
  subParts: readonly SubPart[];
  readonly lights: Map<LightKind, Light>;
  cutPlane: CutPlane | undefined;
}

/** What several entities show: one part of a mesh, with the material in it. */
export class MeshPart {
  /** @internal The material in it now. */
  current: Material | undefined;
  /** @internal The one that it came with. */
  readonly own: Material | undefined;

  /** @internal */
  constructor(own: Material | undefined, replaced: Material | undefined) {
    this.own = own;
    this.current = replaced ?? own;
  }

  /** What those entities show that have no other for themselves; undefined for points. */
  get material(): Material | undefined {
    return this.current?.valid ? this.current : this.own?.valid ? this.own : undefined;
  }
}

/** One part of an entity: a piece of its mesh with one material. */
export class SubPart {
  readonly entity: Entity;
  /** Which of the entity's parts, from 0. */
  readonly index: number;
  /** The same for all entities that show the same mesh. */
  readonly mesh: MeshPart;
  readonly #scene: Scene;
  /** @internal */
  dress: Material | undefined;

  /** @internal */
  constructor(scene: Scene, entity: Entity, index: number, mesh: MeshPart, dress: Material | undefined) {
    this.#scene = scene;
    this.entity = entity;
    this.index = index;
    this.mesh = mesh;
    this.dress = dress;
  }

  /** What it is drawn with. Setting it concerns this entity only; `undefined`: with the mesh's own again. */
  get material(): Material | undefined {
    return this.override ?? this.mesh.material;
  }

  set material(material: Material | undefined) {
    this.#scene.dress([this], material);
  }

  /** What was set for this entity only. */
  get override(): Material | undefined {
    return this.dress?.valid ? this.dress : undefined;
  }

  /** What is in the mesh. Setting it concerns all entities that show the mesh; `undefined`: the file's again. */
  get meshMaterial(): Material | undefined {
    return this.mesh.material;
  }

  set meshMaterial(material: Material | undefined) {
    this.#scene.dressMesh(this, material);
  }
}

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

  /** What it is made of, in order; empty for what draws nothing itself. */
  get subParts(): readonly SubPart[] {
    return this.state.subParts;
  }

  /** Its lights, at most one of each kind. */
  get lights(): readonly Light[] {
    return [...this.state.lights.values()];
  }

  get pointLight(): PointLight | undefined {
    return this.state.lights.get("point");
  }

  get spotLight(): SpotLight | undefined {
    return this.state.lights.get("spot");
  }

  get directionalLight(): DirectionalLight | undefined {
    return this.state.lights.get("directional");
  }

  /** Gives it a point light, or changes the one that it has. Throws InvalidParam, InvalidId. */
  addPointLight(values: Partial<PointLightValues> = {}): PointLight {
    return this.#light("point", values);
  }

  /** Gives it a spot light, or changes the one that it has. Throws InvalidParam, InvalidId. */
  addSpotLight(values: Partial<SpotLightValues> = {}): SpotLight {
    return this.#light("spot", values);
  }

  /** Gives it a directional light, or changes the one that it has. Throws InvalidParam, InvalidId. */
  addDirectionalLight(values: Partial<DirectionalLightValues> = {}): DirectionalLight {
    return this.#light("directional", values);
  }

  #light<K extends LightKind>(kind: K, values: Partial<LightOf[K]>): LightOf[K] {
    requireAlive(this);
    return this.#scene.addLight(this, kind, values as Partial<Light>) as LightOf[K];
  }

  /** Its cut plane. Values give it one, or change the one that it has; `undefined` takes it off. */
  get cutPlane(): CutPlane | undefined {
    return this.state.cutPlane;
  }

  set cutPlane(values: Partial<CutPlaneValues> | undefined) {
    requireAlive(this);
    if (values === undefined) this.state.cutPlane?.remove();
    else this.#scene.addCutPlane(this, values instanceof CutPlaneHandle ? values.values : values);
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
      // Pushed one by one: there may be more than a call takes arguments.
      for (const child of [...entity.state.children].reverse()) waiting.push(child);
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

  /** The animations that its file brings along, if it is a model's root; none for others. */
  animations(): Promise<ModelAnimation[]> {
    return this.#scene.animations(this);
  }

  /** What the model's file says about it. */
  metadata(): Promise<Readonly<Record<string, string | number | boolean>>> {
    return this.#scene.metadata(this);
  }
}

/** Throws InvalidId for an entity that was destroyed. */
export function requireAlive(entity: Entity): void {
  if (!entity.valid) throw new FarframeError("InvalidId", `The entity ${entity.id} (${entity.name}) was destroyed.`);
}

/** The error for moving what cannot be moved. */
export function staticError(entity: Entity): FarframeError {
  return new FarframeError(
    "ObjectStatic",
    `The entity ${entity.id} is part of a model that was converted with sceneGraphMode static.`,
    { nextStep: "Move the model's root, or convert it with sceneGraphMode dynamic." },
  );
}
