/** What a scene is tested against: the server in the simplest way that can be right, doing what docs/protocol.md says. */

import { expect } from "vitest";
import {
  FarframeError,
  type LoadedModel,
  type Scene,
  type SceneLink,
  type TextureInfo,
  type TextureKind,
} from "../src/index.ts";
import { fromBase64, HAS_POSITION, packIds, toBase64, unpackIds } from "../src/scene_codec.ts";

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
  /** The part of the mesh that it shows; 0: none. */
  part: number;
  dress: number;
  lights: Map<string, Values>;
  cutPlane: Values | undefined;
}

type Command = Record<string, unknown> & { op: string; id?: number };
type Values = Record<string, unknown>;

interface MaterialRow {
  kind: string;
  values: Values;
}

async function deflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export class Server implements SceneLink {
  readonly rows = new Map<number, Row>();
  readonly batches: Command[][] = [];
  readonly records: ArrayBuffer[] = [];
  readonly materials = new Map<number, MaterialRow>();
  readonly textures = new Map<number, TextureInfo>();
  /** Which material is in a part of a mesh, and which came with it. */
  readonly meshes = new Map<number, { own: number; now: number }>();
  /** By root, what came with a model. */
  readonly models = new Map<number, { parts: number[]; materials: number[] }>();
  readonly played: Command[] = [];
  effects: Values = {};
  #begun: Command[] = [];
  lose = (): boolean => false;
  broken: FarframeError | undefined;
  answersLost = false;
  #nextModel = 2 ** 31;
  #nextTexture = 1;
  #nextPart = 1;

  async request(method: string, params: object): Promise<unknown> {
    if (this.broken) throw this.broken;
    const given = JSON.parse(JSON.stringify(params)) as Record<string, unknown>;
    expect(JSON.stringify(params).length).toBeLessThan(250_000);
    const answer = await this.#answer(method, given);
    await Promise.resolve();
    if (this.broken || this.answersLost) throw this.broken ?? new FarframeError("ConnectionLost", "Gone.");
    return answer;
  }

  async ready(): Promise<void> {}

  /** There is another line: what was not brought to an end over the last one is forgotten. */
  reconnect(): void {
    this.#begun = [];
  }

  async loadTexture(uri: string, kind: TextureKind): Promise<TextureInfo> {
    // Loads wait for a line over which everything before them has been sent.
    if (this.broken || this.answersLost) throw this.broken ?? new FarframeError("ConnectionLost", "Gone.");
    for (const info of this.textures.values()) {
      if (info.uri !== uri || info.kind !== kind) continue;
      const wanted = { ...info, wanted: true };
      this.textures.set(info.id, wanted);
      return wanted;
    }
    const info = { id: this.#nextTexture++, kind, uri, width: 4, height: 4, levels: 3, sizeBytes: 84 };
    this.textures.set(info.id, info);
    return info;
  }

  sendRecord(bytes: ArrayBuffer): void {
    if (!this.lose()) this.records.push(bytes);
  }

  async load(uri: string, parent: number): Promise<LoadedModel> {
    if (parent && !this.rows.has(parent)) throw new FarframeError("InvalidParentId", "No such parent.");
    const count = Number(uri);
    const first = this.#nextModel;
    this.#nextModel += count;
    const part = this.#nextPart;
    this.#nextPart += 2;
    for (let row = 0; row < count; row++) {
      this.rows.set(first + row, this.#row(first + row, row === 0 ? parent : first, `part ${row}`, row ? 1 : 0));
      const made = this.rows.get(first + row) as Row;
      made.position = [row, 0, 0];
      if (row > 0) made.part = part + (row % 2);
    }
    const belongings: number[] = [];
    this.models.set(first, { parts: [part, part + 1], materials: belongings });
    for (const each of [part, part + 1]) {
      const own = this.#nextModel + each;
      this.materials.set(own, { kind: "pbr", values: { name: `material ${each}`, albedoMap: 2 ** 32 - 1, flags: 4 } });
      belongings.push(own);
      this.meshes.set(each, { own, now: own });
    }
    this.#nextModel += 2 + part;
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
    const states = { enabled: true, on: 0, off: 0, tint: [1, 1, 1, 1] };
    const looks = { part: 0, dress: 0, lights: new Map<string, Values>(), cutPlane: undefined };
    return { id, parent, name, ...still, ...states, flags, sequence: 0, ...looks };
  }

  async #answer(method: string, params: Record<string, unknown>): Promise<unknown> {
    if (method === "scene.apply") {
      this.#begun.push(...(params.commands as Command[]));
      if (params.more) return { applied: 0 };
      const commands = this.#begun;
      this.#begun = [];
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
    if (method === "scene.getSubParts") return this.#subParts(params.first as number, params.last as number);
    if (method === "scene.getMaterials") {
      const [first, last] = [params.first as number, params.last as number];
      const ids = [...this.materials.keys()].filter((id) => id >= first && id <= last).sort((a, b) => a - b);
      const materials = ids.slice(0, 2).map((id) => ({ id, ...(this.materials.get(id) as MaterialRow) }));
      return { materials, ...(ids[2] !== undefined && { next: ids[2] }) };
    }
    if (method === "scene.getTextures") return { textures: [...this.textures.values()] };
    if (method === "scene.getComponents") {
      const rows = [...this.rows.values()];
      return {
        lights: rows.flatMap(({ id, lights }) => [...lights].map(([kind, values]) => ({ entity: id, kind, values }))),
        cutPlanes: rows.flatMap(({ id, cutPlane }) => (cutPlane ? [{ entity: id, values: cutPlane }] : [])),
      };
    }
    if (method === "scene.getEffects") return this.effects;
    if (method === "scene.getAnimations") {
      const all = [
        { name: "rise", duration: 2, nodes: 3 },
        { name: "turn", duration: 1, nodes: 1, state: "paused", speed: 3 },
      ];
      const first = params.first as number;
      return { animations: all.slice(first, first + 1), ...(first === 0 && { more: true }) };
    }
    if (method === "scene.findOverlaps") {
      const found = [...this.rows.values()].filter(({ part }) => part > 0).map(({ id }) => id);
      return { entities: packIds([...found, 77]), subParts: packIds([...found, 77].map(() => 0)), more: true };
    }
    throw new FarframeError("NotSupported", method);
  }

  #apply(command: Command, sequence: number): string | undefined {
    const ids = command.ids === undefined ? [command.id as number] : unpackIds(command.ids as string);
    if (command.op === "create") {
      const id = command.id as number;
      const parent = command.parent as number;
      if (this.rows.has(id)) return "AlreadyExists";
      if (parent && !this.rows.has(parent)) return "InvalidParentId";
      const row = { ...this.#row(id, parent, "", 0), ...command } as unknown as Row;
      this.rows.set(id, row);
      return undefined;
    }
    const looks = this.#look(command);
    if (looks !== "unknown") return looks;
    if (ids.some((id) => !this.rows.has(id))) return "InvalidId";
    const rows = ids.map((id) => this.rows.get(id) as Row);
    if (command.op === "setAnimation") this.played.push(command);
    else if (command.op === "destroy") {
      const gone = [...this.rows.keys()].filter((id) => this.#above(id).includes(ids[0] as number));
      for (const id of gone) {
        this.rows.delete(id);
        const model = this.models.get(id);
        this.models.delete(id);
        for (const material of model?.materials ?? []) {
          this.materials.delete(material);
          this.#takeOff(material);
        }
        for (const part of model?.parts ?? []) {
          this.meshes.delete(part);
          for (const row of this.rows.values()) if (row.part === part) row.part = row.dress = 0;
        }
      }
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

  /** What wore a material has its mesh's own again. */
  #takeOff(material: number): void {
    for (const row of this.rows.values()) if (row.dress === material) row.dress = 0;
    for (const mesh of this.meshes.values()) if (mesh.now === material) mesh.now = mesh.own;
  }

  #above(id: number): number[] {
    const found: number[] = [];
    for (let at = id; at; at = this.rows.get(at)?.parent ?? 0) found.push(at);
    return found;
  }

  /** Commands on what the scene looks like; undefined when done. */
  #look(command: Command): string | undefined {
    const id = command.id as number;
    const set = (command.set ?? {}) as Values;
    const names = (values: Values): number[] =>
      Object.entries(values).flatMap(([name, value]) =>
        /Map$|^projectedTexture$|^texture$/.test(name) && value !== 0 && value !== 2 ** 32 - 1 ? [value as number] : [],
      );
    if (names(set).some((texture) => !this.textures.has(texture))) return "InvalidId";
    const row = this.rows.get(id);
    switch (command.op) {
      case "createMaterial":
        if (this.materials.has(id)) return "AlreadyExists";
        this.materials.set(id, { kind: command.kind as string, values: set });
        return undefined;
      case "setMaterial": {
        const material = this.materials.get(id);
        if (!material) return "InvalidId";
        material.values = { ...material.values, ...set };
        return undefined;
      }
      case "destroyMaterial":
        if (!this.materials.delete(id)) return "InvalidId";
        this.#takeOff(id);
        return undefined;
      case "overrideMaterials": {
        const [ids, parts, materials] = ["ids", "subParts", "materials"].map((name) =>
          unpackIds(command[name] as string),
        ) as [number[], number[], number[]];
        expect([parts.length, materials.length]).toEqual([ids.length, ids.length]);
        if (ids.some((each) => !this.rows.get(each)?.part)) return "InvalidId";
        if (materials.some((each) => each !== 0 && !this.materials.has(each))) return "InvalidId";
        expect(parts.every((part) => part === 0)).toBe(true);
        ids.forEach((each, index) => {
          (this.rows.get(each) as Row).dress = materials[index] as number;
        });
        return undefined;
      }
      case "setMeshMaterial": {
        const mesh = this.meshes.get(row?.part ?? 0);
        const material = command.material as number;
        if (!mesh || (material !== 0 && !this.materials.has(material))) return "InvalidId";
        mesh.now = material || mesh.own;
        return undefined;
      }
      case "destroyTexture":
        // It lives on where it is used: here it is never freed.
        if (!this.textures.has(id)) return "InvalidId";
        this.textures.set(id, { ...(this.textures.get(id) as TextureInfo), wanted: false });
        return undefined;
      case "setLight": {
        const kind = command.kind as string;
        if (!row) return "InvalidId";
        row.lights.set(kind, { ...row.lights.get(kind), ...set });
        return undefined;
      }
      case "removeLight":
        return row?.lights.delete(command.kind as string) ? undefined : "InvalidId";
      case "setCutPlane":
        if (!row) return "InvalidId";
        row.cutPlane = { ...row.cutPlane, ...set };
        return undefined;
      case "removeCutPlane":
        if (!row?.cutPlane) return "InvalidId";
        row.cutPlane = undefined;
        return undefined;
      case "setEffects":
        for (const [name, value] of Object.entries(set)) {
          const before = this.effects[name];
          this.effects[name] = typeof value === "object" ? { ...(before as object), ...value } : value;
        }
        return undefined;
      default:
        return "unknown";
    }
  }

  async #subParts(first: number, last: number): Promise<object> {
    const rows = [...this.rows.values()].filter(({ id, part }) => part && id >= first && id <= last);
    rows.sort((a, b) => a.id - b.id);
    const page = rows.slice(0, 70);
    const columns = [
      page.map(({ id }) => id),
      page.map(({ part }) => part),
      page.map(({ part }) => this.meshes.get(part)?.own ?? 0),
      page.map(({ part }) => {
        const mesh = this.meshes.get(part);
        return mesh && mesh.now !== mesh.own ? mesh.now : 0;
      }),
      page.map(({ dress }) => dress),
    ];
    const data = toBase64(await deflate(fromBase64(packIds(columns.flat()))));
    return { count: page.length, data, ...(rows[70] && { next: rows[70].id }) };
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

/** The scene and the server agree in everything. */
export function same(scene: Scene, server: Server): void {
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
  expect(scene.materials.map(({ id }) => id).sort((a, b) => a - b)).toEqual(
    [...server.materials.keys()].sort((a, b) => a - b),
  );
  for (const material of scene.materials) {
    const { kind, values } = server.materials.get(material.id) as MaterialRow;
    expect(kind).toBe(material.kind);
    expect((((values.flags as number | undefined) ?? 8) & 1) !== 0).toBe(material.transparent);
    expect(values.roughness ?? 1).toBe(material.roughness);
    expect(values.albedoColor ?? [1, 1, 1, 1]).toEqual(material.albedoColor);
    const map = material.albedoMap;
    expect(values.albedoMap ?? 0).toBe(map === "own" ? 2 ** 32 - 1 : (map?.id ?? 0));
  }
  for (const entity of scene) {
    const row = server.rows.get(entity.id) as Row;
    expect(entity.subParts.length).toBe(row.part ? 1 : 0);
    const [part] = entity.subParts;
    if (part) {
      expect(part.override?.id ?? 0).toBe(row.dress);
      expect(part.meshMaterial?.id).toBe(server.meshes.get(row.part)?.now);
      expect(part.material?.id).toBe(row.dress || server.meshes.get(row.part)?.now);
    }
    expect(entity.lights.map(({ kind }) => kind).sort()).toEqual([...row.lights.keys()].sort());
    for (const light of entity.lights) {
      const values = row.lights.get(light.kind) as Values;
      expect(values.intensity ?? 10).toBe(light.intensity);
      expect(values.projectedTexture ?? 0).toBe(light.projectedTexture?.id ?? 0);
    }
    expect(row.cutPlane !== undefined).toBe(entity.cutPlane !== undefined);
    expect(row.cutPlane?.normal ?? "x").toBe(entity.cutPlane?.normal ?? "x");
    expect(row.cutPlane?.filterMask ?? 255).toBe(entity.cutPlane?.filterMask ?? 255);
  }
  const effects = server.effects as Record<string, Values>;
  expect(effects.outline?.pulseRateHz ?? 0).toBe(scene.outline.pulseRateHz);
  expect(effects.debug?.edges ?? false).toBe(scene.debug.edges);
  expect(effects.singleSided ?? "dynamicDoubleSiding").toBe(scene.singleSided);
  expect(effects.stage?.position ?? [0, 0, 0]).toEqual(scene.stage.position);
  const sky = scene.sky;
  expect(effects.sky?.texture ?? 0).toBe(typeof sky === "string" ? 0 : sky.id);
  if (typeof sky === "string") expect(effects.sky?.uri ?? "builtin://Studio").toBe(sky);
}
