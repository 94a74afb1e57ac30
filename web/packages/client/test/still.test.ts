import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Connection, forgetWays, type LedgerEntry, OrbitCamera, type ShownFrame } from "../src/index.ts";
import { StillTracker } from "../src/still.ts";
import { World } from "./world.ts";

const KEYFRAME = 1;
const STILL = 2;
const KEEP_ALIVE = 4;

/** A frame on the screen, drawn at a moment of the server's clock. */
function entry(frameId: number, drawn: number, flags: number, poseId = 1): LedgerEntry {
  const record = {
    frameId,
    rtpTimestamp: frameId * 3000,
    poseId,
    width: 640,
    height: 480,
    poseReceivedMicroseconds: drawn - 10,
    drawStartMicroseconds: 10,
    still: (flags & STILL) !== 0,
    keepAlive: (flags & KEEP_ALIVE) !== 0,
  };
  return { record } as unknown as LedgerEntry;
}

describe("StillTracker", () => {
  const asked = { poseId: 1, poseWaits: false, width: 640, height: 480, answeredMicroseconds: 500 };

  it("takes the picture of full quality, and what repeats it", () => {
    const tracker = new StillTracker();
    expect(tracker.shows(asked)).toBeUndefined();
    tracker.add(entry(1, 1000, KEYFRAME));
    expect(tracker.shows(asked)).toBeUndefined();
    tracker.add(entry(2, 1100, KEEP_ALIVE));
    expect(tracker.shows(asked)).toBeUndefined();
    const still = entry(3, 1200, STILL);
    tracker.add(still);
    expect(tracker.shows(asked)).toBe(still);
    const again = entry(4, 1300, KEEP_ALIVE);
    tracker.add(again);
    expect(tracker.shows(asked)).toBe(again);
    tracker.add(entry(5, 1400, 0));
    expect(tracker.shows(asked)).toBeUndefined();
  });

  it("takes none from before the last answer, however it got late", () => {
    const tracker = new StillTracker();
    tracker.add(entry(1, 1000, STILL));
    expect(tracker.shows({ ...asked, answeredMicroseconds: 1001 })).toBeUndefined();
    tracker.add(entry(2, 1001, KEEP_ALIVE));
    expect(tracker.shows({ ...asked, answeredMicroseconds: 1001 })).toBeDefined();
  });

  it("takes none of another pose, and none while a newer one waits to be sent", () => {
    const tracker = new StillTracker();
    tracker.add(entry(1, 1000, STILL));
    expect(tracker.shows({ ...asked, poseId: 2 })).toBeUndefined();
    expect(tracker.shows({ ...asked, poseWaits: true })).toBeUndefined();
  });

  it("takes none of another size, as a line that carries too little gets for a while", () => {
    const tracker = new StillTracker();
    tracker.add(entry(1, 1000, STILL));
    expect(tracker.shows({ ...asked, width: 1280, height: 960 })).toBeUndefined();
  });

  it("is not misled by the record of an earlier frame that came late", () => {
    const tracker = new StillTracker();
    expect(tracker.add(entry(5, 1000, 0))).toBe(true);
    expect(tracker.add(entry(4, 900, STILL))).toBe(false);
    expect(tracker.shows(asked)).toBeUndefined();
  });

  it("takes what repeats a picture that was never shown, where it says what that was", () => {
    const tracker = new StillTracker();
    tracker.add(entry(1, 1000, 0));
    const again = entry(3, 1300, STILL | KEEP_ALIVE);
    tracker.add(again);
    expect(tracker.shows(asked)).toBe(again);
  });

  it("follows the stream of one who watches to another device, whose frames count from 0", () => {
    const tracker = new StillTracker();
    tracker.add(entry(900, 1000, STILL));
    const other = entry(0, 1100, STILL);
    tracker.add({ ...other, record: { ...other.record, rtpTimestamp: 901 * 3000 } });
    expect(tracker.shows({ ...asked, answeredMicroseconds: 1050 })).toBeDefined();
  });

  it("counts anew with another line", () => {
    const tracker = new StillTracker();
    tracker.add(entry(900, 1000, STILL));
    tracker.reset();
    expect(tracker.shows(asked)).toBeUndefined();
    tracker.add(entry(0, 1100, STILL));
    expect(tracker.shows(asked)).toBeDefined();
  });
});

describe("Connection.waitForStill", () => {
  let world: World;
  let connection: Connection;
  let frames = 0;

  /** The record of the next frame. */
  function record(drawn: number, flags: number, poseId = connection.poseId): ArrayBuffer {
    const rtpTimestamp = ++frames * 3000;
    const data = new DataView(new ArrayBuffer(80 + 64));
    data.setUint8(0, 2);
    data.setUint8(1, 1);
    data.setUint8(2, 1);
    data.setUint8(3, flags);
    data.setUint32(4, frames, true);
    data.setUint32(8, rtpTimestamp, true);
    data.setUint32(12, poseId, true);
    data.setUint16(60, 640, true);
    data.setUint16(62, 480, true);
    data.setBigUint64(24, BigInt(drawn), true);
    return data.buffer;
  }

  /** The browser shows the newest frame. */
  const paint = (): void => world.line.shown?.({ rtpTimestamp: frames * 3000 } as ShownFrame);

  /** The server draws a picture, and the browser shows it. */
  function show(drawn: number, flags: number, poseId = connection.poseId): void {
    world.line.events.record(record(drawn, flags, poseId));
    paint();
  }

  /** The server answers the last batch, at that moment of its clock. */
  function apply(answeredMicroseconds: number): void {
    const { id } = world.asked.findLast(({ method }) => method === "scene.apply") ?? {};
    world.line.events.control(JSON.stringify({ jsonrpc: "2.0", id, result: { applied: 1 }, answeredMicroseconds }));
  }

  const pass = (milliseconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(milliseconds);

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"] });
    vi.stubGlobal("requestAnimationFrame", (callback: () => void) => setTimeout(callback, 16));
    forgetWays();
    world = new World();
    world.answer = (method) => (method === "scene.apply" ? undefined : {});
    frames = 0;
    connection = await Connection.connectWith(
      {
        url: "https://service/accounts/a/sessions/s/whep",
        token: "token",
        width: 640,
        height: 480,
        way: "webrtc",
        fetch: async () => new Response(),
      },
      world.openers,
    );
    connection.attach({ play: async () => undefined } as unknown as HTMLVideoElement);
  });

  afterEach(() => {
    void connection.close();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("gives the picture with all that was changed, and not the one from before", async () => {
    show(1000, STILL);
    expect((await connection.waitForStill()).record.frameId).toBe(1);
    connection.scene.create();
    const seen: number[] = [];
    const waiting = connection.waitForStill().then((shown) => void seen.push(shown.record.frameId));
    await pass(20);
    show(1900, KEEP_ALIVE);
    await pass(20);
    expect(seen).toEqual([]);
    apply(2000);
    await pass(20);
    // Given to the encoder before the change was done, encoded long after.
    show(1990, STILL);
    await pass(5000);
    expect(seen).toEqual([]);
    show(2010, 0);
    show(2300, STILL);
    await waiting;
    expect(seen).toEqual([5]);
  });

  it("waits for the pose that was set, though it has not been sent yet", async () => {
    show(1000, STILL);
    connection.setPose(new OrbitCamera().view(1.5));
    const seen: number[] = [];
    const waiting = connection.waitForStill().then((shown) => void seen.push(shown.record.frameId));
    await pass(0);
    expect(seen).toEqual([]);
    await pass(20);
    expect(connection.poseId).toBe(1);
    show(1500, STILL, 1);
    await waiting;
    expect(seen).toEqual([2]);
  });

  it("tells of no frame whose record comes when another is on the screen", () => {
    const told: number[] = [];
    connection.on("frame", ({ record: { frameId } }) => void told.push(frameId));
    const late = record(1000, STILL);
    paint();
    show(1100, STILL);
    world.line.events.record(late);
    expect(told).toEqual([2]);
    expect(connection.ledger.entries.map(({ record: { frameId } }) => frameId)).toEqual([2, 1]);
  });

  it("goes on across a line that breaks while it waits for the answer", async () => {
    connection.scene.create();
    const seen: number[] = [];
    const waiting = connection.waitForStill().then((shown) => void seen.push(shown.record.frameId));
    await pass(20);
    world.line.break();
    await pass(100);
    expect(connection.state).toBe("connected");
    apply(2000);
    await pass(20);
    show(2300, STILL);
    await waiting;
    expect(seen).toEqual([1]);
  });

  it("tells what was refused before the line broke", async () => {
    connection.scene.create("refused");
    await pass(20);
    connection.scene.create("not answered");
    const refused = expect.objectContaining({ result: "InvalidParam" });
    const waiting = expect(connection.waitForStill()).rejects.toEqual(refused);
    await pass(20);
    world.settle("scene.apply", { applied: 0, failures: [{ index: 0, result: "InvalidParam", message: "No." }] }, 0);
    await pass(20);
    world.line.break();
    await pass(100);
    world.settle("scene.apply", { applied: 1 });
    await waiting;
  });

  it("ends with the time, the signal and the connection", async () => {
    const failed = (result: string): object => expect.objectContaining({ result });
    const late = expect(connection.waitForStill({ timeoutMilliseconds: 300 })).rejects.toEqual(failed("Fail"));
    await pass(300);
    await late;
    const abort = new AbortController();
    const aborted = expect(connection.waitForStill({ signal: abort.signal })).rejects.toEqual(failed("Cancelled"));
    abort.abort();
    await aborted;
    const ended = expect(connection.waitForStill()).rejects.toEqual(failed("DisconnectRequest"));
    await pass(0);
    void connection.close();
    await pass(1000);
    await ended;
    await expect(connection.waitForStill()).rejects.toEqual(failed("DisconnectRequest"));
  });
});
