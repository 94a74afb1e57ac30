import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Connection, type ConnectOptions, FarframeError, forgetWays, type Result } from "../src/index.ts";
import { model, World } from "./world.ts";

const view = {
  position: [0, 0, 1],
  orientation: [0, 0, 0, 1],
  fieldOfView: { left: -1, right: 1, up: 1, down: -1 },
  near: 0.1,
  far: 10,
} as const;
const failed = (result: Result): object => expect.objectContaining({ result });

let world: World;
let states: string[];
let closed: FarframeError[];
let resumed: number;

async function connect(more: Partial<ConnectOptions> = {}): Promise<Connection> {
  const options = { url: "https://service/accounts/a/sessions/s/whep", token: "token", width: 640, height: 480 };
  const connection = await Connection.connectWith({ ...options, way: "webrtc", ...more }, world.openers);
  connection.on("state", (state) => states.push(state));
  connection.on("closed", (error) => closed.push(error));
  connection.on("resumed", () => resumed++);
  return connection;
}

/** Lets the clock go on, and everything that waits for it. */
const pass = (milliseconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(milliseconds);

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"] });
  vi.stubGlobal("requestAnimationFrame", (callback: () => void) => setTimeout(callback, 16));
  world = new World();
  states = [];
  closed = [];
  resumed = 0;
  forgetWays();
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a line that is lost", () => {
  it("is made anew with the secret, and tells so", async () => {
    const connection = await connect();
    expect(world.attempts[0]?.resumeSecret).toBeUndefined();
    connection.setPose(view);
    await pass(20);
    const first = world.line;
    expect(first.poses).toHaveLength(1);
    first.break();
    expect(connection.state).toBe("interrupted");
    await pass(10);
    expect([connection.state, states, resumed]).toEqual(["connected", ["interrupted", "connected"], 1]);
    expect(world.attempts[1]?.resumeSecret).toBe("secret");
    expect(world.asked.findLast(({ method }) => method === "connection.open")?.params).toMatchObject({ width: 640 });
    // Its last pose may have been lost with the line.
    expect(world.line.poses).toEqual(first.poses);
    await connection.close();
    expect(closed).toEqual([failed("DisconnectRequest")]);
  });

  it("fails what was asked before, and holds back what is asked meanwhile", async () => {
    world.answer = (method) =>
      method === "statistics.get" && world.lines.length === 1 ? undefined : { draws: 7, hits: [] };
    const connection = await connect();
    const before = connection.serverStatistics();
    const told = expect(before).rejects.toEqual(failed("ConnectionLost"));
    world.line.break();
    await told;
    const meanwhile = connection.serverStatistics();
    const bounds = connection.scene.castRay([0, 0, 0], [1, 0, 0]);
    await pass(10);
    expect(await meanwhile).toMatchObject({ draws: 7 });
    expect(await bounds).toEqual({ hits: [], complete: true });
    expect(world.methods(1)).toEqual(["connection.open", "statistics.get", "scene.castRay"]);
    await connection.close();
  });

  it("sends what was set meanwhile, and what was not answered, in order", async () => {
    world.answer = (method) => (method === "scene.apply" && world.lines.length === 1 ? undefined : { applied: 1 });
    const connection = await connect();
    const first = connection.scene.create("first");
    await pass(1);
    world.line.break();
    first.name = "renamed";
    await pass(10);
    await connection.scene.flush();
    const sent = world.asked.filter(({ line, method }) => line === 1 && method === "scene.apply");
    const commands = sent.flatMap(({ params }) => params.commands as { op: string }[]);
    expect(commands.map(({ op }) => op)).toEqual(["create", "setName"]);
    await connection.close();
  });

  it("shows the stream of the next line in the same elements", async () => {
    const connection = await connect();
    const video = { play: async () => undefined } as unknown as HTMLVideoElement;
    const detach = connection.attach(video);
    const first = world.line;
    first.break();
    await pass(10);
    expect([first.attachments, world.line.attachments]).toEqual([0, 1]);
    detach();
    expect(world.line.attachments).toBe(0);
    await connection.close();
  });

  it("is tried again and again, with pauses", async () => {
    const connection = await connect();
    const gone = (): FarframeError => new FarframeError("ConnectionLost", "No network.");
    world.refusals = [gone(), gone(), gone(), gone()];
    world.line.break();
    await pass(100);
    expect(world.attempts).toHaveLength(2);
    await pass(5000);
    expect([connection.state, world.attempts.length, resumed]).toEqual(["connected", 6, 1]);
    await connection.close();
  });

  it("may be lost again on the way back", async () => {
    const connection = await connect();
    const line = world.line;
    world.answer = () => undefined;
    line.break();
    await pass(10);
    world.line.break();
    world.answer = () => ({});
    await pass(1000);
    expect([connection.state, states.filter((state) => state === "interrupted").length]).toEqual(["connected", 2]);
    await connection.close();
  });

  it("is not listened to any more", async () => {
    const connection = await connect();
    const first = world.line;
    first.break();
    await pass(10);
    first.events.control(
      JSON.stringify({ jsonrpc: "2.0", method: "session.ending", params: { reason: "SessionStopped" } }),
    );
    first.events.lost();
    expect(connection.state).toBe("connected");
    await connection.close();
  });
});

describe("coming back ends", () => {
  it("when the scene is gone", async () => {
    const connection = await connect();
    world.refusals = [new FarframeError("NothingToResume", "Gone.")];
    world.line.break();
    await pass(10);
    expect([connection.state, closed, resumed]).toEqual(["closed", [failed("NothingToResume")], 0]);
    await expect(connection.serverStatistics()).rejects.toEqual(failed("NothingToResume"));
    await expect(connection.scene.flush()).rejects.toEqual(failed("NothingToResume"));
  });

  it("when the time is over for which the scene is kept", async () => {
    world.grace = 3;
    const connection = await connect();
    world.refusals = Array.from({ length: 100 }, () => new FarframeError("ConnectionLost", "No network."));
    world.line.break();
    await pass(20_000);
    expect([connection.state, closed]).toEqual(["closed", [failed("ConnectionLost")]]);
    const attempts = world.attempts.length;
    await pass(20_000);
    expect(world.attempts).toHaveLength(attempts);
  });

  it("before it begins, where nothing is kept or nobody wants it", async () => {
    world.secret = undefined;
    await connect();
    world.line.break();
    await pass(1000);
    expect([closed, world.attempts.length]).toEqual([[failed("ConnectionLost")], 1]);
    world = new World();
    closed = [];
    await connect({ reconnect: false });
    world.line.break();
    await pass(1000);
    expect([closed, world.attempts.length]).toEqual([[failed("ConnectionLost")], 1]);
  });

  it("when the page closes it, which gives the scene up", async () => {
    const calls: [string, RequestInit | undefined][] = [];
    const connection = await connect({
      fetch: async (url, init) => {
        calls.push([url, init]);
        return new Response();
      },
    });
    world.refusals = Array.from({ length: 100 }, () => new FarframeError("ConnectionLost", "No network."));
    world.line.break();
    await pass(100);
    await connection.close();
    const [url, init] = calls[0] as [string, RequestInit];
    expect([url, init.method]).toEqual(["https://service/accounts/a/sessions/s/whep", "DELETE"]);
    expect(new Headers(init.headers).get("Farframe-Resume")).toBe("secret");
    expect(closed).toEqual([failed("DisconnectRequest")]);
  });
});

describe("a token that has run out meanwhile", () => {
  it("is asked for anew", async () => {
    const tokens = ["old", "new"];
    const refusedOnes: (string | undefined)[] = [];
    const connection = await connect({
      token: ({ refused }) => {
        refusedOnes.push(refused);
        return tokens.shift() ?? "newest";
      },
    });
    world.refusals = [new FarframeError("AuthenticationFailed", "Expired.")];
    world.line.break();
    await pass(10);
    expect(connection.state).toBe("connected");
    expect(world.attempts.map(({ token }) => token)).toEqual(["old", "old", "new"]);
    expect(refusedOnes).toEqual([undefined, "old"]);
    await connection.close();
  });

  it("ends the connection where there is no other", async () => {
    await connect();
    world.refusals = [new FarframeError("AuthenticationFailed", "Expired.")];
    world.line.break();
    await pass(10);
    expect(closed).toEqual([failed("AuthenticationFailed")]);
  });
});

describe("a model whose load was answered to nobody", () => {
  it("is taken out, those that the page knows are not", async () => {
    world.answer = (method) => {
      if (method === "scene.loadModel") return world.models.length === 0 ? model(7) : undefined;
      return { applied: 1 };
    };
    const connection = await connect();
    await connection.loadModel("x");
    world.models = [model(7)];
    const lost = expect(connection.loadModel("y")).rejects.toEqual(failed("ConnectionLost"));
    world.models = [model(7), model(8)];
    await pass(1);
    world.line.break();
    await lost;
    await pass(10);
    await connection.scene.flush();
    const sent = world.asked.filter(({ line, method }) => line === 1 && method === "scene.apply");
    expect(sent.flatMap(({ params }) => params.commands)).toEqual([{ op: "destroy", id: 2 ** 31 + 8 }]);
    await connection.close();
  });
});

describe("silence", () => {
  it("is told, and then taken for a loss", async () => {
    const connection = await connect();
    const silent = world.line;
    silent.sendControl = () => undefined;
    world.refusals = [new FarframeError("ConnectionLost", "No network.")];
    await pass(3500);
    expect(connection.state).toBe("interrupted");
    expect(world.attempts).toHaveLength(1);
    await pass(4000);
    expect([connection.state, resumed]).toEqual(["connected", 1]);
    await connection.close();
  });

  it("is not the server's while the page itself stands still", async () => {
    const connection = await connect();
    await pass(500);
    const now = performance.now.bind(performance);
    let stood = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now() + stood);
    const answers = world.line.sendControl;
    for (const milliseconds of [3000, 9000]) {
      // The timer comes first, then what the server said meanwhile.
      world.line.sendControl = () => undefined;
      stood += milliseconds;
      await pass(600);
      world.line.events.record(new ArrayBuffer(0));
      world.line.sendControl = answers;
      await pass(2000);
    }
    expect([states, world.lines.length]).toEqual([[], 1]);
    // Where nothing came it is the server's silence after all.
    world.line.sendControl = () => undefined;
    stood += 9000;
    await pass(1300);
    expect(states).toContain("interrupted");
    clock.mockRestore();
    await connection.close();
  });
});
