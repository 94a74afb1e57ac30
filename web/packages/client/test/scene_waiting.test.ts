import { expect, it, vi } from "vitest";
import { type Entity, Scene } from "../src/index.ts";
import { Server, same } from "./model_server.ts";

const refusal = (result: string): object => expect.objectContaining({ result });

/** A server that a test lets answer. */
class SlowServer extends Server {
  readonly waiting: { method: string; params: Record<string, unknown>; answer: () => void }[] = [];
  slow = new Set<string>();

  override async request(method: string, params: object): Promise<unknown> {
    if (this.slow.has(method)) {
      await new Promise<void>((resolve) =>
        this.waiting.push({ method, params: params as Record<string, unknown>, answer: resolve }),
      );
    }
    return super.request(method, params);
  }

  /** The next request of a method, once it has come. */
  async next(method: string): Promise<{ params: Record<string, unknown>; answer: () => void }> {
    await vi.waitFor(() => expect(this.waiting.some((each) => each.method === method)).toBe(true), 30_000);
    const index = this.waiting.findIndex((each) => each.method === method);
    return this.waiting.splice(index, 1)[0] as { params: Record<string, unknown>; answer: () => void };
  }
}

it("does not wait for what is set later, however much comes", async () => {
  const server = new SlowServer();
  server.slow.add("scene.apply");
  const scene = new Scene(server);
  const entity = scene.create("moved");
  let done = false;
  const flushed = scene.flush().then(() => {
    done = true;
  });
  const first = await server.next("scene.apply");
  entity.position = [1, 0, 0];
  const second = await server.next("scene.apply");
  first.answer();
  await flushed;
  expect(done).toBe(true);
  second.answer();
  await scene.flush();
});

it("waits for what was streamed, too, which may have been lost", async () => {
  const server = new SlowServer();
  const scene = new Scene(server);
  const entity = scene.create("moved");
  await scene.flush();
  scene.setTransforms([entity], { positions: [[1, 2, 3]] }, { streaming: true });
  server.slow.add("scene.apply");
  let done = false;
  const flushed = scene.flush().then(() => {
    done = true;
  });
  const sure = await server.next("scene.apply");
  expect(done).toBe(false);
  sure.answer();
  await flushed;
  same(scene, server);
});

it("asks without waiting for the room that later commands need", async () => {
  const server = new SlowServer();
  server.slow.add("scene.apply");
  const scene = new Scene(server);
  const entity = scene.create("moved");
  const applied: (() => void)[] = [];
  // As many as may be under way, and one more.
  for (let turn = 0; turn < 16; turn++) {
    entity.position = [turn, 0, 0];
    applied.push((await server.next("scene.apply")).answer);
  }
  entity.position = [16, 0, 0];
  const asked = entity.bounds();
  await new Promise((resolve) => setTimeout(resolve, 0));
  entity.position = [17, 0, 0];
  await new Promise((resolve) => setTimeout(resolve, 0));
  applied.shift()?.();
  applied.push((await server.next("scene.apply")).answer);
  expect(await asked).toBeDefined();
  server.slow.clear();
  for (const answer of [...applied, ...server.waiting.map((each) => each.answer)]) answer();
  await scene.flush();
});

it("tells each batch what of it was refused, and not what was of another", async () => {
  const server = new SlowServer();
  server.slow.add("scene.apply");
  const scene = new Scene(server);
  let lost: Entity | undefined;
  const bad = expect(
    scene.batch(() => {
      lost = scene.create("bad");
    }),
  ).rejects.toEqual(refusal("AlreadyExists"));
  const first = await server.next("scene.apply");
  server.rows.set(lost?.id as number, {} as never);
  const good = scene.batch(() => void scene.create("good"));
  const second = await server.next("scene.apply");
  first.answer();
  await bad;
  second.answer();
  await good;
});

it("sends what was set in a batch whose work failed", async () => {
  const server = new Server();
  const scene = new Scene(server);
  const failing = scene.batch(() => {
    scene.create("made");
    throw new Error("a bug of the page");
  });
  await expect(failing).rejects.toThrow("a bug of the page");
  await vi.waitFor(() => expect([...server.rows.values()].map(({ name }) => name)).toEqual(["made"]), 30_000);
});

it.each(["scene.getEntities", "scene.getSubParts", "scene.getMaterials"])(
  "shows nothing of a model that went with its parent or with everything during %s",
  async (method) => {
    for (const take of [(_scene: Scene, parent: Entity) => parent.destroy(), (scene: Scene) => scene.forget()]) {
      const server = new SlowServer();
      const scene = new Scene(server);
      const parent = scene.create("parent");
      await scene.flush();
      server.slow.add(method);
      const load = expect(scene.loadModel("5", { parent })).rejects.toEqual(refusal("Cancelled"));
      const asked = await server.next(method);
      // The answer is on its way when the page takes the parent out.
      asked.answer();
      take(scene, parent);
      await load;
      expect([scene.size, scene.roots, scene.materials]).toEqual([0, [], []]);
      server.slow.clear();
      await scene.flush();
    }
  },
);

it("takes a model out whose load is aborted while it is told what is in it", async () => {
  const server = new SlowServer();
  const scene = new Scene(server);
  server.slow.add("scene.getSubParts");
  const abort = new AbortController();
  const load = expect(scene.loadModel("5", { signal: abort.signal })).rejects.toEqual(refusal("Cancelled"));
  const asked = await server.next("scene.getSubParts");
  abort.abort();
  asked.answer();
  await load;
  expect(scene.size).toBe(0);
  await scene.flush();
  expect(server.rows.size).toBe(0);
});

it("asks for what was given, whatever the page does with its arrays meanwhile", async () => {
  const server = new SlowServer();
  server.slow.add("scene.castRay");
  const scene = new Scene(server);
  const start: [number, number, number] = [0, 5, 0];
  const tint: [number, number, number, number] = [1, 0, 0, 1];
  const entity = scene.create("tinted");
  entity.override({ tint });
  tint[0] = 0;
  const cast = scene.castRay(start, [0, 0, 0]);
  start[1] = -5;
  const asked = await server.next("scene.castRay");
  expect(asked.params.start).toEqual([0, 5, 0]);
  asked.answer();
  await cast;
  expect(server.rows.get(entity.id)?.tint).toEqual([1, 0, 0, 1]);
});

it("keeps a texture that another load gets, and destroys it when none does", async () => {
  const server = new Server();
  const scene = new Scene(server);
  const load = scene.loadTexture("x");
  const info = { id: 1, kind: "2d", uri: "x", width: 4, height: 4, levels: 3, sizeBytes: 84 } as const;
  scene.discardTexture(info);
  const texture = await load;
  expect(texture.id).toBe(1);
  await scene.flush();
  expect(server.textures.get(1)?.wanted).not.toBe(false);
  scene.discardTexture(info);
  await scene.flush();
  expect(server.textures.get(1)?.wanted).not.toBe(false);
  texture.destroy();
  await scene.flush();
  // Loaded once more by somebody who then gave up.
  server.textures.set(1, { ...info });
  scene.discardTexture(info);
  await scene.flush();
  expect(server.textures.get(1)?.wanted).toBe(false);
});
