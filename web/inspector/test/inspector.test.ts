import { describe, expect, it } from "vitest";
import { addDeviceLine, readFrame, stageOf, summarize } from "../src/frames.ts";
import { LineParser } from "../src/lines.ts";

const LINE = {
  frameId: 7,
  poseId: 3,
  rtpTimestamp: 9000,
  clientTimeMicroseconds: 5,
  poseReceivedMicroseconds: 1_000_000,
  drawStartMicroseconds: 500,
  drawEndMicroseconds: 8_500,
  readBackMicroseconds: 9_500,
  encodeStartMicroseconds: 10_000,
  encodeEndMicroseconds: 17_500,
  sentMicroseconds: 18_000,
  serverTimeMicroseconds: 1_018_000,
  encodedBytes: 12_500,
  width: 1280,
  height: 720,
  drawnWidth: 960,
  drawnHeight: 540,
  samples: 1,
  reducedParts: 0,
  triangles: 100,
  draws: 2,
  keyframe: false,
  still: false,
  keepAlive: false,
};

describe("readFrame", () => {
  it("splits the server's part of the way", () => {
    expect(readFrame(LINE)).toMatchObject({
      frameId: 7,
      at: 1018,
      stages: { wait: 0.5, draw: 8, readBack: 1, encode: 8, send: 0.5 },
      kind: "",
    });
  });

  it("does not count the rest before a still picture as waiting", () => {
    const still = { ...LINE, still: true, drawStartMicroseconds: 300_000, drawEndMicroseconds: 310_000 };
    expect(readFrame(still)).toMatchObject({ kind: "still", stages: { wait: 0, draw: 10 } });
    expect(readFrame({ ...LINE, keepAlive: true })).toMatchObject({
      kind: "keep-alive",
      stages: { wait: 0, encode: 7.5 },
    });
  });

  it("counts the wait of a pose once", () => {
    expect(readFrame(LINE, 2)?.stages.wait).toBe(0.5);
    expect(readFrame(LINE, 3)?.stages.wait).toBe(0);
  });

  it("adds what the device reports later to its frame", () => {
    const frames = [readFrame(LINE), readFrame({ ...LINE, frameId: 8 })].flatMap((frame) => frame ?? []);
    const report = {
      receivedMicroseconds: 23_000,
      decodedMicroseconds: 26_000,
      shownMicroseconds: 34_000,
      missing: false,
    };
    expect(addDeviceLine(frames, LINE)).toBe(false);
    expect(addDeviceLine(frames, { frameId: 7, ...report })).toBe(true);
    expect(frames[0]).toMatchObject({ device: { network: 5, decode: 3, show: 8 } });
    expect(frames.map((frame) => stageOf(frame, "network"))).toEqual([5, undefined]);
    expect(addDeviceLine(frames, { frameId: 8, missing: true })).toBe(true);
    expect(frames[1]?.missing).toBe(true);
    expect(addDeviceLine(frames, { frameId: 99, ...report })).toBe(true);
  });

  it("counts no wait for the screen for what is sent only to keep alive", () => {
    const frames = [readFrame({ ...LINE, keepAlive: true })].flatMap((frame) => frame ?? []);
    const report = { receivedMicroseconds: 23_000, decodedMicroseconds: 26_000, shownMicroseconds: 1_026_000 };
    expect(addDeviceLine(frames, { frameId: 7, ...report })).toBe(true);
    expect(frames[0]?.device).toEqual({ network: 5, decode: 3 });
  });

  it("leaves out what is no frame", () => {
    expect(readFrame({})).toBeUndefined();
    expect(readFrame({ ...LINE, sentMicroseconds: "soon" })).toBeUndefined();
  });
});

describe("summarize", () => {
  it("looks at the last second only", () => {
    const frames = [0, 1500, 2000, 2400].flatMap(
      (at) => readFrame({ ...LINE, serverTimeMicroseconds: at * 1000 }) ?? [],
    );
    expect(summarize(frames)).toEqual({ fps: 3, bitrate: 300_000, median: 18, high: 18 });
    expect(summarize([])).toEqual({ fps: 0, bitrate: 0, median: 0, high: 0 });
  });
});

describe("LineParser", () => {
  it("joins lines that come in pieces and drops what is no object", () => {
    const parser = new LineParser();
    expect(parser.push('{"a":1}\n{"b"')).toEqual([{ a: 1 }]);
    expect(parser.push(":2}\nnonsense\n7\n\n")).toEqual([{ b: 2 }]);
  });

  it("does not grow without end", () => {
    const parser = new LineParser();
    parser.push("x".repeat(100_000));
    expect(parser.push('{"a":1}\n')).toEqual([{ a: 1 }]);
  });
});
