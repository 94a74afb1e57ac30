/**
 * The ledger: for each frame that was shown, how long each step from the pose to the eye took.
 *
 * The server's record of a frame (data channel `frames`) and the browser's frame callback meet by RTP timestamp,
 * whichever comes first. The server's times are put on our clock with {@link ClockAlignment}.
 */

import type { FrameRecord } from "./records.ts";

/** The steps of a frame's way, in order. */
export const STAGES = ["input", "wait", "draw", "readBack", "encode", "send", "network", "decode", "show"] as const;

/** `input` pose to server; `wait` until drawing began; `draw`; `readBack`; `encode` with the wait for the encoder;
 * `send` until handed to the network; `network` until the last packet came; `decode`; `show` jitter buffer and screen. */
export type Stage = (typeof STAGES)[number];

/** Milliseconds by stage. */
export type StageTimes = Readonly<Record<Stage, number>>;

/** What the browser says about a frame that it shows. Milliseconds on `performance.now()`'s clock. */
export interface ShownFrame {
  readonly rtpTimestamp: number;
  readonly shownAt: number;
  /** When the browser handed it to the screen; `shownAt` is when it was to be seen there. */
  readonly presentedAt?: number | undefined;
  /** When the frame's last packet came. */
  readonly receivedAt?: number | undefined;
  readonly decodeMilliseconds?: number | undefined;
  readonly width: number;
  readonly height: number;
}

/** A frame that was shown, with the server's record of it. */
export interface LedgerEntry {
  readonly record: FrameRecord;
  readonly shown: ShownFrame;
  /** Whether this is the first frame shown for its pose: only then do times since the pose mean latency. */
  readonly newPose: boolean;
  /** Milliseconds from pose to screen, for the first frame of a pose. */
  readonly latency: number | undefined;
  /** The same by stage; undefined before the clocks are aligned. Sums up to `latency`. */
  readonly stages: StageTimes | undefined;
}

/** The last second in numbers. */
export interface LedgerSummary {
  readonly framesPerSecond: number;
  /** Median and 95th percentile of the latency in milliseconds, over the frames kept; undefined without any. */
  readonly latencyMedian: number | undefined;
  readonly latencyHigh: number | undefined;
  /** Median by stage. */
  readonly stages: StageTimes | undefined;
  /** Records whose frame was never shown, in all. */
  readonly notShown: number;
}

const KEPT_UNMATCHED = 240;
const KEPT_ENTRIES = 600;
const LATENCY_WINDOW = 60;

function quantile(values: number[], fraction: number): number | undefined {
  if (values.length === 0) return undefined;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))];
}

/** Whether pose `a` is newer than `b`, both modulo 2^32. */
export function isNewer(a: number, b: number): boolean {
  return a !== b && (a - b) >>> 0 < 0x8000_0000;
}

export class Ledger {
  readonly #records = new Map<number, FrameRecord>();
  readonly #shown = new Map<number, ShownFrame>();
  readonly #entries: LedgerEntry[] = [];
  readonly #clockOffsetMicroseconds: () => number | undefined;
  #lastPose: number | undefined;
  #notShown = 0;
  /** When the last of those were found never to be shown, milliseconds. */
  readonly #skippedAt: number[] = [];

  /** `clockOffsetMicroseconds` gives the server's clock minus ours, microseconds, or undefined while it is unknown. */
  constructor(clockOffsetMicroseconds: () => number | undefined) {
    this.#clockOffsetMicroseconds = clockOffsetMicroseconds;
  }

  /** The last frames that were shown, oldest first. */
  get entries(): readonly LedgerEntry[] {
    return this.#entries;
  }

  /** How many frames of the second before `now` (milliseconds) were found never to be shown. */
  skipped(now: number): number {
    return this.#skippedAt.filter((at) => at > now - 1000).length;
  }

  /** Forgets what waits for its other half: a stream that begins anew uses the same time stamps. */
  forgetUnmatched(): void {
    this.#records.clear();
    this.#shown.clear();
  }

  /** The server's record of a frame. Returns the entry when the frame was shown already. */
  addRecord(record: FrameRecord): LedgerEntry | undefined {
    const shown = this.#shown.get(record.rtpTimestamp);
    if (shown) {
      this.#shown.delete(record.rtpTimestamp);
      return this.#match(record, shown);
    }
    this.#records.set(record.rtpTimestamp, record);
    while (this.#records.size > KEPT_UNMATCHED) {
      this.#records.delete(this.#records.keys().next().value as number);
      this.#notShown += 1;
    }
    return undefined;
  }

  /** A frame that the browser shows. Returns the entry when its record is there. */
  addShown(shown: ShownFrame): LedgerEntry | undefined {
    const record = this.#records.get(shown.rtpTimestamp);
    if (!record) {
      this.#shown.set(shown.rtpTimestamp, shown);
      while (this.#shown.size > KEPT_UNMATCHED) this.#shown.delete(this.#shown.keys().next().value as number);
      return undefined;
    }
    // Frames are shown in order: records of earlier frames have no picture to come.
    for (const [timestamp, earlier] of this.#records) {
      if (!isNewer(record.frameId, earlier.frameId)) continue;
      this.#records.delete(timestamp);
      this.#notShown += 1;
      this.#skippedAt.push(shown.shownAt);
      if (this.#skippedAt.length > KEPT_ENTRIES) this.#skippedAt.shift();
    }
    this.#records.delete(shown.rtpTimestamp);
    return this.#match(record, shown);
  }

  /** The second before `now` (milliseconds) in numbers; latency over the last 60 frames that showed a new pose. */
  summary(now: number): LedgerSummary {
    const recent = this.#entries.filter((entry) => entry.shown.shownAt > now - 1000 && !entry.record.keepAlive);
    const timed = this.#entries.filter((entry) => entry.latency !== undefined).slice(-LATENCY_WINDOW);
    const latencies = timed.flatMap((entry) => entry.latency ?? []);
    const staged = timed.flatMap((entry) => entry.stages ?? []);
    const stages =
      staged.length === 0
        ? undefined
        : (Object.fromEntries(
            STAGES.map((stage) => [
              stage,
              quantile(
                staged.map((times) => times[stage]),
                0.5,
              ) ?? 0,
            ]),
          ) as Record<Stage, number>);
    return {
      framesPerSecond: recent.length,
      latencyMedian: quantile(latencies, 0.5),
      latencyHigh: quantile(latencies, 0.95),
      stages,
      notShown: this.#notShown,
    };
  }

  #match(record: FrameRecord, shown: ShownFrame): LedgerEntry {
    const newPose =
      !record.keepAlive &&
      !record.still &&
      record.clientTimeMicroseconds > 0 &&
      (this.#lastPose === undefined || isNewer(record.poseId, this.#lastPose));
    if (this.#lastPose === undefined || isNewer(record.poseId, this.#lastPose)) this.#lastPose = record.poseId;
    const offset = this.#clockOffsetMicroseconds();
    const entry: LedgerEntry = {
      record,
      shown,
      newPose,
      latency: newPose ? shown.shownAt - record.clientTimeMicroseconds / 1000 : undefined,
      stages: newPose && offset !== undefined ? stageTimes(record, shown, offset) : undefined,
    };
    this.#entries.push(entry);
    if (this.#entries.length > KEPT_ENTRIES) this.#entries.shift();
    return entry;
  }
}

/**
 * Milliseconds by stage of a frame. `offsetMicroseconds` is the server's clock minus ours. The two network stages carry the
 * clock's error with opposite signs; where one would be negative it becomes 0 and the other takes it, so that the sum holds.
 */
export function stageTimes(record: FrameRecord, shown: ShownFrame, offsetMicroseconds: number): StageTimes {
  const poseReceived = (record.poseReceivedMicroseconds - offsetMicroseconds) / 1000;
  const receivedAt = shown.receivedAt ?? shown.shownAt;
  let input = poseReceived - record.clientTimeMicroseconds / 1000;
  let network = receivedAt - (poseReceived + record.sentMicroseconds / 1000);
  if (input < 0) {
    network += input;
    input = 0;
  } else if (network < 0) {
    input = Math.max(0, input + network);
    network = 0;
  }
  const after = Math.max(0, shown.shownAt - receivedAt);
  const decode = Math.min(shown.decodeMilliseconds ?? 0, after);
  const between = (from: number, to: number): number => Math.max(0, to - from) / 1000;
  return {
    input,
    wait: record.drawStartMicroseconds / 1000,
    draw: between(record.drawStartMicroseconds, record.drawEndMicroseconds),
    readBack: between(record.drawEndMicroseconds, record.readBackMicroseconds),
    encode: between(record.readBackMicroseconds, record.encodeEndMicroseconds),
    send: between(record.encodeEndMicroseconds, record.sentMicroseconds),
    network: Math.max(0, network),
    decode,
    show: after - decode,
  };
}
