/** Materials and textures: made, edited while they are seen, shared, and put on parts. `docs/scene.md` says what each does. */

import { FarframeError } from "../errors.ts";
import { type Check, type Checks, flag, number, text, vector, word } from "./checks.ts";
import { Editable, giveMembers } from "./editable.ts";

/** Linear RGB. */
export type Color3 = readonly [red: number, green: number, blue: number];
/** Linear RGB and alpha. */
export type Color4 = readonly [red: number, green: number, blue: number, alpha: number];
export type Pair = readonly [number, number];

/** `pbr`: metallic-roughness, lit by sky and lights; `color`: unlit. Chosen when a material is made, for good. */
export type MaterialKind = "pbr" | "color";
export type TextureKind = "2d" | "cube";

/** What multiplies a value: a 2D texture, nothing, or, for a model's own material, `own`: what the file has there. */
export type MaterialMap = Texture | "own" | undefined;

/** All of a material. Colours are linear; a map multiplies the number or colour beside it. */
export interface MaterialValues {
  name: string;
  /** (pbr) Opacity is the albedo's alpha, whatever the order of surfaces. */
  transparent: boolean;
  useVertexColor: boolean;
  doubleSided: boolean;
  /** (pbr) Lights make highlights. */
  specularHighlights: boolean;
  /** Nothing is drawn where alpha is below `alphaClipThreshold`. */
  alphaClipped: boolean;
  /** `fadeOut` darkens the surface instead of letting it vanish. */
  fadeToBlack: boolean;
  /** A glow that grows towards the silhouette. */
  fresnelEffect: boolean;
  transparencyWritesDepth: boolean;
  fadesReflections: boolean;
  albedoColor: Color4;
  albedoMap: MaterialMap;
  /** 0 to 1. */
  alphaClipThreshold: number;
  /** Texture coordinates are scaled, then moved, for all maps. */
  texcoordScale: Pair;
  texcoordOffset: Pair;
  fresnelEffectColor: Color3;
  /** 0.01 to 10. */
  fresnelEffectExponent: number;
  /** 1: fully there, 0: gone. */
  fadeOut: number;
  normalMap: MaterialMap;
  normalMapScale: number;
  /** 0 to 1. */
  roughness: number;
  roughnessMap: MaterialMap;
  /** 0 to 1. */
  metalness: number;
  metalnessMap: MaterialMap;
  aoMap: MaterialMap;
  aoScale: number;
  emissiveColor: Color3;
  emissiveMap: MaterialMap;
  /** What the alpha of vertex colours does. */
  vertexAlphaMode: "occlusion" | "lightMask" | "opacity";
  /** (color) How much of the vertex colour is taken, 0 to 1. */
  vertexMix: number;
  /** (color) How it covers what is behind it. */
  colorTransparency: "opaque" | "alphaBlend" | "additive";
}

/** A texture that the server has read; {@link Scene.loadTexture} makes it. */
export class Texture {
  readonly id: number;
  readonly kind: TextureKind;
  /** Without its query. */
  readonly uri: string;
  readonly width: number;
  readonly height: number;
  readonly levels: number;
  readonly sizeBytes: number;
  readonly #home: MaterialHome;
  #alive = true;

  /** @internal */
  constructor(home: MaterialHome, info: TextureInfo) {
    this.#home = home;
    this.id = info.id;
    this.kind = info.kind;
    this.uri = info.uri;
    this.width = info.width;
    this.height = info.height;
    this.levels = info.levels;
    this.sizeBytes = info.sizeBytes;
  }

  /** Whether it may be used anew. */
  get valid(): boolean {
    return this.#alive;
  }

  /** Wants it no more. What uses it keeps it; it is freed when nothing does. Twice is fine. */
  destroy(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#home.textureDestroyed(this);
  }

  /** @internal */
  forget(): void {
    this.#alive = false;
  }
}

/** A texture as the server tells it. */
export interface TextureInfo {
  readonly id: number;
  readonly kind: TextureKind;
  readonly uri: string;
  readonly width: number;
  readonly height: number;
  readonly levels: number;
  readonly sizeBytes: number;
  /** False for one that was destroyed, and that something still shows; absent: true. */
  readonly wanted?: boolean;
}

/** What a material tells its scene. */
export interface MaterialHome {
  materialChanged(material: MaterialHandle, names: readonly (keyof MaterialValues)[]): void;
  materialDestroyed(material: MaterialHandle): void;
  textureDestroyed(texture: Texture): void;
}

const FLAGS = {
  transparent: 1,
  useVertexColor: 2,
  doubleSided: 4,
  specularHighlights: 8,
  alphaClipped: 16,
  fadeToBlack: 32,
  fresnelEffect: 64,
  transparencyWritesDepth: 128,
  fadesReflections: 256,
} as const satisfies Partial<Record<keyof MaterialValues, number>>;
type FlagName = keyof typeof FLAGS;
const FLAG_NAMES = Object.keys(FLAGS) as FlagName[];
const MAPS = ["albedoMap", "normalMap", "roughnessMap", "metalnessMap", "aoMap", "emissiveMap"] as const;
type MapName = (typeof MAPS)[number];

/** In the place of a texture's id: the map that the file has there. */
const OWN_MAP = 0xffff_ffff;
export const FIRST_MODEL_MATERIAL = 2 ** 31;

const share = number(0, 1);
const color = vector<Color3>(3);
const map: Check<MaterialMap> = (name, value) => {
  if (value === undefined || value === "own") return value;
  return textureOf("2d")(name, value);
};

/** A texture of one kind that has not been destroyed, or nothing. */
export function textureOf(kind: TextureKind): Check<Texture | undefined> {
  return (name, value) => {
    if (value === undefined) return undefined;
    if (!(value instanceof Texture) || value.kind !== kind) {
      throw new FarframeError("InvalidParam", `${name} must be a ${kind === "cube" ? "cube map" : "2D texture"}.`);
    }
    if (!value.valid) throw new FarframeError("InvalidId", `The texture ${value.uri} was destroyed.`);
    return value;
  };
}

const CHECKS: Checks<MaterialValues> = {
  name: text(1024),
  transparent: flag,
  useVertexColor: flag,
  doubleSided: flag,
  specularHighlights: flag,
  alphaClipped: flag,
  fadeToBlack: flag,
  fresnelEffect: flag,
  transparencyWritesDepth: flag,
  fadesReflections: flag,
  albedoColor: vector<Color4>(4),
  albedoMap: map,
  alphaClipThreshold: share,
  texcoordScale: vector<Pair>(2, -1e6),
  texcoordOffset: vector<Pair>(2, -1e6),
  fresnelEffectColor: color,
  fresnelEffectExponent: number(0.01, 10),
  fadeOut: share,
  normalMap: map,
  normalMapScale: number(-1e6),
  roughness: share,
  roughnessMap: map,
  metalness: share,
  metalnessMap: map,
  aoMap: map,
  aoScale: number(),
  emissiveColor: color,
  emissiveMap: map,
  vertexAlphaMode: word("occlusion", "lightMask", "opacity"),
  vertexMix: share,
  colorTransparency: word("opaque", "alphaBlend", "additive"),
};

/** How a material begins. */
export const MATERIAL_DEFAULTS: Readonly<MaterialValues> = {
  name: "",
  transparent: false,
  useVertexColor: false,
  doubleSided: false,
  specularHighlights: true,
  alphaClipped: false,
  fadeToBlack: false,
  fresnelEffect: false,
  transparencyWritesDepth: false,
  fadesReflections: false,
  albedoColor: [1, 1, 1, 1],
  albedoMap: undefined,
  alphaClipThreshold: 0.5,
  texcoordScale: [1, 1],
  texcoordOffset: [0, 0],
  fresnelEffectColor: [1, 1, 1],
  fresnelEffectExponent: 1,
  fadeOut: 1,
  normalMap: undefined,
  normalMapScale: 1,
  roughness: 1,
  roughnessMap: undefined,
  metalness: 0,
  metalnessMap: undefined,
  aoMap: undefined,
  aoScale: 1,
  emissiveColor: [0, 0, 0],
  emissiveMap: undefined,
  vertexAlphaMode: "occlusion",
  vertexMix: 1,
  colorTransparency: "opaque",
};

/** What a material has beside its values; see {@link Material}. */
export class MaterialHandle extends Editable<MaterialValues> {
  readonly id: number;
  readonly kind: MaterialKind;
  readonly #home: MaterialHome;
  #alive = true;

  /** @internal */
  constructor(home: MaterialHome, id: number, kind: MaterialKind, values: Partial<MaterialValues> = {}) {
    super({ ...MATERIAL_DEFAULTS, ...values }, CHECKS);
    this.#home = home;
    this.id = id;
    this.kind = kind;
  }

  /** Whether it has not been destroyed, by itself or with its model. */
  get valid(): boolean {
    return this.#alive;
  }

  /** Whether it came with a model; such a one cannot be destroyed. */
  get isModels(): boolean {
    return this.id >= FIRST_MODEL_MATERIAL;
  }

  /** Takes it out; what it was seen on has the mesh's own again. Throws InvalidParam for a model's. Twice is fine. */
  destroy(): void {
    if (!this.#alive) return;
    if (this.isModels) {
      throw new FarframeError("InvalidParam", "A material that came with a model goes with it.", {
        nextStep: "Destroy the model's root.",
      });
    }
    this.#alive = false;
    this.#home.materialDestroyed(this);
  }

  /** @internal */
  forget(): void {
    this.#alive = false;
  }

  protected override judge(next: MaterialValues): void {
    if (!this.#alive) throw new FarframeError("InvalidId", `The material ${this.id} (${next.name}) was destroyed.`);
    if (!this.isModels && MAPS.some((name) => next[name] === "own")) {
      throw new FarframeError("InvalidParam", "Only a model's material has maps of its own.");
    }
  }

  protected override changed(names: readonly (keyof MaterialValues)[]): void {
    this.#home.materialChanged(this, names);
  }
}

giveMembers<MaterialValues>(MaterialHandle.prototype, Object.keys(CHECKS) as (keyof MaterialValues)[]);

/** A material. Its members can be set, one by one or by `set`; what shows it changes with the next frame. */
export type Material = MaterialHandle & MaterialValues;

/** Checked values of a material that is not made yet. Throws InvalidParam, InvalidId, StringTooLong. */
export function makeMaterial(
  home: MaterialHome,
  id: number,
  kind: MaterialKind,
  values: Partial<MaterialValues>,
): Material {
  const quiet: MaterialHome = { ...home, materialChanged: () => undefined };
  const trial = new MaterialHandle(quiet, id, word<MaterialKind>("pbr", "color")("kind", kind));
  trial.set(values);
  return new MaterialHandle(home, id, kind, trial.values) as Material;
}

/** Members as the wire has them. */
export function materialToWire(
  values: Readonly<MaterialValues>,
  names: Iterable<keyof MaterialValues>,
): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const name of names) {
    if (name in FLAGS) {
      found.flags = FLAG_NAMES.reduce((all, each) => all | (values[each] ? FLAGS[each] : 0), 0);
    } else if (MAPS.includes(name as MapName)) {
      const value = values[name as MapName];
      found[name] = value === undefined ? 0 : value === "own" ? OWN_MAP : value.id;
    } else found[name] = values[name];
  }
  return found;
}

/** Members as the wire has them, those at their defaults being absent, as values. */
export function materialFromWire(
  wire: Readonly<Record<string, unknown>>,
  texture: (id: number) => Texture | undefined,
): Partial<MaterialValues> {
  const found: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(wire)) {
    if (name === "flags") {
      for (const each of FLAG_NAMES) found[each] = ((value as number) & FLAGS[each]) !== 0;
    } else if (MAPS.includes(name as MapName)) {
      found[name] = value === OWN_MAP ? "own" : value === 0 ? undefined : texture(value as number);
    } else if (name in CHECKS) found[name] = value;
  }
  return found as Partial<MaterialValues>;
}
