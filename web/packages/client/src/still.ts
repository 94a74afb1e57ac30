/** Whether the newest picture on the screen is the one of full quality that shows all that was asked for. */

import { isNewer, type LedgerEntry } from "./ledger.ts";

/** What has been asked for so far. */
export interface Asked {
  /** Of the last pose sent. */
  readonly poseId: number;
  /** A newer pose waits to be sent. */
  readonly poseWaits: boolean;
  /** Pixels. A line that carries too little gets a smaller picture for a while. */
  readonly width: number;
  readonly height: number;
  /** The server's clock when it gave its newest result of anything that may change the picture. */
  readonly answeredMicroseconds: number;
}

/**
 * A server draws the still picture once, then repeats it until something changes: it stays valid as long as only
 * keep-alives follow, and each of them confirms it for a later moment. All moments are on the server's clock, so that
 * it does not matter how well the clocks are aligned.
 */
export class StillTracker {
  #newest: LedgerEntry | undefined;
  #still = false;

  /** Notes a frame that was shown. False for one whose record came late: another is on the screen by now. */
  add(entry: LedgerEntry): boolean {
    const { record } = entry;
    // By time: for one who watches, frames are numbered anew with each device that drives.
    if (this.#newest && !isNewer(record.rtpTimestamp, this.#newest.record.rtpTimestamp)) return false;
    this.#newest = entry;
    this.#still = record.still || (record.keepAlive && this.#still);
    return true;
  }

  /** Forgets all: the frames of another line count anew. */
  reset(): void {
    this.#newest = undefined;
    this.#still = false;
  }

  /** The newest frame, if it shows all of that in full quality. */
  shows({ poseId, poseWaits, width, height, answeredMicroseconds }: Asked): LedgerEntry | undefined {
    if (!this.#newest || !this.#still || poseWaits) return undefined;
    const { record } = this.#newest;
    const drawn = record.poseReceivedMicroseconds + record.drawStartMicroseconds;
    const fits = record.width === width && record.height === height;
    return fits && record.poseId === poseId && drawn >= answeredMicroseconds ? this.#newest : undefined;
  }
}
