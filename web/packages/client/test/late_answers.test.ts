import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  Connection,
  type ConnectionStatistics,
  type ConnectOptions,
  FarframeError,
  forgetWays,
  type RenderModeChoice,
  type Result,
  type TextureInfo,
  type Transport,
} from "../src/index.ts";
import { FakeLine, model, World } from "./world.ts";

const failed = (result: Result): object => expect.objectContaining({ result });
const texture = (id: number, uri = "x"): TextureInfo => ({
  id,
  kind: "2d",
  uri,
  width: 4,
  height: 4,
  levels: 1,
  sizeBytes: 64,
});
const gone = (): FarframeError => new FarframeError("ConnectionLost", "No network.");

let world: World;

async function connect(more: Partial<ConnectOptions> = {}): Promise<Connection> {
  const options = { url: "https://service/accounts/a/sessions/s/whep", token: "token", width: 640, height: 480 };
  const fetch = async (): Promise<Response> => new Response();
  return Connection.connectWith({ ...options, way: "webrtc", fetch, ...more }, world.openers);
}

/** Lets the clock go on, and everything that waits for it. */
const pass = (milliseconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(milliseconds);

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"] });
  vi.stubGlobal("requestAnimationFrame", (callback: () => void) => setTimeout(callback, 16));
  world = new World();
  forgetWays();
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("an attempt", () => {
  it("ends where nobody gives a token in time", async () => {
    const never = new Promise<string>(() => undefined);
    await expect(connect({ token: () => never, timeoutMilliseconds: 20 })).rejects.toEqual(failed("HandshakeFailed"));
    const abort = new AbortController();
    const attempt = expect(connect({ token: () => never, signal: abort.signal })).rejects.toEqual(failed("Cancelled"));
    abort.abort();
    await attempt;
    expect(world.attempts).toHaveLength(0);
  });

  it("takes back a line that was made after the page had left", async () => {
    const connection = await connect();
    const { promise, resolve } = Promise.withResolvers<Transport>();
    vi.spyOn(world.openers, "webrtc").mockReturnValue(promise);
    world.line.break();
    await pass(10);
    expect(world.openers.webrtc).toHaveBeenCalledOnce();
    await connection.close();
    const late = new FakeLine(world, 1, world.line.events);
    resolve(late);
    await pass(10);
    expect([late.open, late.ended]).toEqual([false, true]);
  });

  it("is not ended by the signal of the first one, which has done its work", async () => {
    const abort = new AbortController();
    const connection = await connect({ signal: abort.signal });
    abort.abort();
    world.line.break();
    await pass(10);
    expect([connection.state, world.lines.length]).toEqual(["connected", 2]);
    await connection.close();
  });
});

describe("the render mode", () => {
  it("is asked for, told, and asked for again", async () => {
    const connection = await connect({ renderMode: "TileBasedComposition" });
    expect(connection.renderMode).toBe("TileBasedComposition");
    world.line.break();
    await pass(10);
    const opened = world.asked.filter(({ method }) => method === "connection.open");
    expect(opened.map(({ params }) => params.renderMode)).toEqual(["TileBasedComposition", "TileBasedComposition"]);
    expect(connection.renderMode).toBe("TileBasedComposition");
    await connection.close();
  });

  it("is the server's where none is asked for, and unknown from an older one", async () => {
    const connection = await connect();
    expect(world.asked[0]?.params).not.toHaveProperty("renderMode");
    expect(connection.renderMode).toBeUndefined();
    await connection.close();
  });

  it("is refused before anything is sent, unless it is one of them, and to who watches", async () => {
    const wrong = "tileBasedComposition" as RenderModeChoice;
    await expect(connect({ renderMode: wrong })).rejects.toEqual(failed("InvalidParam"));
    await expect(connect({ renderMode: "Default", watch: true })).rejects.toEqual(failed("InvalidParam"));
    expect(world.attempts).toHaveLength(0);
  });
});

describe("leaving", () => {
  it("makes no other line where this one ends on the way, as it does when the server has heard", async () => {
    const calls: (string | undefined)[] = [];
    const connection = await connect({
      fetch: async (_url, init) => {
        calls.push(init?.method);
        return new Response();
      },
    });
    world.answer = () => undefined;
    const left = connection.close();
    const again = connection.close();
    world.line.break();
    await pass(10);
    await Promise.all([left, again]);
    await pass(10_000);
    expect(world.attempts).toHaveLength(1);
    expect(connection.error).toEqual(failed("DisconnectRequest"));
    expect(calls).toEqual([]);
    expect(world.line.ended).toBe(true);
    expect(world.methods(0).filter((method) => method === "connection.close")).toHaveLength(1);
  });

  it("shows nothing any more, and tells of no frame", async () => {
    const connection = await connect();
    connection.attach({ play: async () => undefined } as unknown as HTMLVideoElement);
    const line = world.line;
    expect(line.attachments).toBe(1);
    await connection.close();
    expect(line.attachments).toBe(0);
  });

  it("ends the waiting for what does not come any more", async () => {
    const connection = await connect();
    const resumed = connection.once("resumed");
    const closed = connection.once("closed");
    const state = connection.once("state");
    const told = expect(resumed).rejects.toEqual(failed("DisconnectRequest"));
    await connection.close();
    await told;
    expect(await closed).toEqual(failed("DisconnectRequest"));
    expect(await state).toBe("closed");
    expect(await connection.once("closed")).toEqual(failed("DisconnectRequest"));
    await expect(connection.once("frame")).rejects.toEqual(failed("DisconnectRequest"));
  });
});

describe("the picture", () => {
  it("is the one that was asked for last, in whichever order answers come", async () => {
    const connection = await connect();
    world.answer = () => undefined;
    const small = connection.configureVideo({ width: 320 });
    const large = connection.configureVideo({ width: 1920 });
    const video = (width: number): object => ({ width, height: 480, maxFramesPerSecond: 60, maxBitrate: 1 });
    world.settle("video.configure", video(1920));
    expect(await large).toMatchObject({ width: 1920 });
    world.settle("video.configure", video(320), 0);
    expect(await small).toMatchObject({ width: 320 });
    expect(connection.video.width).toBe(1920);
    world.answer = () => ({});
    await connection.close();
  });

  it("is what the server sends over the line that came back", async () => {
    world.role = "viewer";
    const connection = await connect({ watch: true });
    expect(connection.video.width).toBe(640);
    world.video = { width: 1000, height: 500, maxFramesPerSecond: 30, maxBitrate: 5 };
    world.line.break();
    await pass(10);
    expect([connection.state, connection.video]).toEqual(["connected", world.video]);
    await connection.close();
  });

  it("is not measured by what a former line counted", async () => {
    const connection = await connect();
    const told: ConnectionStatistics[] = [];
    connection.on("statistics", (statistics) => told.push(statistics));
    const sample = (bytesReceived: number): object => ({ bytesReceived, packetsLost: 9, framesDropped: 0 });
    const { promise, resolve } = Promise.withResolvers<never>();
    world.line.sample = () => promise;
    await pass(1000);
    world.line.break();
    await pass(10);
    world.line.sample = async () => sample(1000) as never;
    resolve(sample(10 ** 9) as never);
    await pass(2000);
    expect(told.map(({ bitrate }) => bitrate)).toEqual([0, 0]);
    await connection.close();
  });
});

describe("a load", () => {
  it("that is aborted ends also while there is no line", async () => {
    const connection = await connect();
    world.refusals = Array.from({ length: 100 }, gone);
    world.line.break();
    const abort = new AbortController();
    const { signal } = abort;
    const all = [
      connection.loadModel("x", { signal }),
      connection.scene.loadModel("x", { signal }),
      connection.scene.loadTexture("x", { signal }),
      connection.scene.castRay([0, 0, 0], [0, 0, 1], { signal }),
    ].map((each) => expect(each).rejects.toEqual(failed("Cancelled")));
    await pass(10);
    abort.abort();
    await Promise.all(all);
    expect(connection.state).toBe("interrupted");
    await connection.close();
  });

  it("that was done when its abort arrived is taken out", async () => {
    const connection = await connect();
    world.answer = () => undefined;
    const abort = new AbortController();
    const { signal } = abort;
    const loads = [connection.loadModel("x", { signal }), connection.scene.loadTexture("t", { signal })].map((each) =>
      expect(each).rejects.toEqual(failed("Cancelled")),
    );
    await pass(1);
    abort.abort();
    world.settle("scene.loadModel", model(7));
    world.settle("scene.loadTexture", texture(3));
    await Promise.all(loads);
    await pass(1);
    expect(world.commands(0)).toEqual([
      { op: "destroy", id: 2 ** 31 + 7 },
      { op: "destroyTexture", id: 3 },
    ]);
    world.answer = () => ({});
    await connection.close();
  });

  it("that was given up, and is answered later, is taken out", async () => {
    const connection = await connect();
    world.answer = () => undefined;
    const abort = new AbortController();
    const { signal } = abort;
    const loads = [connection.loadModel("x", { signal }), connection.scene.loadTexture("t", { signal })].map((each) =>
      expect(each).rejects.toEqual(failed("Cancelled")),
    );
    await pass(1);
    abort.abort();
    for (let second = 0; second < 6; second++) {
      await pass(1000);
      world.settle("connection.ping", { serverTimeMicroseconds: 1 });
    }
    await Promise.all(loads);
    expect(world.commands(0)).toEqual([]);
    world.settle("scene.loadTexture", texture(3));
    world.settle("scene.loadModel", model(7));
    await pass(1);
    expect(world.commands(0).map(({ id }) => id)).toEqual(expect.arrayContaining([3, 2 ** 31 + 7]));
    world.answer = () => ({});
    await connection.close();
  });

  it("that ends while unknown models are looked for is not taken for one of them", async () => {
    const connection = await connect();
    world.models = [model(1)];
    world.moreModels = true;
    world.answer = (method) => {
      if (method === "scene.describe" || method === "scene.loadModel") return undefined;
      return { applied: 1 };
    };
    world.line.break();
    await pass(10);
    const load = connection.loadModel("y");
    await pass(10);
    // It is not sent before the server has told what there was.
    expect(world.methods(1)).not.toContain("scene.loadModel");
    world.settle("scene.describe", { models: [model(2)], settings: {} });
    await pass(10);
    world.settle("scene.loadModel", model(3));
    expect(await load).toMatchObject({ modelId: 3 });
    await pass(10);
    expect(world.commands(1).map(({ id }) => id)).toEqual([2 ** 31 + 1, 2 ** 31 + 2]);
    await connection.close();
  });
});

describe("a texture whose load was answered to nobody", () => {
  it("is taken out, those that the page has are not", async () => {
    const known = [texture(1, "a"), texture(2, "b")];
    world.answer = (method, { uri }) => {
      if (method === "scene.getTextures") return { textures: known };
      if (method === "scene.loadTexture") return uri === "a" ? known[0] : undefined;
      return { applied: 1 };
    };
    const connection = await connect();
    await connection.scene.loadTexture("a");
    const lost = expect(connection.scene.loadTexture("b")).rejects.toEqual(failed("ConnectionLost"));
    await pass(1);
    world.line.break();
    await lost;
    await pass(10);
    await connection.scene.flush();
    expect(world.commands(1)).toEqual([{ op: "destroyTexture", id: 2 }]);
    // Nothing was asked for over this line: there is nothing to look for.
    world.line.break();
    await pass(10);
    expect(world.methods(2)).toEqual(["connection.open"]);
    await connection.close();
  });

  it("is kept where the page asks for the same again", async () => {
    world.answer = (method) => {
      if (method === "scene.getTextures") return { textures: [texture(1)] };
      if (method === "scene.loadTexture") return world.lines.length > 1 ? texture(1) : undefined;
      return { applied: 1 };
    };
    const connection = await connect();
    const lost = expect(connection.scene.loadTexture("x")).rejects.toEqual(failed("ConnectionLost"));
    await pass(1);
    world.line.break();
    await lost;
    const again = connection.scene.loadTexture("x");
    await pass(10);
    expect((await again).valid).toBe(true);
    await connection.scene.flush();
    expect(world.commands(1)).toEqual([]);
    await connection.close();
  });
});
