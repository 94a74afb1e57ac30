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
