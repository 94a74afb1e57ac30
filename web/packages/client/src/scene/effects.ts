/** What applies to all of the picture: outlines, shells, sides, z-fighting, sky, near and far, stage, debugging. */

import type { Quaternion, Vector3 } from "../records.ts";
import { flag, invalid, number, rotation, text, vector, word } from "./checks.ts";
import { Group } from "./editable.ts";
import { type Color3, Texture, textureOf } from "./materials.ts";

/** Of what is selected. With a pulse, opacity goes between 1 and 1 - `pulseIntensity`. */
export interface OutlineValues {
  /** Linear, 0 to 1. */
  color: Color3;
  /** 0 to 60. */
  pulseRateHz: number;
  /** 0 to 1. */
  pulseIntensity: number;
}

/** Of shells: `desaturation` 1 is grey, `opacity` 1 hides what is behind. */
export interface ShellValues {
  desaturation: number;
  opacity: number;
}

/** Surfaces in the same place no longer flicker; `highlighting` shows where they lie. */
export interface ZFightingValues {
  enabled: boolean;
  highlighting: boolean;
}

/** Clip distances, metres, in the place of those of poses; 0 and 0: those of the poses count. Set both together. */
export interface CameraValues {
  near: number;
  far: number;
}

/** Where the space of the device's poses stands in the world. */
export interface StageValues {
  position: Vector3;
  rotation: Quaternion;
}

/** Shown in the picture itself. */
export interface DebugValues {
  frameCount: boolean;
  polygonCount: boolean;
  /** Edges of triangles. */
  wireframe: boolean;
  /** Lines where surfaces end or fold. */
  edges: boolean;
}

/** How surfaces are drawn that have one side. */
export type SingleSidedMode = "normal" | "dynamicDoubleSiding" | "alwaysDoubleSided";

/** A built-in sky by name, or a texture: a cube map, or a 2D one in spherical layout. */
export type Sky = string | Texture;

export type Outline = Group<OutlineValues> & OutlineValues;
export type Shell = Group<ShellValues> & ShellValues;
export type ZFighting = Group<ZFightingValues> & ZFightingValues;
export type CameraOverride = Group<CameraValues> & CameraValues;
export type StageSpace = Group<StageValues> & StageValues;
export type Debug = Group<DebugValues> & DebugValues;

const BUILT_IN_SKY = "builtin://Studio";
const MAX_METERS = 1e9;
const share = number(0, 1);
const MODES = word<SingleSidedMode>("normal", "dynamicDoubleSiding", "alwaysDoubleSided");

/** All of it, for a {@link Scene}. */
export class Effects {
  readonly outline: Outline;
  readonly shell: Shell;
  readonly zFighting: ZFighting;
  readonly camera: CameraOverride;
  readonly stage: StageSpace;
  readonly debug: Debug;
  readonly #change: (changes: Record<string, unknown>) => void;
  #singleSided: SingleSidedMode = "dynamicDoubleSiding";
  #pointSize = 1;
  #sky: Sky = BUILT_IN_SKY;

  /** `change` gets what is to be sent, as the wire has it. */
  constructor(change: (changes: Record<string, unknown>) => void) {
    this.#change = change;
    this.outline = new Group<OutlineValues>(
      { color: [1, 1, 0], pulseRateHz: 0, pulseIntensity: 0 },
      { color: vector<Color3>(3, 0, 1), pulseRateHz: number(0, 60), pulseIntensity: share },
      (outline) => change({ outline }),
    ) as Outline;
    this.shell = new Group<ShellValues>(
      { desaturation: 0.5, opacity: 0.5 },
      { desaturation: share, opacity: share },
      (shell) => change({ shell }),
    ) as Shell;
    this.zFighting = new Group<ZFightingValues>(
      { enabled: true, highlighting: false },
      { enabled: flag, highlighting: flag },
      (zFighting) => change({ zFighting }),
    ) as ZFighting;
    const distance = number(0, MAX_METERS);
    this.camera = new Group<CameraValues>(
      { near: 0, far: 0 },
      { near: distance, far: distance },
      // One without the other would be refused.
      () => change({ camera: { ...this.camera.values } }),
      ({ near, far }) => {
        if (!((near === 0 && far === 0) || (near >= 1e-6 && near < far))) {
          throw invalid("near must be positive and far beyond it: set both together.");
        }
      },
    ) as CameraOverride;
    this.stage = new Group<StageValues>(
      { position: [0, 0, 0], rotation: [0, 0, 0, 1] },
      { position: vector<Vector3>(3, -MAX_METERS, MAX_METERS), rotation },
      (stage) => change({ stage }),
    ) as StageSpace;
    this.debug = new Group<DebugValues>(
      { frameCount: false, polygonCount: false, wireframe: false, edges: false },
      { frameCount: flag, polygonCount: flag, wireframe: flag, edges: flag },
      (debug) => change({ debug }),
    ) as Debug;
  }

  get singleSided(): SingleSidedMode {
    return this.#singleSided;
  }

  set singleSided(mode: SingleSidedMode) {
    this.#singleSided = MODES("singleSided", mode);
    this.#change({ singleSided: mode });
  }

  /** A factor on the size of points, 0 to 1,000. */
  get pointSize(): number {
    return this.#pointSize;
  }

  set pointSize(size: number) {
    this.#pointSize = number(0, 1000)("pointSize", size);
    this.#change({ pointSize: size });
  }

  get sky(): Sky {
    return this.#sky;
  }

  set sky(sky: Sky) {
    if (sky instanceof Texture) {
      textureOf(sky.kind)("sky", sky);
      this.#change({ sky: { texture: sky.id } });
    } else {
      if (text(8192)("sky", sky) === "") throw invalid("A sky has a name.");
      this.#change({ sky: { uri: sky, texture: 0 } });
    }
    this.#sky = sky;
  }

  /** Takes over what the server holds; members that it does not tell are as they began. */
  adopt(wire: Readonly<Record<string, unknown>>, texture: (id: number) => Texture | undefined): void {
    const part = <V>(name: string): Partial<V> => (wire[name] ?? {}) as Partial<V>;
    this.outline.adopt(part("outline"));
    this.shell.adopt(part("shell"));
    this.zFighting.adopt(part("zFighting"));
    this.camera.adopt(part("camera"));
    this.stage.adopt(part("stage"));
    this.debug.adopt(part("debug"));
    this.#singleSided = (wire.singleSided as SingleSidedMode | undefined) ?? "dynamicDoubleSiding";
    this.#pointSize = (wire.pointSize as number | undefined) ?? 1;
    const sky = part<{ uri: string; texture: number }>("sky");
    this.#sky = (sky.texture ? texture(sky.texture) : undefined) ?? sky.uri ?? BUILT_IN_SKY;
  }
}
