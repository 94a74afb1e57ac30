import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { decodePose, OrbitCamera, PoseSender, type View } from "../src/index.ts";

function setUp(): {
  sender: PoseSender;
  sent: ArrayBuffer[];
  frame: () => void;
  channel: { buffered: number };
} {
  const sent: ArrayBuffer[] = [];
  const frames: (() => void)[] = [];
  const channel = { buffered: 0 };
  const sender = new PoseSender({
    send: (bytes) => void sent.push(bytes),
    bufferedBytes: () => channel.buffered,
    requestFrame: (callback) => void frames.push(callback),
    setTimer: (callback, milliseconds) => setTimeout(callback, milliseconds),
    clearTimer: (timer) => clearTimeout(timer),
  });
  const frame = (): void => {
    for (const callback of frames.splice(0)) callback();
  };
  return { sender, sent, frame, channel };
}

describe("PoseSender", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const camera = new OrbitCamera();
  const next = () => {
    camera.orbit(0.1, 0);
    return [camera.view(1.5)];
  };

  it("sends the newest pose once per animation frame", () => {
    const { sender, sent, frame } = setUp();
    sender.set(next());
    const newest = next();
    sender.set(newest);
    expect(sent).toHaveLength(0);
    frame();
    expect(sent).toHaveLength(1);
    expect(decodePose(sent[0] as ArrayBuffer)).toMatchObject({ poseId: 1 });
    expect(decodePose(sent[0] as ArrayBuffer).views[0]?.position).toEqual(newest[0]?.position);
    sender.set(next());
    frame();
    expect(decodePose(sent[1] as ArrayBuffer).poseId).toBe(2);
  });

  it("sends nothing when nothing changed", () => {
    const { sender, sent, frame } = setUp();
    const pose = next();
    sender.set(pose);
    frame();
    sender.set([...pose]);
    frame();
    expect(sent).toHaveLength(1);
  });

  it("sends the last pose again until a frame was drawn for it", () => {
    const { sender, sent, frame } = setUp();
    sender.set(next());
    frame();
    vi.advanceTimersByTime(150);
    expect(sent).toHaveLength(2);
    expect(new Uint8Array(sent[1] as ArrayBuffer)).toEqual(new Uint8Array(sent[0] as ArrayBuffer));
    sender.acknowledge(1);
    vi.advanceTimersByTime(10_000);
    expect(sent).toHaveLength(2);
  });

  it("is not content with a frame for an older pose, and gives up in the end", () => {
    const { sender, sent, frame } = setUp();
    sender.set(next());
    frame();
    sender.set(next());
    frame();
    sender.acknowledge(1);
    vi.advanceTimersByTime(60_000);
    expect(sent).toHaveLength(2 + 4);
  });

  it("sends ever fewer poses into a line that says nothing, and all of them again once a frame comes", () => {
    const { sender, sent, frame } = setUp();
    const times: number[] = [];
    const began = performance.now();
    const move = (milliseconds: number): void => {
      for (let passed = 0; passed < milliseconds; passed += 16) {
        sender.set(next());
        const before = sent.length;
        frame();
        if (sent.length > before) times.push(performance.now() - began);
        vi.advanceTimersByTime(16);
      }
    };
    move(6000);
    expect(times.filter((at) => at < 240)).toHaveLength(15);
    // One packet's worth (some eleven of them) lasts from each run of SCTP's timer to the next.
    for (const [from, to] of [
      [400, 1200],
      [1200, 2800],
      [2800, 5800],
    ] as const) {
      const count = times.filter((at) => at >= from && at < to).length;
      expect(count).toBeGreaterThan(4);
      expect(count).toBeLessThanOrEqual(11);
    }
    const spacings = times.map((at, index) => at - (times[index - 1] ?? 0));
    expect(Math.max(...spacings)).toBeLessThan(330);
    const before = sent.length;
    sender.acknowledge(1);
    move(160);
    expect(sent.length - before).toBe(10);
  });

  it("sends the last pose again when a line is back into which it was given up", () => {
    const { sender, sent, frame } = setUp();
    sender.set(next());
    frame();
    sender.set(next());
    frame();
    vi.advanceTimersByTime(60_000);
    const before = sent.length;
    sender.acknowledge(1);
    vi.advanceTimersByTime(150);
    expect(sent.length).toBe(before + 1);
    expect(decodePose(sent.at(-1) as ArrayBuffer).poseId).toBe(2);
    sender.acknowledge(2);
    vi.advanceTimersByTime(60_000);
    expect(sent.length).toBe(before + 1);
  });

  it("waits while the channel is full, and then sends only the newest", () => {
    const { sender, sent, frame, channel } = setUp();
    channel.buffered = 100_000;
    sender.set(next());
    frame();
    expect(sent).toHaveLength(0);
    const newest = next();
    sender.set(newest);
    channel.buffered = 0;
    frame();
    expect(sent).toHaveLength(1);
    expect(decodePose(sent[0] as ArrayBuffer).views[0]?.position).toEqual(newest[0]?.position);
  });

  it("takes a view as it is now, whatever the page does with its object afterwards", () => {
    const { sender, sent, frame } = setUp();
    const position: [number, number, number] = [1, 0, 0];
    const view = { ...(next()[0] as View), position };
    sender.set([view]);
    position[0] = 2;
    frame();
    expect(decodePose(sent[0] as ArrayBuffer).views[0]?.position).toEqual([1, 0, 0]);
    sender.set([view]);
    frame();
    expect(decodePose(sent[1] as ArrayBuffer).views[0]?.position).toEqual([2, 0, 0]);
  });

  it("sends nothing once stopped", () => {
    const { sender, sent, frame } = setUp();
    sender.set(next());
    sender.stop();
    frame();
    vi.advanceTimersByTime(10_000);
    expect(sent).toHaveLength(0);
  });
});
