import { describe, expect, it } from "vitest";
import { type FrameRecord, Ledger, type ShownFrame } from "../src/index.ts";
import { frameStatistics } from "../src/performance.ts";

/** A frame each 20 ms: pose taken, then after so many ms received, decoded, presented, seen. */
function fill(ledger: Ledger, count: number, poseOf = (index: number): number => index + 1): void {
  for (let index = 0; index < count; index++) {
    const at = 1000 + 20 * index;
    const record = {
      rtpTimestamp: index,
      frameId: index + 1,
      poseId: poseOf(index),
      clientTimeMicroseconds: at * 1000,
      keepAlive: false,
      still: false,
    } as unknown as FrameRecord;
    const shown: ShownFrame = {
      rtpTimestamp: index,
      receivedAt: at + 30,
      decodeMilliseconds: 5,
      presentedAt: at + 42,
      shownAt: at + 50,
      width: 1,
      height: 1,
    };
    ledger.addRecord(record);
    if (index % 10 !== 3) ledger.addShown(shown);
  }
}

describe("frameStatistics", () => {
  it("knows nothing without frames", () => {
    const none = frameStatistics([], 0, 5000);
    expect([none.latencyPoseToReceive, none.videoFramesReceived, none.videoFrameMinDelta]).toEqual([
      undefined,
      0,
      undefined,
    ]);
  });

  it("tells means, counts and gaps of the last second, in seconds", () => {
    const ledger = new Ledger(() => 0);
    fill(ledger, 100);
    const now = 1000 + 20 * 99 + 60;
    const found = frameStatistics(ledger.entries, ledger.skipped(now), now);
    expect(found.latencyPoseToReceive).toBeCloseTo(0.035, 9);
    expect(found.latencyReceiveToPresent).toBeCloseTo(0.007, 9);
    expect(found.latencyPresentToDisplay).toBeCloseTo(0.008, 9);
    expect(found.timeSinceLastPresent).toBeCloseTo(0.02, 9);
    expect(found.videoFramesReceived).toBe(45);
    expect(found.videoFramesSkipped).toBe(5);
    expect(found.videoFrameMinDelta).toBeCloseTo(0.02, 9);
    expect(found.videoFrameMaxDelta).toBeCloseTo(0.04, 9);
    expect(found.videoFramesDiscarded).toBe(0);
  });

  it("counts frames for older poses", () => {
    const ledger = new Ledger(() => 0);
    fill(ledger, 20, (index) => (index === 15 ? 3 : index + 1));
    expect(frameStatistics(ledger.entries, 0, 1400).videoFramesDiscarded).toBe(1);
  });

  it("is empty again when nothing comes", () => {
    const ledger = new Ledger(() => 0);
    fill(ledger, 20);
    expect(frameStatistics(ledger.entries, ledger.skipped(9000), 9000).videoFramesReceived).toBe(0);
  });
});
