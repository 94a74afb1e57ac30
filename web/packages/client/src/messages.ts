/** Parameters and results of the `control` channel's methods. `docs/protocol.md` describes each. */

import type { Result } from "./errors.ts";
import type { Vector3 } from "./records.ts";

export const PROTOCOL_VERSION = 1;

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
}

/** Why the server is about to end the connection. */
export interface SessionEnding {
  readonly reason: Result;
  readonly message: string;
}
