/** Lights that stand at entities: at most one of each kind at each. They light PBR materials. */

import { FarframeError } from "../errors.ts";
import { type Checks, flag, invalid, number, vector } from "./checks.ts";
import { Editable, giveMembers } from "./editable.ts";
import type { Entity } from "./entity.ts";
import { type Color3, type Pair, type Texture, textureOf } from "./materials.ts";

export type LightKind = "point" | "spot" | "directional";

/** All of a light. Lengths are metres. It shines along its entity's own -Z; a point light's tube lies along its X. */
export interface LightValues {
  color: Color3;
  /** Directional: irradiance of a surface that faces it; else radiant intensity. */
  intensity: number;
  enabled: boolean;
  /** (point, spot) */
  radius: number;
  /** (point) */
  length: number;
  /** (point, spot) Nearest and farthest: between them light fades to nothing; 0, 0: intensity alone decides. */
  attenuationCutoff: Pair;
  /** (spot) Whole angles of the cones of full and of no light, degrees. */
  spotAngleDeg: Pair;
  /** (spot) */
  falloffExponent: number;
  /** (spot) A 2D texture, (point) a cube map that colours the light. */
  projectedTexture: Texture | undefined;
}

type Common = "color" | "intensity" | "enabled";
export type PointLightValues = Pick<
  LightValues,
  Common | "radius" | "length" | "attenuationCutoff" | "projectedTexture"
>;
export type SpotLightValues = Pick<
  LightValues,
  Common | "radius" | "attenuationCutoff" | "spotAngleDeg" | "falloffExponent" | "projectedTexture"
>;
export type DirectionalLightValues = Pick<LightValues, Common>;

/** How a light begins. */
export const LIGHT_DEFAULTS: Readonly<LightValues> = {
  color: [1, 1, 1],
  intensity: 10,
  enabled: true,
  radius: 0,
  length: 0,
  attenuationCutoff: [0, 0],
  spotAngleDeg: [25, 35],
  falloffExponent: 1,
  projectedTexture: undefined,
};

const CHECKS: Readonly<Record<LightKind, Checks<LightValues>>> = {
  point: checksWith("cube"),
  spot: checksWith("2d"),
  directional: checksWith("2d"),
};

function checksWith(kind: "2d" | "cube"): Checks<LightValues> {
  return {
    color: vector<Color3>(3),
    intensity: number(),
    enabled: flag,
    radius: number(),
    length: number(),
    attenuationCutoff: vector<Pair>(2),
    spotAngleDeg: vector<Pair>(2, 0, 180),
    falloffExponent: number(0.01, 100),
    projectedTexture: textureOf(kind),
  };
}

/** What a light tells its scene. */
export interface LightHome {
  lightChanged(light: LightHandle, names: readonly (keyof LightValues)[]): void;
  lightRemoved(light: LightHandle): void;
}

/** What a light has beside its values. */
export class LightHandle extends Editable<LightValues> {
  readonly kind: LightKind;
  readonly entity: Entity;
  readonly #home: LightHome;
  #alive = true;

  /** @internal */
  constructor(home: LightHome, entity: Entity, kind: LightKind) {
    super({ ...LIGHT_DEFAULTS }, CHECKS[kind]);
    this.#home = home;
    this.entity = entity;
    this.kind = kind;
  }

  /** Whether it still stands at its entity. */
  get valid(): boolean {
    return this.#alive && this.entity.valid;
  }

  /** Takes it off its entity. Twice is fine. */
  remove(): void {
    if (!this.valid) return;
    this.#alive = false;
    this.#home.lightRemoved(this);
  }

  protected override judge(next: LightValues): void {
    if (!this.valid) throw new FarframeError("InvalidId", "The light was removed.");
    if (next.attenuationCutoff[0] > next.attenuationCutoff[1]) {
      throw invalid("attenuationCutoff must not end before it begins.");
    }
    if (next.spotAngleDeg[0] > next.spotAngleDeg[1]) {
      throw invalid("spotAngleDeg must be an inner angle and an outer one that is no smaller.");
    }
  }

  protected override changed(names: readonly (keyof LightValues)[]): void {
    this.#home.lightChanged(this, names);
  }
}

giveMembers<LightValues>(LightHandle.prototype, Object.keys(LIGHT_DEFAULTS) as (keyof LightValues)[]);

export type PointLight = LightHandle & PointLightValues;
export type SpotLight = LightHandle & SpotLightValues;
export type DirectionalLight = LightHandle & DirectionalLightValues;
/** The light of a kind. */
export interface LightOf {
  point: PointLight;
  spot: SpotLight;
  directional: DirectionalLight;
}
export type Light = LightHandle & LightValues;

/** Members as the wire has them. */
export function lightToWire(
  values: Readonly<LightValues>,
  names: Iterable<keyof LightValues>,
): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const name of names) found[name] = name === "projectedTexture" ? (values[name]?.id ?? 0) : values[name];
  return found;
}

/** Members as the wire has them, as values. */
export function lightFromWire(
  wire: Readonly<Record<string, unknown>>,
  texture: (id: number) => Texture | undefined,
): Partial<LightValues> {
  const found: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(wire)) {
    if (name === "projectedTexture") found[name] = value === 0 ? undefined : texture(value as number);
    else if (name in LIGHT_DEFAULTS) found[name] = value;
  }
  return found as Partial<LightValues>;
}
