/**
 * What this device tells the server about the frames that it got: about ten small records a second, and none without frames.
 *
 * The channel may lose records, so each frame is told twice, in two records one after the other.
 */

import type { ClockAlignment } from "./clock.ts";
import type { ShownFrame } from "./ledger.ts";
import { encodeReport, MAX_REPORTED_FRAMES, type ReportedFrame } from "./records.ts";

export const REPORT_INTERVAL_MILLISECONDS = 100;

/** The `pose` channel and a timer, as far as they matter here. */
export interface FrameReporterEnvironment {
  send(bytes: ArrayBuffer): void;
  setTimer(callback: () => void, milliseconds: number): ReturnType<typeof setTimeout>;
  clearTimer(timer: ReturnType<typeof setTimeout>): void;
}

export class FrameReporter {
  readonly #environment: FrameReporterEnvironment;
  readonly #clock: ClockAlignment;
  #fresh: ReportedFrame[] = [];
  #told: ReportedFrame[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  constructor(environment: FrameReporterEnvironment, clock: ClockAlignment) {
    this.#environment = environment;
    this.#clock = clock;
  }

  /** A frame that is shown; its times are milliseconds on `performance.now()`'s clock. */
  add(frame: ShownFrame): void {
    if (this.#stopped) return;
    const { receivedAt, shownAt, decodeMilliseconds } = frame;
    const decodedAt =
      receivedAt === undefined || decodeMilliseconds === undefined
        ? undefined
        : Math.min(receivedAt + decodeMilliseconds, Math.max(receivedAt, shownAt));
    const micro = (at: number | undefined): number | undefined => (at === undefined ? undefined : at * 1000);
    this.#fresh.push({
      rtpTimestamp: frame.rtpTimestamp,
      receivedMicroseconds: micro(receivedAt),
      decodedMicroseconds: micro(decodedAt),
      shownMicroseconds: micro(shownAt),
    });
    if (this.#fresh.length > MAX_REPORTED_FRAMES) this.#fresh.shift();
    this.#timer ??= this.#environment.setTimer(() => this.#report(), REPORT_INTERVAL_MILLISECONDS);
  }

  /** The stream begins anew, and with it the time stamps: what was shown of the former one is not told any more. */
  forget(): void {
    this.#fresh = [];
    this.#told = [];
  }

  /** Ends all sending. */
  stop(): void {
    this.#stopped = true;
    if (this.#timer !== undefined) this.#environment.clearTimer(this.#timer);
    this.#timer = undefined;
  }

  #report(): void {
    this.#timer = undefined;
    if (this.#stopped || this.#fresh.length === 0) return;
    const room = MAX_REPORTED_FRAMES - this.#fresh.length;
    const again = room > 0 ? this.#told.slice(-room) : [];
    this.#environment.send(
      encodeReport({
        frames: [...again, ...this.#fresh],
        clockOffsetMicroseconds: this.#clock.offsetMicroseconds,
        roundTripMicroseconds: this.#clock.bestRoundTripMicroseconds ?? 0,
      }),
    );
    this.#told = this.#fresh;
    this.#fresh = [];
  }
}
