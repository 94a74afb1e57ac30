/** Parameters and results of the `control` channel's methods. `docs/protocol.md` describes each. */

import type { Result } from "./errors.ts";
import type { Vector3 } from "./records.ts";

export const PROTOCOL_VERSION = 1;

/** Azure Remote Rendering's render modes. Here both draw alike, and everything works in both. */
export type RenderMode = "DepthBasedComposition" | "TileBasedComposition";
export const RENDER_MODE_CHOICES = ["Default", "DepthBasedComposition", "TileBasedComposition"] as const;
/** `Default` stands for `DepthBasedComposition`. */
export type RenderModeChoice = (typeof RENDER_MODE_CHOICES)[number];

/** The picture as it is being sent. Pixels; bits per second. */
export interface VideoSettings {
  readonly width: number;
  readonly height: number;
  readonly maxFramesPerSecond: number;
  readonly maxBitrate: number;
}

/** Who draws and encodes. */
export interface ServerInfo {
  readonly version: string;
  readonly adapter: string;
  /** `cpu` or `gpu`. */
  readonly adapterKind: string;
  readonly encoder: string;
}

/** What the server said when the connection opened. */
export interface ConnectionInfo {
  readonly protocol: number;
  readonly sessionId: string;
  readonly size: string;
  readonly server: ServerInfo;
  readonly video: VideoSettings;
  readonly maxWidth: number;
  readonly maxHeight: number;
  /** The one that is in force; absent for who watches, and from older servers. */
  readonly renderMode?: RenderMode;
  /** `driver` (also if absent), or `viewer` for a device that watches. */
  readonly role?: "driver" | "viewer";
  /** For who watches: whether a device drives at present; absent: true. */
  readonly driver?: boolean;
  /** Gives the scene back after a loss; absent where nothing is kept. A secret. */
  readonly resumeSecret?: string;
  readonly resumeGraceSeconds?: number;
  /** Whether this device came back to its scene. */
  readonly resumed?: boolean;
  /** What a device that came back, or that watches, finds. */
  readonly scene?: SceneDescription;
}

/** What is in the scene. */
export interface SceneDescription {
  readonly models: readonly LoadedModel[];
  readonly settings: SceneSettings;
  /** Whether further models did not fit into the message. */
  readonly more?: boolean;
}

/** An axis-aligned box in world space, metres. */
export interface Bounds {
  readonly min: Vector3;
  readonly max: Vector3;
}

/** A loaded model. */
export interface LoadedModel {
  readonly modelId: number;
  readonly name: string;
  readonly uri: string;
  readonly bounds: Bounds;
  readonly partCount: number;
  readonly triangleCount: number;
  readonly vertexCount: number;
  readonly materialCount: number;
  readonly textureCount: number;
  /** What was left out of the model. */
  readonly warnings: readonly string[];
  /** The entity at its root; its others have the ids that follow, `entityCount` in all. */
  readonly rootEntity: number;
  readonly entityCount: number;
  /** Whether parts are entities (`dynamic`), such that cannot be moved (`static`), or there is only the root (`none`). */
  readonly sceneGraphMode: "none" | "static" | "dynamic";
}

/** How far a load is: `stage` is download, read, simplify or upload; `fraction` of the whole, 0 to 1. */
export interface LoadProgress {
  readonly stage: string;
  readonly fraction: number;
}

/** Light and background. Colours are linear RGB; absent members stay as they are. */
export interface SceneSettings {
  readonly lightDirection?: Vector3;
  readonly lightColor?: Vector3;
  readonly lightIntensity?: number;
  readonly environmentIntensity?: number;
  readonly environmentRotation?: number;
  readonly exposure?: number;
  readonly background?: Vector3;
}

/** The server's view of the last second; times are medians in milliseconds. */
export interface ServerStatistics {
  readonly framesPerSecond: number;
  readonly bitrate: number;
  readonly drawMs: number;
  readonly readBackMs: number;
  readonly encodeMs: number;
  readonly triangles: number;
  readonly draws: number;
  readonly samples: number;
  readonly drawnWidth: number;
  readonly drawnHeight: number;
  readonly encoder: string;
  readonly models: number;
  readonly keyframes: number;
  readonly targetBitrate: number;
  /** Why that encoder is used. */
  readonly encoderReason?: string;
  /** Percentiles by stage, in milliseconds, of the last ten seconds' frames, as far as they are known. */
  readonly stages?: Readonly<
    Record<string, { readonly p50: number; readonly p95: number; readonly p99: number; readonly frames: number }>
  >;
  /** By this device's reports, since it connected. */
  readonly framesArrived?: number;
  readonly framesMissing?: number;
  /** "Bad": more triangles and points than the session's size may draw. */
  readonly primitivesRating?: string;
  readonly renderMode?: RenderMode;
}

/** Why the server is about to end the connection. */
export interface SessionEnding {
  readonly reason: Result;
  readonly message: string;
}
