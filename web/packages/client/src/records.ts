/**
 * The binary records of the `pose` and `frames` data channels, byte for byte as `docs/protocol.md` lays them out.
 *
 * Little-endian, packed, one or two views. Metres, microseconds, radians; right-handed world, +Y up; a view looks
 * along its own -Z with +X to its right. Half angles of a field of view are signed: `left` and `down` are negative in
 * a symmetric view.
 */

import { FarframeError } from "./errors.ts";

export const RECORD_VERSION = 1;
export const POSE_TYPE = 1;
export const FRAME_TYPE = 2;
export const REPORT_TYPE = 4;
export const MAX_VIEWS = 2;
export const MAX_REPORTED_FRAMES = 64;

const POSE_HEAD_BYTES = 16;
const FRAME_HEAD_BYTES = 80;
const VIEW_BYTES = 64;
const REPORT_HEAD_BYTES = 24;
const REPORTED_BYTES = 16;
const POSE_PREDICT = 1;
const POSE_ORTHOGRAPHIC = 2;
const FRAME_ORTHOGRAPHIC = 16;
const NOT_KNOWN = 0xffff_ffff;

export type Vector3 = readonly [x: number, y: number, z: number];
/** A unit quaternion as x, y, z, w. */
export type Quaternion = readonly [x: number, y: number, z: number, w: number];

/** Signed half angles in radians; of an orthographic view metres from its axis to the edges of the picture. */
export interface FieldOfView {
  readonly left: number;
  readonly right: number;
  readonly up: number;
  readonly down: number;
}

/** One eye: where it is, where it looks and what it sees. Clip distances in metres. */
export interface View {
  readonly position: Vector3;
  readonly orientation: Quaternion;
  readonly fieldOfView: FieldOfView;
  readonly near: number;
  readonly far: number;
  /** All rays are parallel. The views of a record agree in this. */
  readonly orthographic?: boolean;
}

/** Where the device is. `poseId` counts up modulo 2^32; `clientTimeMicroseconds` is the device's own clock, microseconds. */
export interface PoseRecord {
  readonly poseId: number;
  readonly clientTimeMicroseconds: number;
  readonly views: readonly View[];
  /** The device moves by itself, as a head does: draw for where it will be when the frame is shown. */
  readonly predict?: boolean;
}

/** What became of a frame: microseconds on our clock, undefined where it did not happen or is not known. */
export interface ReportedFrame {
  readonly rtpTimestamp: number;
  readonly receivedMicroseconds?: number | undefined;
  readonly decodedMicroseconds?: number | undefined;
  readonly shownMicroseconds?: number | undefined;
}

/** What a device says about up to {@link MAX_REPORTED_FRAMES} frames. The offset is the server's clock minus ours. */
export interface FrameReport {
  readonly frames: readonly ReportedFrame[];
  readonly clockOffsetMicroseconds: number | undefined;
  readonly roundTripMicroseconds: number;
}

/** What a video frame shows and how long each step took. All integers. */
export interface FrameRecord {
  readonly frameId: number;
  /** 90 kHz; equals `rtpTimestamp` of the browser's frame callback. */
  readonly rtpTimestamp: number;
  /** The pose that the frame was drawn for. */
  readonly poseId: number;
  /** The device's clock when it made that pose. */
  readonly clientTimeMicroseconds: number;
  /** The server's clock when that pose arrived. The following six count from here. */
  readonly poseReceivedMicroseconds: number;
  readonly drawStartMicroseconds: number;
  readonly drawEndMicroseconds: number;
  readonly readBackMicroseconds: number;
  readonly encodeStartMicroseconds: number;
  readonly encodeEndMicroseconds: number;
  readonly sentMicroseconds: number;
  readonly encodedBytes: number;
  readonly width: number;
  readonly height: number;
  readonly drawnWidth: number;
  readonly drawnHeight: number;
  /** Samples per pixel. */
  readonly samples: number;
  /** Parts drawn below full detail, saturating at 65535. */
  readonly reducedParts: number;
  readonly triangles: number;
  readonly draws: number;
  readonly views: readonly View[];
  readonly keyframe: boolean;
  /** Drawn with full quality: nothing has moved for a while. */
  readonly still: boolean;
  /** The last picture again; neither pose nor scene changed. `still` with it, if that has full quality. */
  readonly keepAlive: boolean;
  /** More triangles and points than the session's size may draw, drawn as coarsely as may be: rated "Bad". */
  readonly overLimit: boolean;
}

function setUint64(data: DataView, offset: number, value: number): void {
  data.setUint32(offset, value >>> 0, true);
  data.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000) >>> 0, true);
}

function getUint64(data: DataView, offset: number): number {
  return data.getUint32(offset, true) + data.getUint32(offset + 4, true) * 0x1_0000_0000;
}

function setView(data: DataView, offset: number, view: View): void {
  const { position, orientation, fieldOfView } = view;
  position.forEach((value, index) => {
    data.setFloat64(offset + 8 * index, value, true);
  });
  const floats = [
    ...orientation,
    fieldOfView.left,
    fieldOfView.right,
    fieldOfView.up,
    fieldOfView.down,
    view.near,
    view.far,
  ];
  floats.forEach((value, index) => {
    data.setFloat32(offset + 24 + 4 * index, value, true);
  });
}

function getView(data: DataView, offset: number, orthographic: boolean): View {
  const f64 = (index: number): number => data.getFloat64(offset + 8 * index, true);
  const f32 = (index: number): number => data.getFloat32(offset + 24 + 4 * index, true);
  return {
    position: [f64(0), f64(1), f64(2)],
    orientation: [f32(0), f32(1), f32(2), f32(3)],
    fieldOfView: { left: f32(4), right: f32(5), up: f32(6), down: f32(7) },
    near: f32(8),
    far: f32(9),
    ...(orthographic && { orthographic }),
  };
}

/** The bytes of a pose record. Throws `InvalidParam` unless it has one or two views. */
export function encodePose(record: PoseRecord): ArrayBuffer {
  const count = record.views.length;
  if (count < 1 || count > MAX_VIEWS) {
    throw new FarframeError("InvalidParam", `A pose carries 1 or ${MAX_VIEWS} views, not ${count}.`);
  }
  const data = new DataView(new ArrayBuffer(POSE_HEAD_BYTES + VIEW_BYTES * count));
  data.setUint8(0, POSE_TYPE);
  data.setUint8(1, RECORD_VERSION);
  data.setUint8(2, count);
  const orthographic = record.views[0]?.orthographic ?? false;
  if (record.views.some((view) => (view.orthographic ?? false) !== orthographic)) {
    throw new FarframeError("InvalidParam", "The views of a pose are all orthographic, or none is.");
  }
  data.setUint8(3, (record.predict ? POSE_PREDICT : 0) | (orthographic ? POSE_ORTHOGRAPHIC : 0));
  data.setUint32(4, record.poseId >>> 0, true);
  setUint64(data, 8, record.clientTimeMicroseconds);
  record.views.forEach((view, index) => {
    setView(data, POSE_HEAD_BYTES + VIEW_BYTES * index, view);
  });
  return data.buffer;
}

/** The bytes of a report. Throws `InvalidParam` for none or too many frames. */
export function encodeReport(report: FrameReport): ArrayBuffer {
  const count = report.frames.length;
  if (count < 1 || count > MAX_REPORTED_FRAMES) {
    throw new FarframeError("InvalidParam", `A report carries 1 to ${MAX_REPORTED_FRAMES} frames, not ${count}.`);
  }
  const times = report.frames.map((frame) => [
    frame.receivedMicroseconds,
    frame.decodedMicroseconds,
    frame.shownMicroseconds,
  ]);
  const known = times.flat().flatMap((time) => (time === undefined ? [] : [Math.round(time)]));
  const base = Math.max(
    0,
    known.reduce((least, time) => Math.min(least, time), known[0] ?? 0),
  );
  const data = new DataView(new ArrayBuffer(REPORT_HEAD_BYTES + REPORTED_BYTES * count));
  data.setUint8(0, REPORT_TYPE);
  data.setUint8(1, RECORD_VERSION);
  data.setUint8(2, count);
  data.setUint8(3, report.clockOffsetMicroseconds === undefined ? 0 : 1);
  data.setUint32(4, Math.min(Math.max(Math.round(report.roundTripMicroseconds), 0), NOT_KNOWN), true);
  data.setBigInt64(8, BigInt(Math.round(report.clockOffsetMicroseconds ?? 0)), true);
  setUint64(data, 16, base);
  report.frames.forEach((frame, index) => {
    const offset = REPORT_HEAD_BYTES + REPORTED_BYTES * index;
    data.setUint32(offset, frame.rtpTimestamp >>> 0, true);
    (times[index] as (number | undefined)[]).forEach((time, place) => {
      const since = time === undefined ? NOT_KNOWN : Math.round(time) - base;
      data.setUint32(offset + 4 + 4 * place, since >= 0 && since < NOT_KNOWN ? since : NOT_KNOWN, true);
    });
  });
  return data.buffer;
}

function checkHead(data: DataView, type: number, headBytes: number, name: string): number {
  if (data.byteLength < headBytes || data.getUint8(0) !== type) {
    throw new FarframeError("ProtocolError", `Not a ${name} record.`);
  }
  const version = data.getUint8(1);
  if (version !== RECORD_VERSION) {
    throw new FarframeError(
      "ProtocolVersionMismatch",
      `The ${name} record has version ${version}; this side speaks version ${RECORD_VERSION}.`,
      { nextStep: "Update the older side." },
    );
  }
  const count = data.getUint8(2);
  if (count < 1 || count > MAX_VIEWS || data.byteLength !== headBytes + VIEW_BYTES * count) {
    throw new FarframeError("ProtocolError", `The ${name} record's length does not fit its view count.`);
  }
  return count;
}

function getViews(data: DataView, offset: number, count: number, orthographic: boolean): View[] {
  return Array.from({ length: count }, (_, index) => getView(data, offset + VIEW_BYTES * index, orthographic));
}

/** A pose record from bytes. Throws `ProtocolError` or `ProtocolVersionMismatch` for anything that is none. */
export function decodePose(buffer: ArrayBuffer): PoseRecord {
  const data = new DataView(buffer);
  const count = checkHead(data, POSE_TYPE, POSE_HEAD_BYTES, "pose");
  const flags = data.getUint8(3);
  return {
    poseId: data.getUint32(4, true),
    clientTimeMicroseconds: getUint64(data, 8),
    views: getViews(data, POSE_HEAD_BYTES, count, (flags & POSE_ORTHOGRAPHIC) !== 0),
    ...((flags & POSE_PREDICT) !== 0 ? { predict: true } : {}),
  };
}

/** A frame record from bytes. Throws `ProtocolError` or `ProtocolVersionMismatch` for anything that is none. */
export function decodeFrame(buffer: ArrayBuffer): FrameRecord {
  const data = new DataView(buffer);
  const count = checkHead(data, FRAME_TYPE, FRAME_HEAD_BYTES, "frame");
  const u32 = (offset: number): number => data.getUint32(offset, true);
  const u16 = (offset: number): number => data.getUint16(offset, true);
  const flags = data.getUint8(3);
  return {
    frameId: u32(4),
    rtpTimestamp: u32(8),
    poseId: u32(12),
    clientTimeMicroseconds: getUint64(data, 16),
    poseReceivedMicroseconds: getUint64(data, 24),
    drawStartMicroseconds: u32(32),
    drawEndMicroseconds: u32(36),
    readBackMicroseconds: u32(40),
    encodeStartMicroseconds: u32(44),
    encodeEndMicroseconds: u32(48),
    sentMicroseconds: u32(52),
    encodedBytes: u32(56),
    width: u16(60),
    height: u16(62),
    drawnWidth: u16(64),
    drawnHeight: u16(66),
    samples: data.getUint8(68),
    reducedParts: u16(70),
    triangles: u32(72),
    draws: u32(76),
    views: getViews(data, FRAME_HEAD_BYTES, count, (flags & FRAME_ORTHOGRAPHIC) !== 0),
    keyframe: (flags & 1) !== 0,
    still: (flags & 2) !== 0,
    keepAlive: (flags & 4) !== 0,
    overLimit: (flags & 8) !== 0,
  };
}
