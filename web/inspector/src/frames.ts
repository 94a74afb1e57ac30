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

/** What the device reports of a frame's way, in order; missing until it has. */
export const DEVICE_STAGES = ["network", "decode", "show"] as const;
export type DeviceStage = (typeof DEVICE_STAGES)[number];

export const INSPECTED_STAGES = [...SERVER_STAGES, ...DEVICE_STAGES] as const;
export type InspectedStage = ServerStage | DeviceStage;

export const INSPECTED_STAGE_TITLES: Readonly<Record<InspectedStage, string>> = {
  ...SERVER_STAGE_TITLES,
  network: "Network",
  decode: "Decode",
  show: "Show",
};

/** A frame: milliseconds by stage, and what it shows. */
export interface InspectedFrame {
  readonly frameId: number;
  readonly poseId: number;
  /** The server's clock when it was sent, milliseconds. */
  readonly at: number;
  readonly stages: Readonly<Record<ServerStage, number>>;
  /** Milliseconds from its pose's arrival until it was handed to the network. */
  readonly sent: number;
  /** What the device reported, if it did. */
  device?: Readonly<Partial<Record<DeviceStage, number>>>;
  /** It never arrived at the device. */
  missing?: boolean;
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
    sent: number("sentMicroseconds") / 1000,
    bytes: number("encodedBytes"),
    drawnWidth: number("drawnWidth"),
    drawnHeight: number("drawnHeight"),
    samples: number("samples"),
    triangles: number("triangles"),
    kind: keepAlive ? "keep-alive" : still ? "still" : line.keyframe === true ? "keyframe" : "",
  };
  return [frame.frameId, frame.at, ...Object.values(frame.stages)].every(Number.isFinite) ? frame : undefined;
}

/** The milliseconds of a stage of a frame; undefined where the device has not said it. */
export function stageOf(frame: InspectedFrame, stage: InspectedStage): number | undefined {
  return stage in frame.stages ? frame.stages[stage as ServerStage] : frame.device?.[stage as DeviceStage];
}

/** Adds a line of `GET /ledger` that tells what became of a frame to that frame; whether it was such a line. */
export function addDeviceLine(frames: readonly InspectedFrame[], line: Readonly<Record<string, unknown>>): boolean {
  const at = (name: string): number | undefined => {
    const value = line[`${name}Microseconds`];
    return typeof value === "number" && Number.isFinite(value) ? value / 1000 : undefined;
  };
  if (typeof line.frameId !== "number" || "poseId" in line) return false;
  const frame = frames.findLast(({ frameId }) => frameId === line.frameId);
  if (!frame) return true;
  if (line.missing === true) frame.missing = true;
  const [received, decoded, shown] = [at("received"), at("decoded"), at("shown")];
  const between = (from: number | undefined, to: number | undefined): number | undefined =>
    from === undefined || to === undefined ? undefined : Math.max(0, to - from);
  const device: Partial<Record<DeviceStage, number>> = {};
  const steps = {
    network: between(frame.sent, received),
    decode: between(received, decoded),
    // Nothing is painted for what looks the same; it is shown with the next picture, which is no delay of its own.
    show: frame.kind === "keep-alive" ? undefined : between(decoded, shown),
  };
  for (const stage of DEVICE_STAGES) {
    const value = steps[stage];
    if (value !== undefined) device[stage] = value;
  }
  frame.device = device;
  return true;
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
