import { describe, expect, it } from "vitest";
import { type Entity, FarframeError, type LoadedModel, Scene, type SceneLink } from "../src/index.ts";
import {
  decodeEntities,
  type EntityRow,
  encodeTransforms,
  fromBase64,
  HAS_POSITION,
  HAS_ROTATION,
  HAS_SCALE,
  toBase64,
} from "../src/scene_codec.ts";
import fixtures from "./fixtures/scene.json" with { type: "json" };

interface Row {
  id: number;
  parent: number;
  name: string;
  position: number[];
  rotation: number[];
  scale: number[];
  enabled: boolean;
  on: number;
  off: number;
  tint: number[];
  flags: number;
  sequence: number;
}

type Command = Record<string, unknown> & { op: string; id?: number };

async function deflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The server in the simplest way that can be right: it does what docs/protocol.md says. */
class Server implements SceneLink {
  readonly rows = new Map<number, Row>();
  readonly batches: Command[][] = [];
  readonly records: ArrayBuffer[] = [];
  lose = (): boolean => false;
  broken: FarframeError | undefined;
  answersLost = false;
  #nextModel = 2 ** 31;

  async request(method: string, params: object): Promise<unknown> {
    if (this.broken) throw this.broken;
    const given = JSON.parse(JSON.stringify(params)) as Record<string, unknown>;
    expect(JSON.stringify(params).length).toBeLessThan(250_000);
    const answer = await this.#answer(method, given);
    await Promise.resolve();
    if (this.broken || this.answersLost) throw this.broken ?? new FarframeError("ConnectionLost", "Gone.");
    return answer;
  }

  sendRecord(bytes: ArrayBuffer): void {
    if (!this.lose()) this.records.push(bytes);
  }

  async load(uri: string, parent: number): Promise<LoadedModel> {
    if (parent && !this.rows.has(parent)) throw new FarframeError("InvalidParentId", "No such parent.");
    const count = Number(uri);
    const first = this.#nextModel;
    this.#nextModel += count;
    for (let row = 0; row < count; row++) {
      this.rows.set(first + row, this.#row(first + row, row === 0 ? parent : first, `part ${row}`, row ? 1 : 0));
      (this.rows.get(first + row) as Row).position = [row, 0, 0];
    }
    return { modelId: first, rootEntity: first, entityCount: count, name: uri, uri } as unknown as LoadedModel;
  }

  arrive(record: ArrayBuffer): void {
    const data = new DataView(record);
    expect([data.getUint8(0), data.getUint8(1)]).toEqual([3, 1]);
    const has = data.getUint8(2);
    const sequence = data.getUint32(4, true);
    const count = data.getUint32(8, true);
    const ids = record.byteLength - 4 * count;
    for (let index = 0; index < count; index++) {
      const row = this.rows.get(data.getUint32(ids + 4 * index, true));
      if (!row || sequence < row.sequence) continue;
      row.sequence = sequence;
      expect(has).toBe(HAS_POSITION);
      row.position = [0, 8, 16].map((step) => data.getFloat64(16 + 24 * index + step, true));
    }
  }

  #row(id: number, parent: number, name: string, flags: number): Row {
    const still = { position: [0, 0, 0], rotation: [0, 0, 0, 1], scale: [1, 1, 1] };
    return { id, parent, name, ...still, enabled: true, on: 0, off: 0, tint: [1, 1, 1, 1], flags, sequence: 0 };
  }

  async #answer(method: string, params: Record<string, unknown>): Promise<unknown> {
    if (method === "scene.apply") {
      const commands = params.commands as Command[];
      this.batches.push(commands);
      const failures = commands.flatMap((command, index) => {
        const result = this.#apply(command, params.sequence as number);
        return result ? [{ index, result, message: `${result}.` }] : [];
      });
      return { applied: commands.length - failures.length, ...(failures.length > 0 && { failures }) };
    }
    if (method === "scene.getEntities") return this.#page(params.first as number, params.last as number);
    if (method === "scene.getBounds")
      return params.space === "local" ? {} : { bounds: { min: [0, 0, 0], max: [1, 1, 1] } };
    if (method === "scene.getMetadata") {
      return params.after === "" ? { metadata: { a: 1 }, more: true } : { metadata: { b: "x" } };
    }
    if (method === "scene.castRay") {
      const hit = { subPart: 0, position: [0, 0, 0], normal: [0, 1, 0], distance: 1, kind: "front" };
      return { hits: [...this.rows.keys(), 77].map((entity) => ({ entity, ...hit })) };
    }
    throw new FarframeError("NotSupported", method);
  }

  #apply(command: Command, sequence: number): string | undefined {
    const ids = command.ids === undefined ? [command.id as number] : this.#unpack(command.ids as string);
    if (command.op === "create") {
      const id = command.id as number;
      const parent = command.parent as number;
      if (this.rows.has(id)) return "AlreadyExists";
      if (parent && !this.rows.has(parent)) return "InvalidParentId";
      const row = { ...this.#row(id, parent, "", 0), ...command } as unknown as Row;
      this.rows.set(id, row);
      return undefined;
    }
    if (ids.some((id) => !this.rows.has(id))) return "InvalidId";
    const rows = ids.map((id) => this.rows.get(id) as Row);
    if (command.op === "destroy") {
      const gone = [...this.rows.keys()].filter((id) => this.#above(id).includes(ids[0] as number));
      for (const id of gone) this.rows.delete(id);
    } else if (command.op === "setParent") {
      const parent = command.parent as number;
      if (parent && !this.rows.has(parent)) return "InvalidParentId";
      if (parent && this.#above(parent).includes(ids[0] as number)) return "CyclicReference";
      (rows[0] as Row).parent = parent;
    } else if (command.op === "setName") (rows[0] as Row).name = command.name as string;
    else if (command.op === "setEnabled") for (const row of rows) row.enabled = command.enabled as boolean;
    else if (command.op === "setStates") {
      for (const row of rows) {
        const keep = ~((command.on as number) | (command.off as number) | (command.inherit as number));
        row.on = (row.on & keep) | (command.on as number);
        row.off = (row.off & keep) | (command.off as number);
        if (command.tint) row.tint = command.tint as number[];
      }
    } else if (command.op === "setTransforms") {
      for (const [key, name, width, size] of [
        ["positions", "position", 3, 8],
        ["rotations", "rotation", 4, 4],
        ["scales", "scale", 3, 4],
      ] as const) {
        if (command[key] === undefined) continue;
        const data = new DataView(fromBase64(command[key] as string).buffer);
        expect(data.byteLength).toBe(width * size * rows.length);
        rows.forEach((row, index) => {
          if (sequence < row.sequence) return;
          row[name] = Array.from({ length: width }, (_, place) => {
            const at = (index * width + place) * size;
            return size === 8 ? data.getFloat64(at, true) : data.getFloat32(at, true);
          });
        });
      }
      for (const row of rows) row.sequence = Math.max(row.sequence, sequence);
    } else return "InvalidParam";
    return undefined;
  }

  #above(id: number): number[] {
    const found: number[] = [];
    for (let at = id; at; at = this.rows.get(at)?.parent ?? 0) found.push(at);
    return found;
  }

  #unpack(text: string): number[] {
    const data = new DataView(fromBase64(text).buffer);
    return Array.from({ length: data.byteLength / 4 }, (_, index) => data.getUint32(4 * index, true));
  }

  async #page(first: number, last: number): Promise<object> {
    const ids = [...this.rows.keys()].filter((id) => id >= first && id <= last).sort((a, b) => a - b);
    const rows = ids.slice(0, 100).map((id) => this.rows.get(id) as Row);
    const bytes: number[] = [];
    const put = (size: number, write: (data: DataView) => void): void => {
      const data = new DataView(new ArrayBuffer(size));
      write(data);
      bytes.push(...new Uint8Array(data.buffer));
    };
    const floats = (values: number[]): void => {
      for (const value of values) put(4, (data) => data.setFloat32(0, value, true));
    };
    const names = rows.map((row) => new TextEncoder().encode(row.name));
    for (const row of rows) for (const value of row.position) put(8, (data) => data.setFloat64(0, value, true));
    for (const row of rows) put(4, (data) => data.setUint32(0, row.id, true));
    for (const row of rows) put(4, (data) => data.setUint32(0, row.parent, true));
    for (const row of rows) floats(row.rotation);
    for (const row of rows) floats(row.scale);
    for (const row of rows) floats(row.tint);
    for (const row of rows) put(2, (data) => data.setUint16(0, row.on, true));
    for (const row of rows) put(2, (data) => data.setUint16(0, row.off, true));
    for (const name of names) put(2, (data) => data.setUint16(0, name.length, true));
    for (const row of rows) bytes.push(row.flags | (row.enabled ? 0 : 8));
    for (const _ of rows) bytes.push(255);
    for (const name of names) bytes.push(...name);
    const data = toBase64(await deflate(new Uint8Array(bytes)));
    return { count: rows.length, data, ...(ids[100] !== undefined && { next: ids[100] }) };
  }
}

function same(scene: Scene, server: Server): void {
  expect(scene.size).toBe(server.rows.size);
  for (const entity of scene) {
    const row = server.rows.get(entity.id) as Row;
    expect(row.parent).toBe(entity.parent?.id ?? 0);
    expect(row.name).toBe(entity.name);
    expect(row.enabled).toBe(entity.enabled);
    expect(row.position).toEqual(entity.position);
    entity.scale.forEach((value, index) => {
      expect(row.scale[index]).toBeCloseTo(value, 5);
    });
    expect([(row.on & 1) !== 0, (row.off & 1) !== 0]).toEqual([
      entity.overrides.hidden === true,
      entity.overrides.hidden === false,
    ]);
    expect((row.on & 8) !== 0).toBe(Boolean(entity.overrides.tint));
  }
}

/** A generator of numbers below 1, the same for the same seed (mulberry32). */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const refusal = (result: string): object => expect.objectContaining({ result });

describe("Scene", () => {
  it("has at once what was set, and sends it as one batch", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const parent = scene.create("parent", { position: [1, 2, 3] });
    const child = scene.create("child", { parent });
    child.position = [4, 5, 6];
    child.rotation = [0, 0, 3, 4];
    child.scale = [2, 2, 2];
    parent.override({ hidden: true, tint: [1, 0, 0, 0.5] });
    parent.enabled = false;
    expect(child.rotation).toEqual([0, 0, 0.6, 0.8]);
    expect(scene.find("child")).toBe(child);
    expect(parent.children).toEqual([child]);
    expect(server.batches).toHaveLength(0);
    await scene.flush();
    expect(server.batches).toHaveLength(1);
    same(scene, server);
    parent.override({ hidden: undefined });
    await Promise.resolve();
    await scene.flush();
    expect(server.rows.get(parent.id)?.on).toBe(8);
  });

  it("holds a batch back until its end, and rejects with what was refused", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const told: string[] = [];
    scene.on("failure", (failure) => told.push(failure.result));
    let entity: Entity | undefined;
    await scene.batch(async () => {
      entity = scene.create("a");
      await new Promise((resolve) => setTimeout(resolve, 1));
      expect(server.batches).toHaveLength(0);
    });
    server.rows.clear();
    await expect(
      scene.batch(() => {
        if (entity) entity.name = "b";
      }),
    ).rejects.toEqual(refusal("InvalidId"));
    expect(told).toEqual(["InvalidId"]);
    await scene.flush();
  });

  it("throws at once what can be seen to be wrong, and changes nothing", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const a = scene.create("a");
    const b = scene.create("b", { parent: a });
    const tries: [() => void, string][] = [
      [() => (a.parent = b), "CyclicReference"],
      [() => (a.parent = a), "CyclicReference"],
      [() => (a.name = "x".repeat(1025)), "StringTooLong"],
      [() => (a.position = [0, 0, Number.NaN]), "InvalidParam"],
      [() => (a.position = [0, 0] as never), "InvalidParam"],
      [() => (a.rotation = [0, 0, 0, 0]), "InvalidParam"],
      [() => a.override({ tint: [2, 0, 0, 1] }), "InvalidParam"],
      [() => a.override({ cutPlaneMask: 256 }), "InvalidParam"],
      [() => scene.setTransforms([a, b], { positions: [[0, 0, 0]] }), "InvalidParam"],
    ];
    for (const [attempt, result] of tries) expect(attempt).toThrow(refusal(result));
    const c = scene.create("c", { parent: b });
    b.destroy();
    b.destroy();
    expect([b.valid, c.valid, a.children.length]).toEqual([false, false, 0]);
    expect(() => (c.position = [0, 0, 0])).toThrow(refusal("InvalidId"));
    expect(() => (a.parent = c)).toThrow(refusal("InvalidId"));
    expect(() => scene.create("d", { parent: c })).toThrow(refusal("InvalidId"));
    await scene.flush();
    same(scene, server);
  });

  it("mirrors a model page by page, asks about it, and takes it out with its root", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const shelf = scene.create("shelf");
    const root = await scene.loadModel("350", { parent: shelf });
    expect(root.children).toHaveLength(349);
    expect(root.model?.entityCount).toBe(350);
    expect(root.find("part 7")?.hasMesh).toBe(true);
    same(scene, server);
    expect(await root.bounds()).toEqual({ min: [0, 0, 0], max: [1, 1, 1] });
    expect(await root.bounds("local")).toBeUndefined();
    expect(await root.metadata()).toEqual({ a: 1, b: "x" });
    const { hits, complete } = await scene.castRay([0, 0, 0], [1, 0, 0]);
    expect([hits.length, complete, hits[0]?.entity]).toEqual([351, true, shelf]);
    shelf.destroy();
    await scene.flush();
    expect(server.rows.size).toBe(0);
  });

  it("splits what is large", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const root = await scene.loadModel("4000");
    server.batches.length = 0;
    scene.setTransforms(root.children, {
      positions: root.children.map((_, index) => [index, 1, 2]),
      scales: root.children.map(() => [2, 2, 2]),
    });
    scene.override(root.children, { hidden: true });
    await scene.flush();
    expect(server.batches.length).toBeLessThan(6);
    same(scene, server);
  });

  it("takes over what a server holds", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const shelf = scene.create("shelf");
    shelf.override({ tint: [0, 0, 1, 1], hidden: false });
    await scene.loadModel("5", { parent: shelf });
    await scene.flush();
    const back = new Scene(server);
    await back.restore();
    same(back, server);
    expect(back.find("shelf")?.overrides).toEqual({ tint: [0, 0, 1, 1], hidden: false });
    expect(back.create("new").id).toBe(2);
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8])("ends up with the same as the server, whatever is lost (%i)", async (seed) => {
    const server = new Server();
    const random = chance(seed);
    server.lose = () => random() < 0.4;
    const scene = new Scene(server);
    const pick = (): Entity | undefined => [...scene][Math.floor(random() * scene.size)];
    const vector = (): [number, number, number] => [random(), random(), random()];
    for (let step = 0; step < 300; step++) {
      const entity = pick();
      const kind = Math.floor(random() * 12);
      if (kind <= 1 || !entity) scene.create(`e${step}`, { parent: random() < 0.6 ? entity : undefined });
      else if (kind === 2) entity.position = vector();
      else if (kind === 3) {
        const some = [...new Set([entity, pick() as Entity])];
        scene.setTransforms(some, { positions: some.map(vector) }, { streaming: true });
      } else if (kind === 4) entity.override({ hidden: [true, false, undefined][Math.floor(random() * 3)] });
      else if (kind === 5) entity.enabled = random() < 0.5;
      else if (kind === 6 && random() < 0.4) entity.destroy();
      else if (kind === 7) {
        const above = pick() as Entity;
        if ([...entity.descendants()].includes(above)) {
          expect(() => (entity.parent = above)).toThrow(refusal("CyclicReference"));
        } else entity.parent = above;
      } else if (kind === 8) await new Promise((resolve) => setTimeout(resolve, 0));
      else if (kind === 9) {
        for (const record of server.records.splice(0).sort(() => random() - 0.5)) server.arrive(record);
      } else if (kind === 10 && random() < 0.3) {
        if (random() < 0.5) server.broken = new FarframeError("ConnectionLost", "Gone.");
        else server.answersLost = true;
      } else if (kind === 11) {
        server.broken = undefined;
        server.answersLost = false;
        scene.resumed();
      }
    }
    server.broken = undefined;
    server.answersLost = false;
    await new Promise((resolve) => setTimeout(resolve, 0));
    scene.resumed();
    await scene.flush();
    for (const record of server.records.splice(0)) server.arrive(record);
    same(scene, server);
  });

  it("says why it has ended", async () => {
    const scene = new Scene(new Server());
    scene.create("a");
    scene.close(new FarframeError("SessionStopped", "Stopped."));
    await expect(scene.flush()).rejects.toEqual(refusal("SessionStopped"));
  });
});

describe("what Python makes of the same", () => {
  const entities = fixtures.entities as unknown as EntityRow[];

  it("is the same record", () => {
    const bytes = encodeTransforms(fixtures.sequence, entities, HAS_POSITION | HAS_ROTATION | HAS_SCALE);
    expect(toBase64(new Uint8Array(bytes))).toBe(fixtures.record);
  });

  it("is the same page of entities", async () => {
    expect(await decodeEntities(2, fixtures.page)).toEqual(entities);
  });

  it.each([
    [2, "", "not compressed"],
    [2, "garbage!", "not base64"],
    [3, fixtures.page, "cut off"],
    [9000, fixtures.page, "too many"],
    [2, toBase64(fromBase64(fixtures.page).slice(0, -20)), "not compressed"],
  ])("is refused when it is not (%i, %s)", async (count, page, why) => {
    const refused = expect.objectContaining({ result: "ProtocolError", message: expect.stringContaining(why) });
    await expect(decodeEntities(count, page)).rejects.toEqual(refused);
  });
});

describe("encodeTransforms", () => {
  it("lays a record out as the protocol says", () => {
    const placed = { id: 7, position: [1, 2, 3], rotation: [0, 0, 0, 1], scale: [1, 1, 1] } as const;
    const data = new DataView(encodeTransforms(9, [placed, { ...placed, id: 8 }], HAS_POSITION | HAS_ROTATION));
    expect(data.byteLength).toBe(16 + 2 * (24 + 16 + 4));
    expect([data.getUint8(0), data.getUint8(1), data.getUint8(2), data.getUint8(3)]).toEqual([3, 1, 3, 0]);
    expect([data.getUint32(4, true), data.getUint32(8, true), data.getUint32(12, true)]).toEqual([9, 2, 0]);
    expect(data.getFloat64(16 + 24 + 8, true)).toBe(2);
    expect(data.getFloat32(16 + 48 + 12, true)).toBe(1);
    expect([data.getUint32(16 + 48 + 32, true), data.getUint32(16 + 48 + 36, true)]).toEqual([7, 8]);
  });
});
