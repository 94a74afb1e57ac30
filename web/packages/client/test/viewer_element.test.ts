import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  Connection,
  type ConnectOptions,
  FarframeError,
  forgetWays,
  ManagementClient,
  type Result,
  type Session,
} from "../src/index.ts";
import type { FarframeViewerElement } from "../src/viewer_element.ts";
import { World } from "./world.ts";

const failed = (result: Result): object => expect.objectContaining({ result });

/** As much of an element as the viewer needs where there is no page. */
class FakeElement extends EventTarget {
  static readonly observedAttributes: readonly string[] = [];
  readonly style: Record<string, string> = {};
  readonly #attributes = new Map<string, string>();
  isConnected = false;
  hidden = false;
  textContent = "";
  clientWidth = 640;
  clientHeight = 480;

  getAttribute(name: string): string | null {
    return this.#attributes.get(name) ?? null;
  }

  setAttribute(name: string, value: string): void {
    this.#attributes.set(name, value);
    const { observedAttributes } = this.constructor as typeof FakeElement;
    if (observedAttributes.includes(name)) (this as unknown as FarframeViewerElement).attributeChangedCallback(name);
  }

  removeAttribute(name: string): void {
    this.#attributes.delete(name);
  }

  hasAttribute(name: string): boolean {
    return this.#attributes.has(name);
  }

  toggleAttribute(name: string, on: boolean): void {
    if (on) this.setAttribute(name, "");
    else this.removeAttribute(name);
  }

  attachShadow(): FakeElement {
    return new FakeElement();
  }

  appendChild(): void {}

  focus(): void {}

  async play(): Promise<void> {}
}

let world: World;
let viewer: FarframeViewerElement;
let attempts: ConnectOptions[];

/** Lets everything go on that waits for nothing but its turn. */
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

/** Puts it into the page. */
function show(session = "s"): void {
  viewer.endpoint = "https://service";
  viewer.account = "a";
  viewer.session = session;
  viewer.tokenProvider = () => "token";
  (viewer as unknown as FakeElement).isConnected = true;
  viewer.connectedCallback();
}

beforeEach(async () => {
  vi.stubGlobal("HTMLElement", FakeElement);
  vi.stubGlobal("document", { createElement: () => new FakeElement() });
  vi.stubGlobal(
    "CSSStyleSheet",
    class {
      replaceSync(): void {}
    },
  );
  vi.stubGlobal(
    "ResizeObserver",
    class {
      observe(): void {}
      disconnect(): void {}
    },
  );
  vi.stubGlobal("requestAnimationFrame", (callback: () => void) => setTimeout(callback, 0));
  vi.stubGlobal("cancelAnimationFrame", () => undefined);
  vi.stubGlobal("devicePixelRatio", 1);
  vi.spyOn(ManagementClient.prototype, "waitUntilReady").mockResolvedValue({ status: "Ready" } as Session);
  vi.spyOn(ManagementClient.prototype, "iceServers").mockResolvedValue([]);
  attempts = [];
  vi.spyOn(Connection, "connect").mockImplementation((options) => {
    attempts.push(options);
    return Connection.connectWith({ ...options, way: "webrtc" }, world.openers);
  });
  forgetWays();
  world = new World();
  const { FarframeViewerElement } = await import("../src/viewer_element.ts");
  viewer = new FarframeViewerElement();
});

afterEach(async () => {
  await viewer.disconnect();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

describe("waiting for the connection", () => {
  it("begins before there is an attempt", async () => {
    const waiting = viewer.whenConnected();
    show();
    const atOnce = viewer.whenConnected();
    const connection = await waiting;
    expect(await atOnce).toBe(connection);
    expect(viewer.connection).toBe(connection);
    expect(viewer.state).toBe("connected");
  });

  it("is for what is asked for now, not for what was before", async () => {
    show("first");
    const first = await viewer.whenConnected();
    viewer.session = "second";
    const second = await viewer.whenConnected();
    expect(second).not.toBe(first);
    expect(first.state).toBe("closed");
    expect(attempts.map(({ url }) => url.split("/").at(-2))).toEqual(["first", "second"]);
  });
});

describe("an attempt that is given up", () => {
  it("leaves no trace when its connection comes nevertheless", async () => {
    const made: PromiseWithResolvers<Connection>[] = [];
    const connect = (): Promise<Connection> => {
      const next = Promise.withResolvers<Connection>();
      made.push(next);
      return next.promise;
    };
    vi.mocked(Connection.connect).mockImplementation(connect);
    const options = { token: "token", width: 64, height: 64, way: "webrtc", url: "https://service/whep" } as const;
    show("first");
    await vi.waitFor(() => expect(made).toHaveLength(1), 30_000);
    viewer.session = "second";
    await vi.waitFor(() => expect(made).toHaveLength(2), 30_000);
    const first = await Connection.connectWith(options, world.openers);
    made[0]?.resolve(first);
    await vi.waitFor(() => expect(first.state).toBe("closed"), 30_000);
    expect([viewer.state, viewer.connection]).toEqual(["connecting", undefined]);
    const second = await Connection.connectWith(options, world.openers);
    made[1]?.resolve(second);
    expect(await viewer.whenConnected()).toBe(second);
    expect(viewer.connection).toBe(second);
  });

  it("has left the session before the next one asks for a place there", async () => {
    show();
    const first = await viewer.whenConnected();
    const left = Promise.withResolvers<void>();
    world.line.end = () => left.promise;
    viewer.renderMode = "TileBasedComposition";
    await vi.waitFor(() => expect(first.state).toBe("closed"), 30_000);
    await turn();
    expect(attempts).toHaveLength(1);
    left.resolve();
    const second = await viewer.whenConnected();
    expect(second.renderMode).toBe("TileBasedComposition");
    expect(attempts.map(({ renderMode }) => renderMode)).toEqual(["Default", "TileBasedComposition"]);
  });
});

describe("the render mode", () => {
  it("is Default where the attribute is absent or wrong, and not for who watches", async () => {
    expect(viewer.renderMode).toBe("Default");
    viewer.setAttribute("render-mode", "tiles");
    expect(viewer.renderMode).toBe("Default");
    viewer.setAttribute("render-mode", "DepthBasedComposition");
    expect(viewer.renderMode).toBe("DepthBasedComposition");
    viewer.watch = true;
    show();
    await viewer.whenConnected();
    expect(attempts[0]).toMatchObject({ watch: true });
    expect(attempts[0]).not.toHaveProperty("renderMode");
  });
});

describe("moving the camera", () => {
  it("ends where the last call wants it, in whichever order answers come", async () => {
    show();
    const { scene } = await viewer.whenConnected();
    const box = (x: number): object => ({ bounds: { min: [x, 0, 0], max: [x + 1, 1, 1] } });
    const count = (): number => world.methods(0).filter((method) => method === "scene.getBounds").length;
    world.answer = (method) => (method === "scene.getBounds" ? box(0) : { applied: 1 });
    const [near, far] = [scene.create("near"), scene.create("far")];
    await scene.flush();
    // What came makes the viewer ask where it reaches.
    await vi.waitFor(() => expect(count()).toBe(2), 30_000);
    await turn();
    world.answer = (method) => (method === "scene.getBounds" ? undefined : { applied: 1 });
    const asks = (): number => count() - 2;
    const settle = (answer: object, number: number): void => world.settle("scene.getBounds", answer, number + 2);
    // Each asks for both roots first, and then for what it looks at.
    const first = viewer.lookAt(near);
    await vi.waitFor(() => expect(asks()).toBe(2), 30_000);
    const second = viewer.lookAt(far);
    await vi.waitFor(() => expect(asks()).toBe(4), 30_000);
    settle(box(0), 2);
    settle(box(100), 3);
    await vi.waitFor(() => expect(asks()).toBe(5), 30_000);
    settle(box(100), 4);
    await second;
    expect(viewer.camera.target[0]).toBeCloseTo(100.5);
    settle(box(0), 0);
    settle(box(100), 1);
    await vi.waitFor(() => expect(asks()).toBe(6), 30_000);
    settle(box(0), 5);
    await first;
    expect(viewer.camera.target[0]).toBeCloseTo(100.5);
    const fit = viewer.fit();
    viewer.camera.lookFrom([0, 0, 5], [7, 0, 0]);
    viewer.refresh();
    world.answer = () => box(0);
    await vi.waitFor(() => expect(asks()).toBe(8), 30_000);
    settle(box(0), 6);
    settle(box(0), 7);
    await fit;
    expect(viewer.camera.target[0]).toBeCloseTo(7);
  });

  it("clips nothing away that was moved far off", async () => {
    show();
    const { scene } = await viewer.whenConnected();
    let place = 0;
    world.answer = (method) =>
      method === "scene.getBounds" ? { bounds: { min: [-1, -1, place - 1], max: [1, 1, place + 1] } } : { applied: 1 };
    const ball = scene.create("ball");
    viewer.camera.lookFrom([0, 0, 5], [0, 0, 0]);
    await vi.waitFor(() => expect(viewer.camera.clip().far).toBeLessThan(10), 30_000);
    place = -1000;
    ball.position = [0, 0, place];
    await vi.waitFor(() => expect(viewer.camera.clip().far).toBeGreaterThan(1006), 30_000);
  });

  it("asks where things are only once at a time, however long they move", async () => {
    show();
    const { scene } = await viewer.whenConnected();
    const asks = (): number => world.methods(0).filter((method) => method === "scene.getBounds").length;
    world.answer = (method) => (method === "scene.getBounds" ? undefined : { applied: 1 });
    const ball = scene.create("ball");
    await vi.waitFor(() => expect(asks()).toBe(1), 30_000);
    for (let step = 1; step <= 8; step++) {
      ball.position = [step, 0, 0];
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(asks()).toBe(1);
    world.settle("scene.getBounds", { bounds: { min: [7, -1, -1], max: [9, 1, 1] } }, 0);
    await vi.waitFor(() => expect(asks()).toBe(2), 30_000);
    world.settle("scene.getBounds", { bounds: { min: [7, -1, -1], max: [9, 1, 1] } }, 1);
  });
});

it("tells why there is no connection where the attempt fails", async () => {
  world.refusals = [new FarframeError("SessionExpired", "Over.")];
  const waiting = expect(viewer.whenConnected()).rejects.toEqual(failed("SessionExpired"));
  show();
  await waiting;
  expect(viewer.state).toBe("disconnected");
});
