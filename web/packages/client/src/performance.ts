/**
 * How the stream does on this device, and how the server does, with the names and units of Azure Remote Rendering.
 *
 *     connection.frameStatistics()      of the last second, on this device; asks nobody
 *     connection.performanceAssessment()    of the last second, on the server, with ratings
 */

import { isNewer, type LedgerEntry } from "./ledger.ts";

export type Rating = "Great" | "Good" | "Mediocre" | "Bad";

/** A measured value and what to think of it. */
export interface PerformanceInformation {
  readonly value: number;
  readonly rating: Rating;
}

/** The server's last second. What it cannot know is absent. `docs/protocol.md` tells where ratings begin. */
export interface PerformanceAssessment {
  /** Milliseconds per frame. */
  readonly timeCpu?: PerformanceInformation;
  readonly timeGpu?: PerformanceInformation;
  /** Percent. */
  readonly utilizationCpu?: PerformanceInformation;
  readonly utilizationGpu?: PerformanceInformation;
  readonly memoryCpu?: PerformanceInformation;
  readonly memoryGpu?: PerformanceInformation;
  /** Milliseconds, there and back. */
  readonly networkLatency?: PerformanceInformation;
  /** In the last picture. */
  readonly polygonsRendered?: PerformanceInformation;
  readonly pointsRendered?: PerformanceInformation;
}

/** The last second of frames on this device. Times are means in seconds; undefined where nothing is known. */
export interface FrameStatistics {
  /** From taking a pose to the first frame for it, decoded. */
  readonly latencyPoseToReceive: number | undefined;
  /** From there until the browser handed it to the screen. */
  readonly latencyReceiveToPresent: number | undefined;
  /** From there until it was expected to be seen. */
  readonly latencyPresentToDisplay: number | undefined;
  /** Between the last two frames that were presented. */
  readonly timeSinceLastPresent: number | undefined;
  /** Frames that were decoded and shown. */
  readonly videoFramesReceived: number;
  /** Browsers do not tell how often a picture stays on the screen for another refresh. */
  readonly videoFrameReusedCount: undefined;
  /** Frames that the server sent, and that were never shown, as far as it is known by now. */
  readonly videoFramesSkipped: number;
  /** Frames that were shown for an older pose than one before. */
  readonly videoFramesDiscarded: number;
  /** The least and the greatest time between two frames that came one after the other. */
  readonly videoFrameMinDelta: number | undefined;
  readonly videoFrameMaxDelta: number | undefined;
}

const WINDOW_MILLISECONDS = 1000;

/** The statistics of the second before `now`, of frames that were shown, oldest first; times in milliseconds. */
export function frameStatistics(entries: readonly LedgerEntry[], skipped: number, now: number): FrameStatistics {
  const begin = entries.findIndex(({ shown }) => shown.shownAt > now - WINDOW_MILLISECONDS);
  const recent = begin < 0 ? [] : entries.slice(begin);
  const before = begin > 0 ? entries.slice(begin - 1, begin) : [];
  const came = [...before, ...recent].map(decodedAt);
  const gaps = came.slice(1).map((time, index) => time - (came[index] as number));
  const presents = entries.slice(-2).map(presentedAt);
  let newest = entries[0]?.record.poseId;
  let discarded = 0;
  entries.forEach(({ record }, index) => {
    if (newest !== undefined && isNewer(newest, record.poseId)) {
      if (begin >= 0 && index >= begin) discarded++;
    } else newest = record.poseId;
  });
  const seconds = (milliseconds: number | undefined): number | undefined =>
    milliseconds === undefined ? undefined : milliseconds / 1000;
  return {
    latencyPoseToReceive: mean(
      recent
        .filter(({ newPose }) => newPose)
        .map((entry) => decodedAt(entry) - entry.record.clientTimeMicroseconds / 1000),
    ),
    latencyReceiveToPresent: mean(recent.map((entry) => presentedAt(entry) - decodedAt(entry))),
    latencyPresentToDisplay: mean(recent.map((entry) => entry.shown.shownAt - presentedAt(entry))),
    timeSinceLastPresent:
      presents.length === 2 ? seconds((presents[1] as number) - (presents[0] as number)) : undefined,
    videoFramesReceived: recent.length,
    videoFrameReusedCount: undefined,
    videoFramesSkipped: skipped,
    videoFramesDiscarded: discarded,
    videoFrameMinDelta: gaps.length > 0 ? seconds(Math.max(0, Math.min(...gaps))) : undefined,
    videoFrameMaxDelta: gaps.length > 0 ? seconds(Math.max(...gaps)) : undefined,
  };
}

function presentedAt({ shown }: LedgerEntry): number {
  return Math.min(shown.presentedAt ?? shown.shownAt, shown.shownAt);
}

function decodedAt(entry: LedgerEntry): number {
  const { receivedAt, decodeMilliseconds } = entry.shown;
  const at = presentedAt(entry);
  return receivedAt === undefined ? at : Math.min(at, receivedAt + (decodeMilliseconds ?? 0));
}

/** In seconds. */
function mean(milliseconds: readonly number[]): number | undefined {
  if (milliseconds.length === 0) return undefined;
  return milliseconds.reduce((sum, value) => sum + Math.max(0, value), 0) / milliseconds.length / 1000;
}
