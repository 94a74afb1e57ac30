/** The server's ledger as its inspector shows it. */

/** The server's part of a frame's way, in order. */
export const SERVER_STAGES = ["wait", "draw", "readBack", "encode", "send"] as const;
export type ServerStage = (typeof SERVER_STAGES)[number];

export const SERVER_STAGE_TITLES: Readonly<Record<ServerStage, string>> = {
  wait: "Wait for draw",
  draw: "Draw",
  readBack: "Read back",
  encode: "Encode",
  send: "Send",
};

/** A frame: milliseconds by stage, and what it shows. */
export interface InspectedFrame {
  readonly frameId: number;
  readonly poseId: number;
  /** The server's clock when it was sent, milliseconds. */
  readonly at: number;
  readonly stages: Readonly<Record<ServerStage, number>>;
  readonly bytes: number;
  readonly drawnWidth: number;
  readonly drawnHeight: number;
  readonly samples: number;
  readonly triangles: number;
  readonly kind: "keyframe" | "still" | "keep-alive" | "";
}

/**
 * A line of `GET /ledger` as a frame; undefined for something else. `lastPoseId` is that of the frame before: only the
 * first frame of a pose has waited for its drawing, later ones are drawn for other reasons than a pose.
 */
export function readFrame(line: Readonly<Record<string, unknown>>, lastPoseId?: number): InspectedFrame | undefined {
  const number = (name: string): number => (typeof line[name] === "number" ? line[name] : Number.NaN);
  const since = (from: string, to: string): number =>
    Math.max(0, number(`${to}Microseconds`) - (from ? number(`${from}Microseconds`) : 0)) / 1000;
  const keepAlive = line.keepAlive === true;
  const still = line.still === true;
  const frame: InspectedFrame = {
    frameId: number("frameId"),
    poseId: number("poseId"),
    at: number("serverTimeMicroseconds") / 1000,
    stages: {
      wait: keepAlive || still || number("poseId") === lastPoseId ? 0 : since("", "drawStart"),
      draw: since("drawStart", "drawEnd"),
      readBack: since("drawEnd", "readBack"),
      encode: since(keepAlive ? "encodeStart" : "readBack", "encodeEnd"),
      send: since("encodeEnd", "sent"),
    },
    bytes: number("encodedBytes"),
    drawnWidth: number("drawnWidth"),
    drawnHeight: number("drawnHeight"),
    samples: number("samples"),
    triangles: number("triangles"),
    kind: keepAlive ? "keep-alive" : still ? "still" : line.keyframe === true ? "keyframe" : "",
  };
  return [frame.frameId, frame.at, ...Object.values(frame.stages)].every(Number.isFinite) ? frame : undefined;
}

/** The last second before the newest frame, in numbers. */
export function summarize(frames: readonly InspectedFrame[]): {
  fps: number;
  bitrate: number;
  median: number;
  high: number;
} {
  const newest = frames.at(-1)?.at ?? 0;
  const recent = frames.filter(({ at }) => at > newest - 1000);
  const totals = recent
    .filter(({ kind }) => kind !== "keep-alive")
    .map(({ stages }) => Object.values(stages).reduce((sum, value) => sum + value, 0))
    .sort((a, b) => a - b);
  return {
    fps: recent.length,
    bitrate: recent.reduce((sum, frame) => sum + frame.bytes * 8, 0),
    median: totals[Math.floor(totals.length / 2)] ?? 0,
    high: totals[Math.min(totals.length - 1, Math.floor(totals.length * 0.95))] ?? 0,
  };
}
