/**
 * Drives random commands against a real render server, with lines that break in between, and compares what the device
 * holds in the end with what the server tells. Run by `tests/end_to_end/test_scene_clients.py`:
 *
 *     node drive_real_server.ts '{"url": "ws://…/stream", "token": "…", "seed": 1, "steps": 300, "model": "builtin://Engine"}'
 *
 * Prints one line of JSON; ends with 1 and the differences when there are any.
 */

import {
  type Entity,
  FarframeError,
  type LoadedModel,
  RpcPeer,
  Scene,
  type SceneLink,
  type Texture,
  type TextureInfo,
} from "../src/index.ts";
import { decodePicture, encodeAcknowledgement } from "../src/websocket.ts";
import { chance } from "./chance.ts";

interface Task {
  url: string;
  token: string;
  seed: number;
  steps: number;
  model: string;
  textures: string[];
}

const task = JSON.parse(process.argv[2] ?? "") as Task;
const random = chance(task.seed);
const some = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
const vector = (size = 4): [number, number, number] => [
  (random() - 0.5) * size,
  (random() - 0.5) * size,
  (random() - 0.5) * size,
];

/** A line to the server as a browser's WebSocket makes it, without pictures being looked at. */
class Line {
  readonly #socket: WebSocket;
  readonly ended: Promise<number>;
  closing = false;

  constructor(rpc: RpcPeer, resume: string | undefined, attached: () => void) {
    const names = ["farframe.1", `farframe.bearer.${task.token}`, ...(resume ? [`farframe.resume.${resume}`] : [])];
    this.#socket = new WebSocket(task.url, names);
    this.#socket.binaryType = "arraybuffer";
    this.ended = new Promise((resolve) => {
      this.#socket.addEventListener("close", (event) => resolve(event.code), { once: true });
    });
    this.#socket.addEventListener("message", ({ data }) => {
      if (data instanceof ArrayBuffer) {
        const picture = decodePicture(data);
        if (picture) this.#socket.send(encodeAcknowledgement(picture.number, performance.now() * 1000));
      } else if ((JSON.parse(data as string) as { method?: string }).method === "connection.attached") attached();
      else rpc.receive(data as string);
    });
  }

  get open(): boolean {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  send(data: string | ArrayBuffer): void {
    if (this.open) this.#socket.send(data);
    else if (typeof data === "string") throw new FarframeError("ConnectionLost", "The line is broken.");
  }

  /** Any code but 1000 and 1001 is a loss. */
  close(code: number): Promise<number> {
    this.closing = true;
    this.#socket.close(code);
    return this.ended;
  }
}

/** What a connection is to a scene, and no more. */
class Device implements SceneLink {
  readonly scene = new Scene(this);
  readonly known = new Set<number>();
  breaks = 0;
  #line: Line | undefined;
  #secret: string | undefined;
  readonly #rpc = new RpcPeer((text) => {
    if (!this.#line) throw new FarframeError("ConnectionLost", "There is no line.");
    this.#line.send(text);
  });

  async connect(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const line = new Line(this.#rpc, this.#secret, resolve);
      this.#line = line;
      void line.ended.then((code) => {
        const error = new FarframeError("Fail", `The server closed with ${code}.`);
        reject(error);
        // Closed by ourselves there is another line already, or none is wanted.
        if (this.#line === line && !line.closing) this.#rpc.fail(error);
      });
    });
    const size = { width: 64, height: 64, maxFramesPerSecond: 30 };
    const opened = (await this.#rpc.request("connection.open", { protocol: 1, client: "test", ...size })) as {
      resumeSecret: string;
      resumed?: boolean;
      scene?: { models: LoadedModel[] };
    };
    if (this.#secret && !opened.resumed) throw new Error("The scene was not kept.");
    this.#secret = opened.resumeSecret;
    if (!opened.resumed) return;
    this.scene.resumed();
    for (const model of opened.scene?.models ?? []) if (!this.known.has(model.modelId)) this.scene.discard(model);
  }

  ping(): void {
    if (this.#line?.open) this.#rpc.request("connection.ping", { clientTimeMicroseconds: 1 }).catch(() => undefined);
  }

  async breakLine(): Promise<void> {
    this.breaks++;
    const closed = this.#line?.close(4999);
    this.#rpc.interrupt(new FarframeError("ConnectionLost", "The line broke."));
    await closed;
    await this.connect();
  }

  async leave(): Promise<void> {
    await this.#line?.close(1000);
  }

  request(method: string, params: object): Promise<unknown> {
    return this.#rpc.request(method, params);
  }

  async ready(): Promise<void> {}

  sendRecord(bytes: ArrayBuffer): void {
    this.#line?.send(bytes);
  }

  async load(uri: string, parent: number): Promise<LoadedModel> {
    const model = (await this.#rpc.request("scene.loadModel", { uri, ...(parent && { parent }) })) as LoadedModel;
    this.known.add(model.modelId);
    return model;
  }

  async loadTexture(uri: string, kind: string): Promise<TextureInfo> {
    return (await this.#rpc.request("scene.loadTexture", { uri, kind })) as TextureInfo;
  }
}

/** Equal; numbers as far as 32-bit floats tell them. */
function alike(mine: unknown, theirs: unknown): boolean {
  if (typeof mine === "number" && typeof theirs === "number") {
    return Math.abs(mine - theirs) <= 1e-5 * Math.max(1, Math.abs(mine));
  }
  if (typeof mine !== "object" || typeof theirs !== "object" || mine === null || theirs === null)
    return mine === theirs;
  const [one, other] = [mine as Record<string, unknown>, theirs as Record<string, unknown>];
  return [...new Set([...Object.keys(one), ...Object.keys(other)])].every((name) => alike(one[name], other[name]));
}

/** All of a scene as plain values. */
function described(scene: Scene): Record<string, unknown> {
  const plain = (values: object): object =>
    Object.fromEntries(
      Object.entries(values).map(([name, value]) => {
        const isTexture = typeof value === "object" && value !== null && "levels" in value;
        return [name, isTexture ? (value as Texture).id : value];
      }),
    );
  const found: Record<string, unknown> = {};
  for (const entity of scene) {
    found[`entity ${entity.id}`] = {
      name: entity.name,
      parent: entity.parent?.id,
      position: entity.position,
      rotation: entity.rotation,
      scale: entity.scale,
      enabled: entity.enabled,
      overrides: plain(entity.overrides),
      parts: entity.subParts.map((part) => [part.override?.id, part.meshMaterial?.id]),
      lights: Object.fromEntries(entity.lights.map((light) => [light.kind, plain(light.values)])),
      cutPlane: entity.cutPlane && plain(entity.cutPlane.values),
    };
  }
  for (const material of scene.materials) {
    found[`material ${material.id}`] = { kind: material.kind, ...plain(material.values) };
  }
  for (const group of ["outline", "shell", "zFighting", "camera", "stage", "debug"] as const) {
    found[group] = plain(scene[group].values);
  }
  const sky = typeof scene.sky === "string" ? scene.sky : scene.sky.id;
  return { ...found, sky, singleSided: scene.singleSided, pointSize: scene.pointSize };
}

const device = new Device();
const { scene } = device;
const refused: string[] = [];
scene.on("failure", ({ result, message }) => refused.push(`${result}: ${message}`));

async function loads(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if ((error as FarframeError).result !== "ConnectionLost") throw error;
  }
}

function changeLooks(entity: Entity): void {
  const parts = [...scene].flatMap(({ subParts }) => subParts);
  const own = some(scene.materials.filter(({ isModels }) => !isModels));
  const material = some(scene.materials);
  const flat = some(scene.textures.filter(({ kind }) => kind === "2d"));
  const part = some(parts);
  switch (Math.floor(random() * 18)) {
    case 0:
      scene.createMaterial(random() < 0.7 ? "pbr" : "color", { albedoColor: [random(), random(), random(), 1] });
      break;
    case 1:
      material?.set({ roughness: random(), metalness: random(), transparent: random() < 0.3 });
      break;
    case 2:
      if (material) material.albedoMap = flat;
      break;
    case 3:
      if (random() < 0.3) own?.destroy();
      break;
    case 4:
      scene.dress(
        parts.filter(() => random() < 0.2),
        random() < 0.7 ? own : undefined,
      );
      break;
    case 5:
      if (part) part.meshMaterial = random() < 0.6 ? own : undefined;
      break;
    case 6:
      entity.addPointLight({ intensity: random() * 50, radius: random() });
      break;
    case 7:
      entity.addSpotLight({ spotAngleDeg: [10, 20 + random()], ...(flat && { projectedTexture: flat }) });
      break;
    case 8:
      some(entity.lights)?.remove();
      break;
    case 9:
      entity.cutPlane = random() < 0.7 ? { filterMask: Math.floor(random() * 256), normal: "negativeZ" } : undefined;
      break;
    case 10:
      scene.outline.set({ pulseRateHz: random() * 10, color: [random(), random(), random()] });
      break;
    case 11:
      scene.shell.opacity = random();
      break;
    case 12:
      scene.stage.set({ position: vector(), rotation: [random(), random(), random(), 1] });
      break;
    case 13:
      scene.singleSided = some(["normal", "dynamicDoubleSiding", "alwaysDoubleSided"] as const) ?? "normal";
      break;
    case 14:
      scene.debug.set({ edges: random() < 0.5, frameCount: random() < 0.5 });
      break;
    case 15:
      scene.pointSize = random() * 3;
      break;
    case 16:
      if (random() < 0.5) scene.camera.set({ near: 0.1, far: 10 + random() });
      else scene.camera.set({ near: 0, far: 0 });
      break;
    default:
      if (flat && random() < 0.3) scene.sky = flat;
      else scene.sky = "builtin://Studio";
  }
}

async function step(index: number): Promise<void> {
  const entity = some([...scene]);
  const kind = Math.floor(random() * 20);
  if (kind <= 1 || !entity) scene.create(`e${index} é`, { parent: random() < 0.6 ? entity : undefined });
  else if (kind === 2 && !entity.isStatic) entity.position = vector();
  else if (kind === 3 && !entity.isStatic) {
    const two = [...new Set([entity, some([...scene]) as Entity])].filter(({ isStatic }) => !isStatic);
    scene.setTransforms(
      two,
      { positions: two.map(() => vector()), scales: two.map(() => [1, 2, 3]) },
      { streaming: true },
    );
  } else if (kind === 4) entity.override({ hidden: some([true, false, undefined]), tint: [random(), 0, 0, random()] });
  else if (kind === 5) entity.enabled = random() < 0.5;
  else if (kind === 6) {
    if (random() < 0.4 && !entity.hasMesh) entity.destroy();
  } else if (kind === 7 && !entity.isStatic) {
    const above = some([...scene]) as Entity;
    if (![...entity.descendants()].includes(above)) entity.parent = above;
  } else if (kind === 8 && !entity.isStatic) entity.rotation = [random(), random(), random(), random() + 0.1];
  else if (kind === 9) entity.name = `${entity.name.slice(0, 20)}'`;
  else if (kind === 10) await new Promise((resolve) => setTimeout(resolve, 5));
  else if (kind === 11 && random() < 0.15) {
    const broken = device.breakLine();
    // What is set while there is no line goes over the next one.
    scene.create(`while away ${index}`);
    await broken;
  } else changeLooks(entity);
}

await device.connect();
// A device that says nothing for seconds is taken for lost.
setInterval(() => device.ping(), 1000).unref();
await scene.loadModel(task.model);
for (const uri of task.textures) await loads(() => scene.loadTexture(uri));
for (let index = 0; index < task.steps; index++) {
  if (index === Math.floor(task.steps / 2)) await loads(() => scene.loadModel(task.model));
  await step(index);
}
await device.breakLine();
// What was streamed last is made sure of a moment later.
await new Promise((resolve) => setTimeout(resolve, 400));
const failure: unknown = await scene.flush().then(
  () => undefined,
  (error: unknown) => error,
);
const stranger = new Scene(device);
await stranger.restore();
const [here, there] = [described(scene), described(stranger)];
const differences = [...new Set([...Object.keys(here), ...Object.keys(there)])].flatMap((name) => {
  return alike(here[name], there[name]) ? [] : [{ name, mine: here[name], theirs: there[name] }];
});
await device.leave();
const report = { entities: scene.size, materials: scene.materials.length, breaks: device.breaks, refused, differences };
process.stdout.write(`${JSON.stringify(report)}\n`);
if (failure) process.stderr.write(`${String(failure)}\n`);
process.exit(differences.length > 0 || refused.length > 0 || failure ? 1 : 0);
