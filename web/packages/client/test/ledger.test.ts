import { describe, expect, it } from "vitest";
import { type FrameRecord, isNewer, Ledger, type ShownFrame, STAGES, stageTimes } from "../src/index.ts";

function record(members: Partial<FrameRecord> = {}): FrameRecord {
  return {
    frameId: 1,
    rtpTimestamp: 3000,
    poseId: 1,
    clientTimeMicroseconds: 1_000_000,
    poseReceivedMicroseconds: 501_002_000,
    drawStartMicroseconds: 1_000,
    drawEndMicroseconds: 9_000,
    readBackMicroseconds: 10_000,
    encodeStartMicroseconds: 10_500,
    encodeEndMicroseconds: 18_000,
    sentMicroseconds: 18_500,
    encodedBytes: 20_000,
    width: 1280,
    height: 720,
    drawnWidth: 1280,
    drawnHeight: 720,
    samples: 1,
    reducedParts: 0,
    triangles: 10,
    draws: 1,
    views: [],
    keyframe: false,
    still: false,
    keepAlive: false,
    overLimit: false,
    ...members,
  };
}

function shown(members: Partial<ShownFrame> = {}): ShownFrame {
  return {
    rtpTimestamp: 3000,
    shownAt: 1040,
    receivedAt: 1025,
    decodeMilliseconds: 4,
    width: 1280,
    height: 720,
    ...members,
  };
}

const OFFSET = 500_000_000;

describe("stageTimes", () => {
  it("splits the way of a frame into stages that add up to the latency", () => {
    const times = stageTimes(record(), shown(), OFFSET);
    expect(times).toEqual({
      input: 2,
      wait: 1,
      draw: 8,
      readBack: 1,
      encode: 8,
      send: 0.5,
      network: 4.5,
      decode: 4,
      show: 11,
    });
    expect(STAGES.reduce((sum, stage) => sum + times[stage], 0)).toBe(40);
  });

  it.each([3_000, -6_000])("keeps the sum with a clock error of %d µs, without negative stages", (error) => {
    const times = stageTimes(record(), shown(), OFFSET + error);
    expect(Object.values(times).every((value) => value >= 0)).toBe(true);
    expect(STAGES.reduce((sum, stage) => sum + times[stage], 0)).toBeCloseTo(40);
  });

  it("gives all that is unknown after the network to `show`", () => {
    const times = stageTimes(record(), shown({ receivedAt: undefined, decodeMilliseconds: undefined }), OFFSET);
    expect(times.decode).toBe(0);
    expect(times.network).toBe(19.5);
    expect(times.show).toBe(0);
  });
});

describe("Ledger", () => {
  it("matches by RTP timestamp, whichever side comes first", () => {
    const ledger = new Ledger(() => OFFSET);
    expect(ledger.addRecord(record())).toBeUndefined();
    expect(ledger.addShown(shown())?.latency).toBe(40);
    expect(ledger.addShown(shown({ rtpTimestamp: 6000, shownAt: 1060 }))).toBeUndefined();
    expect(ledger.addRecord(record({ rtpTimestamp: 6000, frameId: 2, poseId: 2 }))?.latency).toBe(60);
    expect(ledger.entries).toHaveLength(2);
  });

  it("speaks of latency only for the first frame of a pose", () => {
    const ledger = new Ledger(() => OFFSET);
    const add = (members: Partial<FrameRecord>): number | undefined => {
      ledger.addRecord(record(members));
      return ledger.addShown(shown({ rtpTimestamp: members.rtpTimestamp ?? 0 }))?.latency;
    };
    expect(add({ rtpTimestamp: 1, frameId: 1, poseId: 5 })).toBeDefined();
    expect(add({ rtpTimestamp: 2, frameId: 2, poseId: 5 })).toBeUndefined();
    expect(add({ rtpTimestamp: 3, frameId: 3, poseId: 6, still: true })).toBeUndefined();
    expect(add({ rtpTimestamp: 4, frameId: 4, poseId: 7, keepAlive: true })).toBeUndefined();
    expect(add({ rtpTimestamp: 5, frameId: 5, poseId: 8 })).toBeDefined();
  });

  it("leaves the stages open while the clocks are not aligned", () => {
    const ledger = new Ledger(() => undefined);
    ledger.addRecord(record());
    expect(ledger.addShown(shown())).toMatchObject({ latency: 40, stages: undefined });
  });

  it("counts frames that were never shown", () => {
    const ledger = new Ledger(() => OFFSET);
    ledger.addRecord(record({ rtpTimestamp: 1, frameId: 1 }));
    ledger.addRecord(record({ rtpTimestamp: 2, frameId: 2 }));
    ledger.addRecord(record({ rtpTimestamp: 3, frameId: 3 }));
    ledger.addShown(shown({ rtpTimestamp: 2 }));
    expect(ledger.summary(1040).notShown).toBe(1);
    expect(ledger.addShown(shown({ rtpTimestamp: 3 }))).toBeDefined();
  });

  it("sums up the last second", () => {
    const ledger = new Ledger(() => OFFSET);
    for (let frame = 1; frame <= 50; frame += 1) {
      const rtpTimestamp = frame * 3000;
      ledger.addRecord(record({ rtpTimestamp, frameId: frame, poseId: frame, keepAlive: frame === 50 }));
      ledger.addShown(shown({ rtpTimestamp, shownAt: 1000 + frame * 40 }));
    }
    const summary = ledger.summary(3000);
    expect(summary.framesPerSecond).toBe(24);
    expect(summary.latencyMedian).toBe(1000);
    expect(summary.latencyHigh).toBe(1880);
    expect(summary.stages?.draw).toBe(8);
  });

  it("keeps a bounded number of frames and of unmatched ones", () => {
    const ledger = new Ledger(() => OFFSET);
    for (let frame = 1; frame <= 2000; frame += 1) {
      ledger.addRecord(record({ rtpTimestamp: frame, frameId: frame }));
    }
    expect(ledger.summary(0).notShown).toBe(1760);
    for (let frame = 3000; frame < 5000; frame += 1) {
      ledger.addRecord(record({ rtpTimestamp: frame, frameId: frame }));
      ledger.addShown(shown({ rtpTimestamp: frame }));
    }
    expect(ledger.entries).toHaveLength(600);
  });
});

describe("isNewer", () => {
  it("knows that ids wrap", () => {
    expect(isNewer(2, 1)).toBe(true);
    expect(isNewer(1, 2)).toBe(false);
    expect(isNewer(1, 1)).toBe(false);
    expect(isNewer(3, 2 ** 32 - 2)).toBe(true);
    expect(isNewer(2 ** 32 - 2, 3)).toBe(false);
  });
});
