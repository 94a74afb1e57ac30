import { expect, it } from "vitest";
import { ClockAlignment, encodeReport, FrameReporter, MAX_REPORTED_FRAMES } from "../src/index.ts";

function bytesOf(buffer: ArrayBuffer): string {
  return [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** RTP timestamps of a report. */
function stampsOf(buffer: ArrayBuffer): number[] {
  const data = new DataView(buffer);
  return Array.from({ length: data.getUint8(2) }, (_, index) => data.getUint32(24 + 16 * index, true));
}

function setUp() {
  const sent: ArrayBuffer[] = [];
  const timers: (() => void)[] = [];
  const clock = new ClockAlignment();
  const reporter = new FrameReporter(
    {
      send: (bytes) => sent.push(bytes),
      setTimer: (callback) => timers.push(callback) as unknown as ReturnType<typeof setTimeout>,
      clearTimer: (timer) => {
        timers[(timer as unknown as number) - 1] = () => undefined;
      },
    },
    clock,
  );
  return { sent, timers, clock, reporter, tick: () => timers.splice(0).forEach((callback) => void callback()) };
}

const frame = (rtpTimestamp: number) => ({
  rtpTimestamp,
  shownAt: 30,
  receivedAt: 10,
  decodeMilliseconds: 5,
  width: 2,
  height: 2,
});

it("lays a report out as the Python side does", () => {
  const report = encodeReport({
    frames: [{ rtpTimestamp: 0x01020304, receivedMicroseconds: 1_000_000, decodedMicroseconds: 1_000_007 }],
    clockOffsetMicroseconds: -2,
    roundTripMicroseconds: 0x11,
  });
  expect(bytesOf(report)).toBe(
    "0401010111000000" + "feffffffffffffff" + "40420f0000000000" + "04030201" + "00000000" + "07000000" + "ffffffff",
  );
});

it("refuses a report of nothing and of too much", () => {
  const report = { clockOffsetMicroseconds: 0, roundTripMicroseconds: 0 };
  expect(() => encodeReport({ ...report, frames: [] })).toThrow("1 to 64");
  expect(() => encodeReport({ ...report, frames: Array(65).fill({ rtpTimestamp: 1 }) })).toThrow("1 to 64");
});

it("tells each frame twice, in batches, and nothing without frames", () => {
  const { sent, timers, reporter, tick } = setUp();
  expect(timers).toHaveLength(0);
  reporter.add(frame(1));
  reporter.add(frame(2));
  expect(timers).toHaveLength(1);
  tick();
  expect(sent.map(stampsOf)).toEqual([[1, 2]]);
  tick();
  expect(sent).toHaveLength(1);
  reporter.add(frame(3));
  tick();
  reporter.add(frame(4));
  tick();
  expect(sent.map(stampsOf).slice(1)).toEqual([
    [1, 2, 3],
    [3, 4],
  ]);
});

it("tells nothing of a stream that has ended", () => {
  const { sent, reporter, tick } = setUp();
  reporter.add(frame(1));
  tick();
  reporter.add(frame(2));
  reporter.forget();
  reporter.add(frame(3));
  tick();
  expect(sent.map(stampsOf)).toEqual([[1], [3]]);
});

it("puts the times of a frame in order", () => {
  const { sent, reporter, tick } = setUp();
  reporter.add({ ...frame(7), decodeMilliseconds: 500 });
  tick();
  const data = new DataView(sent[0] as ArrayBuffer);
  expect(data.getUint8(3)).toBe(0);
  expect(data.getBigUint64(16, true)).toBe(10_000n);
  expect([28, 32, 36].map((offset) => data.getUint32(offset, true))).toEqual([0, 20_000, 20_000]);
});

it("has a largest size, and stops", () => {
  const { sent, reporter, tick } = setUp();
  for (let index = 0; index < 200; index += 1) reporter.add(frame(index));
  tick();
  expect(stampsOf(sent[0] as ArrayBuffer)).toHaveLength(MAX_REPORTED_FRAMES);
  expect(stampsOf(sent[0] as ArrayBuffer).at(-1)).toBe(199);
  reporter.add(frame(300));
  reporter.stop();
  tick();
  expect(sent).toHaveLength(1);
});
