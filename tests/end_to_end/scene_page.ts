/** The page of `test_typescript_scene.py`: drives `@farframe/client` as a page would, and tells what it saw. */

import "@farframe/client/element";
import type {
  Bounds,
  Entity,
  FrameRecord,
  RayHit,
  RenderModeChoice,
  Result,
  Scene,
  Texture,
  Vector3,
} from "@farframe/client";
import { FarframeError } from "@farframe/client";
import type { FarframeViewerElement } from "@farframe/client/element";

/** Red, green and blue, 0 to 255. */
type Color = [number, number, number];

interface Handed {
  endpoint: string;
  account: string;
  session: string;
  token: string;
  renderMode?: RenderModeChoice;
}

declare global {
  interface Window {
    show(handed: Handed): Promise<void>;
    drive: typeof drive;
  }
}

let viewer: FarframeViewerElement;
let scene: Scene;

const EYE: Vector3 = [0, 0, 4];
const LEFT: Vector3 = [-1, 0, 0.5];
const RIGHT: Vector3 = [1, 0, 0.5];

window.show = async ({ endpoint, account, session, token, renderMode }) => {
  viewer = document.createElement("farframe-viewer");
  Object.assign(viewer.style, { width: "640px", height: "360px" });
  viewer.endpoint = endpoint;
  viewer.account = account;
  viewer.session = session;
  viewer.setAttribute("width", "640");
  viewer.setAttribute("height", "360");
  if (renderMode) viewer.renderMode = renderMode;
  viewer.tokenProvider = () => token;
  document.getElementById("place")?.append(viewer);
  ({ scene } = await viewer.whenConnected());
};

/** All of the picture, in full quality, with all that was set. */
async function picture(): Promise<ImageData> {
  const bitmap = await createImageBitmap(await viewer.screenshot({ patienceMilliseconds: 60_000 }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  if (!context) throw new Error("no canvas");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

/** The colours of the picture where these points of the world are seen from {@link EYE}: means of 8 by 8 pixels. */
async function seen(...points: Vector3[]): Promise<Color[]> {
  await viewer.lookAt({ position: EYE, target: [0, 0, 0] });
  const { width, height, data } = await picture();
  const { right, up } = viewer.camera.view(width / height).fieldOfView;
  return points.map(([x, y, z]) => {
    const depth = EYE[2] - z;
    const column = Math.round((0.5 + x / depth / Math.tan(right) / 2) * width);
    const row = Math.round((0.5 - y / depth / Math.tan(up) / 2) * height);
    const sums = [0, 0, 0];
    for (let at = row - 4; at < row + 4; at++) {
      for (let across = column - 4; across < column + 4; across++) {
        for (let part = 0; part < 3; part++)
          sums[part] = (sums[part] ?? 0) + (data[4 * (at * width + across) + part] ?? 0);
      }
    }
    return sums.map((sum) => sum / 64) as Color;
  });
}

/** How much of the picture has a colour. */
async function share(has: (red: number, green: number, blue: number) => boolean): Promise<number> {
  await viewer.lookAt({ position: EYE, target: [0, 0, 0] });
  const { data } = await picture();
  let count = 0;
  for (let at = 0; at < data.length; at += 4) if (has(data[at] ?? 0, data[at + 1] ?? 0, data[at + 2] ?? 0)) count++;
  return count / (data.length / 4);
}

/** What something is refused with, at once or by the server. */
async function refusal(work: () => unknown): Promise<Result | "none"> {
  try {
    await work();
    await scene.flush();
    return "none";
  } catch (error) {
    if (error instanceof FarframeError) return error.result;
    throw error;
  }
}

const named = (hits: readonly RayHit[]): string[] => hits.map(({ entity, kind }) => `${entity.name} ${kind}`);

function found(name: string): Entity {
  const entity = scene.find(name);
  if (!entity) throw new Error(`There is no ${name}.`);
  return entity;
}

/** Boxes left and right before black, and nothing else. */
async function boxes(uri: string): Promise<{ root: Entity; left: Entity; right: Entity }> {
  await viewer.connection?.clearScene();
  const root = await scene.loadModel(uri);
  await viewer.connection?.configureScene({ background: [0, 0, 0] });
  return { root, left: found("left"), right: found("right") };
}

async function frames(count: number): Promise<void> {
  for (let frame = 0; frame < count; frame++) await new Promise(requestAnimationFrame);
}

const drive = {
  async entities(uri: string) {
    const { root, left, right } = await boxes(uri);
    const whole = await seen(LEFT, RIGHT);
    const holder = scene.create("holder", { position: [0, 0.8, 0] });
    left.parent = holder;
    const lifted = await seen(LEFT, [-1, 0.8, 0.5], RIGHT);
    const told: { world: Bounds | undefined; local: Bounds | undefined } = {
      world: await left.bounds(),
      local: await left.bounds("local"),
    };
    holder.position = [0, 0, 0];
    left.scale = [0.2, 0.2, 0.2];
    const small = await seen([-1, 0, 0.1], [-1.4, 0.4, 0.5]);
    left.scale = [1, 1, 1];
    // A quarter turn about +Y of what is 1 m large and stands 1 m aside goes to the front.
    holder.rotation = [0, Math.SQRT1_2, 0, Math.SQRT1_2];
    const turned = await left.bounds();
    holder.rotation = [0, 0, 0, 1];
    right.enabled = false;
    const disabled = await seen(LEFT, RIGHT);
    right.enabled = true;
    left.name = "renamed";
    const refusals = [
      await refusal(() => (holder.parent = left)),
      await refusal(() => scene.create("x".repeat(1025))),
      await refusal(() => (left.position = [Number.NaN, 0, 0])),
    ];
    left.destroy();
    const destroyed = await seen(LEFT, RIGHT);
    refusals.push(await refusal(() => (left.position = [0, 0, 0])));
    await scene.flush();
    const before = scene.size;
    const names = [...scene].map(({ name }) => name);
    const metadata = await root.metadata();
    const ofRight = await right.metadata();
    // What the server holds is what the page holds.
    await scene.restore(root.model ? [root.model] : []);
    const restored = {
      size: scene.size,
      names: [...scene].map(({ name }) => name),
      left: scene.find("renamed") !== undefined,
    };
    return {
      whole,
      lifted,
      told,
      small,
      turned,
      disabled,
      destroyed,
      refusals,
      before,
      names,
      metadata,
      ofRight,
      restored,
    };
  },

  async materials(uri: string, green: string) {
    const { root, left, right } = await boxes(uri);
    const [leftPart, rightPart] = [left.subParts[0], right.subParts[0]];
    if (!leftPart || !rightPart) throw new Error("The boxes have no parts.");
    const red = scene.createMaterial("color", { albedoColor: [1, 0, 0, 1] });
    leftPart.material = red;
    const single = await seen(LEFT, RIGHT);
    leftPart.material = undefined;
    rightPart.meshMaterial = red;
    const shared = await seen(LEFT, RIGHT);
    red.albedoColor = [0, 0, 1, 1];
    const edited = await seen(LEFT, RIGHT);
    const stages: string[] = [];
    const texture: Texture = await scene.loadTexture(green, { onProgress: ({ stage }) => stages.push(stage) });
    red.set({ albedoColor: [1, 1, 1, 1], albedoMap: texture });
    texture.destroy();
    const textured = await seen(LEFT, RIGHT);
    red.set({ albedoMap: undefined, albedoColor: [1, 0, 0, 0.5], colorTransparency: "alphaBlend" });
    const blended = await seen(LEFT);
    red.set({ colorTransparency: "opaque", fadeOut: 0.25 });
    const faded = await seen(LEFT);
    red.destroy();
    const own = scene.materials.find(({ isModels }) => isModels);
    if (!own) throw new Error("The model has no material.");
    const values = { name: own.name, color: own.albedoColor };
    own.set({ albedoColor: [0, 0, 0, 1], emissiveColor: [0, 1, 0] });
    const glowing = await seen(LEFT, RIGHT);
    own.set({ emissiveColor: [0, 0, 0], alphaClipped: true, albedoColor: [1, 1, 1, 0.2], alphaClipThreshold: 0.5 });
    const clipped = await seen(LEFT, RIGHT);
    const refusals = [
      await refusal(() => (leftPart.material = red)),
      await refusal(() => own.destroy()),
      await refusal(() => (own.roughness = 2)),
      await refusal(() => scene.loadTexture("file:///etc/passwd")),
      await refusal(() => scene.loadTexture(green, { kind: "cube" })),
    ];
    // On a part of another model, for as long as its own is there.
    own.set({ alphaClipped: false, emissiveColor: [0, 1, 0], albedoColor: [0, 0, 0, 1] });
    const guest = await scene.loadModel(uri);
    guest.position = [0, 1.2, 0];
    const worn = guest.find("left")?.subParts[0];
    if (!worn) throw new Error("The guest has no parts.");
    worn.material = own;
    const [leftAbove, rightAbove]: [Vector3, Vector3] = [
      [-1, 1.1, 0.5],
      [1, 1.1, 0.5],
    ];
    const lent = await seen(leftAbove, rightAbove);
    root.destroy();
    const returned = [...(await seen(leftAbove, rightAbove)), worn.material?.name, own.valid];
    return { lent, returned, single, shared, edited, stages, textured, blended, faded, values, glowing, clipped, refusals };
  },

  async overrides(uri: string) {
    const { root, left, right } = await boxes(uri);
    const plain = await seen(LEFT, RIGHT);
    root.override({ tint: [1, 0, 0, 1] });
    left.override({ tint: [0, 1, 0, 1] });
    const tinted = await seen(LEFT, RIGHT);
    root.override({ hidden: true, tint: undefined });
    right.override({ hidden: false });
    const hidden = await seen(LEFT, RIGHT);
    const through = await scene.castRay([-1, 0, 5], [-1, 0, 0], { policy: "closestHit" });
    left.override({ disableCollision: true });
    const past = await scene.castRay([-1, 0, 5], [-1, 0, 0]);
    scene.override([root, left, right], { hidden: undefined, tint: undefined, disableCollision: undefined });
    const refusals = [
      await refusal(() => left.override({ tint: [1, 2, 3, 4] })),
      await refusal(() => left.override({ cutPlaneMask: 256 })),
    ];
    const hits = [named(through.hits), named(past.hits)];
    // Green behind: what lets it through is greener than grey.
    const wall = await scene.loadModel(uri);
    wall.override({ tint: [0, 1, 0, 1] });
    wall.position = [0, 0, -3];
    wall.scale = [3, 3, 1];
    const opaque = await seen(LEFT, RIGHT);
    left.override({ seeThrough: true });
    const seenThrough = await seen(LEFT, RIGHT);
    left.override({ seeThrough: undefined, shell: true });
    const shell = await seen(LEFT, RIGHT);
    wall.destroy();
    left.override({ shell: undefined });
    const pure = (red: number, green: number, blue: number) => blue > 150 && red < 60 && green < 60;
    scene.outline.color = [0, 0, 1];
    const bare = await share(pure);
    right.override({ selected: true });
    const outlined = await share(pure);
    const inside = await seen(LEFT, RIGHT);
    return { plain, tinted, hidden, hits, refusals, opaque, seenThrough, shell, bare, outlined, inside };
  },

  async queries(uri: string) {
    const { root, right } = await boxes(uri);
    await seen(LEFT);
    const ray = async (policy: "closestHits" | "closestHit" | "anyHit", maxHits = 0) => {
      const { hits, complete } = await scene.castRay([-1.1, 0.1, 5], [-1.1, 0.1, -5], { policy, maxHits });
      return hits.map(({ entity, subPart, position, normal, distance, kind }) => {
        return { name: entity.name, subPart, position, normal, distance, kind, complete };
      });
    };
    const rays = [await ray("closestHits"), await ray("closestHit"), await ray("anyHit"), await ray("closestHits", 1)];
    const { corners } =
      (await scene.castRay([-1.1, 0.1, 5], [-1.1, 0.1, -5], { policy: "closestHit", corners: true })).hits[0] ?? {};
    const miss = await scene.castRay([0, 5, 0], [0, 5, -5]);
    const shape = async (...[what, how]: Parameters<Scene["findOverlaps"]>) =>
      (await scene.findOverlaps(what, how)).parts.map(({ entity }) => entity.name).sort();
    const turn = [0, 0, Math.sin(Math.PI / 8), Math.cos(Math.PI / 8)] as const;
    const overlaps = {
      ball: await shape({ kind: "sphere", center: [-1, 0, 0], radius: 0.2 }),
      hollow: await shape({ kind: "sphere", center: [-1, 0, 0], radius: 0.2 }, { against: "geometry" }),
      skin: await shape({ kind: "sphere", center: [-1, 0, 0.5], radius: 0.2 }, { against: "geometry" }),
      all: await shape({ kind: "box", min: [-2, -1, -1], max: [2, 1, 1] }),
      // Between the boxes: too short as it is, and long enough along its diagonal.
      straight: await shape({ kind: "orientedBox", center: [0, 0, 0], halfSize: [0.45, 0.45, 0.1] }),
      turned: await shape({ kind: "orientedBox", center: [0, 0, 0], halfSize: [0.45, 0.45, 0.1], rotation: turn }),
    };
    const some = await scene.findOverlaps({ kind: "box", min: [-2, -1, -1], max: [2, 1, 1] }, { maxResults: 1 });
    right.enabled = false;
    const enabled = await shape({ kind: "box", min: [-2, -1, -1], max: [2, 1, 1] });
    const box = viewer.getBoundingClientRect();
    const at = { clientX: box.left + box.width * 0.36, clientY: box.top + box.height / 2 };
    const picked = await viewer.pick(at);
    root.position = [0, 0, -2];
    const moved = await ray("closestHit");
    const abort = new AbortController();
    abort.abort();
    const refusals = [
      await refusal(() => scene.castRay([0, 0, 0], [0, 0, 1], { signal: abort.signal })),
      await refusal(() => scene.castRay([0, 0, 0], [0, 0, 1], { maxHits: 5000 })),
    ];
    return {
      rays,
      corners,
      miss: miss.hits.length,
      overlaps,
      some: [some.parts.length, some.more],
      enabled,
      picked: named(picked.hits),
      moved,
      refusals,
    };
  },

  async lights(uri: string, red: string) {
    await boxes(uri);
    await viewer.connection?.configureScene({ lightIntensity: 0, environmentIntensity: 0 });
    const dark = await seen(LEFT, RIGHT);
    const lamp = scene.create("lamp", { position: [-1, 0, 2.5] });
    const spot = lamp.addSpotLight({ color: [0, 1, 0], intensity: 20, spotAngleDeg: [20, 40] });
    const left = await seen(LEFT, RIGHT);
    lamp.position = [1, 0, 2.5];
    const right = await seen(LEFT, RIGHT);
    lamp.position = [-1, 0, 2.5];
    spot.set({ color: [1, 1, 1], projectedTexture: await scene.loadTexture(red) });
    const projected = await seen(LEFT, RIGHT);
    spot.enabled = false;
    const off = await seen(LEFT, RIGHT);
    const point = lamp.addPointLight({ color: [0, 0, 1], intensity: 6, radius: 0.1 });
    const bulb = await seen(LEFT, RIGHT);
    point.attenuationCutoff = [1.2, 1.5];
    const cutOff = await seen(LEFT, RIGHT);
    point.remove();
    const removed = await seen(LEFT, RIGHT);
    const sun = lamp.addDirectionalLight({ color: [1, 0, 0], intensity: 4 });
    const sunny = await seen(LEFT, RIGHT);
    lamp.rotation = [0, 1, 0, 0];
    const behind = await seen(LEFT, RIGHT);
    sun.enabled = false;
    const kinds = lamp.lights.map(({ kind }) => kind).sort();
    lamp.destroy();
    const refusals = [
      await refusal(() => (spot.intensity = 1)),
      await refusal(() => scene.create().addPointLight({ radius: -1 })),
    ];
    return { dark, left, right, projected, off, bulb, cutOff, removed, sunny, behind, kinds, refusals };
  },

  async cuts(uri: string) {
    const { left, right } = await boxes(uri);
    const knife = scene.create("knife");
    knife.cutPlane = { normal: "x" };
    const plane = knife.cutPlane;
    if (!plane) throw new Error("There is no cut plane.");
    const half = await seen(LEFT, RIGHT);
    knife.position = [3, 0, 0];
    const moved = await seen(LEFT, RIGHT);
    plane.normal = "negativeX";
    const all = await seen(LEFT, RIGHT);
    right.override({ cutPlaneMask: 1 });
    plane.filterMask = 2;
    const masked = await seen(LEFT, RIGHT);
    plane.set({ normal: "x", filterMask: 255, fadeColor: [0, 1, 0, 1], fadeLength: 0.6 });
    right.override({ cutPlaneMask: undefined });
    knife.position = [1.2, 0, 0];
    const fading = await seen(LEFT, [1.1, 0, 0.5]);
    plane.set({ fadeColor: [0, 0, 0, 0] });
    // The front halves are taken off: backs are seen from inside, unless backs are not drawn.
    knife.position = [0, 0, 0];
    plane.normal = "z";
    const inside = await seen(LEFT);
    scene.singleSided = "normal";
    const through = await seen(LEFT);
    scene.singleSided = "dynamicDoubleSiding";
    plane.enabled = false;
    const whole = await seen(LEFT);
    knife.cutPlane = undefined;
    const refusals = [
      await refusal(() => (plane.normal = "x")),
      await refusal(() => (left.cutPlane = { filterMask: 1.5 })),
    ];
    return { half, moved, all, masked, fading, inside, through, whole, valid: plane.valid, refusals };
  },

  async effects(uri: string) {
    const { right } = await boxes(uri);
    right.override({ tint: [0, 1, 0, 1] });
    const plain = await seen(LEFT, RIGHT);
    // The poses' space stands 2 m to the right: what was right is left now.
    scene.stage.position = [2, 0, 0];
    const stage = await seen(LEFT, RIGHT);
    scene.stage.position = [0, 0, 0];
    scene.camera.set({ near: 0.1, far: 3 });
    const near = await seen(LEFT, RIGHT);
    scene.camera.set({ near: 0, far: 0 });
    right.override({ tint: undefined });
    const isColorful = (r: number, g: number, b: number): boolean => Math.max(r, g, b) - Math.min(r, g, b) > 60;
    const alone = await share(isColorful);
    const twin = await scene.loadModel(uri);
    scene.zFighting.highlighting = true;
    const fighting = await share(isColorful);
    scene.zFighting.highlighting = false;
    const quiet = await share(isColorful);
    twin.destroy();
    const pictures: Record<string, number> = {};
    const flat = await picture();
    for (const name of ["wireframe", "edges", "frameCount", "polygonCount"] as const) {
      scene.debug[name] = true;
      const { data } = await picture();
      let different = 0;
      for (let at = 0; at < data.length; at += 4)
        if (Math.abs((data[at] ?? 0) - (flat.data[at] ?? 0)) > 24) different++;
      pictures[name] = different / (data.length / 4);
      scene.debug[name] = false;
    }
    const refusals = [
      await refusal(() => scene.camera.set({ near: 2, far: 1 })),
      await refusal(() => (scene.pointSize = -1)),
    ];
    return { plain, stage, near, alone, fighting, quiet, pictures, refusals };
  },

  async animations(uri: string) {
    const { root, left } = await boxes(uri);
    const above: Vector3 = [-1, 0.8, 0.5];
    const [slide, ...others] = await root.animations();
    if (!slide) throw new Error("The model brings no animation.");
    const told = { name: slide.name, duration: slide.duration, nodes: slide.nodeCount, state: slide.state };
    const resting = await seen(LEFT, above);
    slide.seek(1);
    const lifted = await seen(LEFT, above);
    const bounds = await left.bounds();
    const own = [...left.position];
    const hit = await scene.castRay([-1, 0.8, 5], [-1, 0.8, -5], { policy: "closestHit" });
    slide.weight = 0.5;
    const halfway = await left.bounds();
    slide.weight = 1;
    // What the page sets is the page's, until it gives it back.
    left.position = [-1, 0, 0];
    const held = await seen(LEFT, above);
    slide.reclaim();
    const reclaimed = await seen(LEFT, above);
    slide.stop();
    const stopped = await seen(LEFT, above);
    slide.play({ speed: 0.5, loop: "pingPong", time: 0.5 });
    const heights = new Set<number>();
    const records = new Set<number>();
    const off = viewer.connection?.on(
      "record",
      ({ frameId, keepAlive }: FrameRecord) => keepAlive || records.add(frameId),
    );
    // It moves by itself, and pictures of it come.
    for (const end = performance.now() + 60_000; (heights.size < 5 || records.size < 5) && performance.now() < end; ) {
      await frames(2);
      heights.add((await left.bounds())?.min[1] ?? Number.NaN);
    }
    off?.();
    slide.pause();
    await picture();
    const [first, second] = [await left.bounds(), await left.bounds()];
    const now = (await root.animations())[0];
    const again = { state: now?.state, speed: now?.speed, loop: now?.loop, weight: now?.weight };
    const refusals = [await refusal(() => slide.seek(5)), await refusal(() => (slide.speed = 2000))];
    root.destroy();
    refusals.push(await refusal(() => slide.play()));
    return {
      told,
      others: others.length,
      resting,
      lifted,
      bounds,
      own,
      hit: named(hit.hits),
      halfway,
      held,
      reclaimed,
      stopped,
      heights: heights.size,
      records: records.size,
      paused: [first?.min[1], second?.min[1]],
      again,
      refusals,
    };
  },

  async streaming(uri: string) {
    const { left, right } = await boxes(uri);
    const positions = new Float64Array(6);
    let height = 0;
    const place = (streaming: boolean): void => {
      height += 0.02;
      positions.set([-1, Math.sin(height) * 0.8, 0, 1, -Math.sin(height) * 0.8, 0]);
      scene.setTransforms([left, right], { positions }, { streaming });
    };
    await seen(LEFT);
    const heights = new Set<number>();
    // The server hears of it while it goes on.
    for (const end = performance.now() + 60_000; heights.size < 5 && performance.now() < end; ) {
      const asked = left.bounds();
      for (let frame = 0; frame < 4; frame++) {
        place(true);
        await frames(1);
      }
      heights.add((await asked)?.min[1] ?? Number.NaN);
    }
    height = Math.PI / 2 - 0.02;
    place(true);
    const last = await seen(LEFT, [-1, 0.8, 0.5], RIGHT, [1, -0.8, 0.5]);
    const local = [[...left.position], [...right.position]];
    const told = await right.bounds();
    const flat = new Float32Array([0, 0, 0, 1, 0, 0, Math.sin(Math.PI / 8), Math.cos(Math.PI / 8)]);
    scene.setTransforms([left, right], { rotations: flat });
    const turned = await right.bounds();
    const refusals = [
      await refusal(() => scene.setTransforms([left, right], { positions: new Float64Array(5) })),
      await refusal(() => scene.setTransforms([left], { scales: [[1, Number.POSITIVE_INFINITY, 1]] })),
    ];
    return { heights: heights.size, last, local, told, turned, refusals };
  },

  async points(uri: string) {
    await viewer.connection?.clearScene();
    const root = await scene.loadModel(uri);
    await viewer.connection?.configureScene({ background: [0, 0, 0] });
    const clouds = [...root.descendants()].filter((entity) => entity.isPointCloud);
    const isRed = (r: number, g: number, b: number): boolean => r > 90 && g < 60 && b < 60;
    scene.pointSize = 0.25;
    const small = await share(isRed);
    scene.pointSize = 4;
    const large = await share(isRed);
    scene.pointSize = 1;
    const { hits } = await scene.castRay([0, 0, 5], [0, 0, -5], { policy: "closestHit" });
    const parts = clouds.flatMap(({ subParts }) => subParts.map(({ material }) => material === undefined));
    return { clouds: clouds.length, small, large, kinds: hits.map(({ kind }) => kind), parts };
  },

  async performance(uri: string) {
    await boxes(uri);
    const { connection } = viewer;
    if (!connection) throw new Error("There is no connection.");
    const all = () => {
      const here = connection.frameStatistics();
      return here.videoFramesReceived > 2 && here.latencyPoseToReceive !== undefined ? here : undefined;
    };
    let here = all();
    for (const end = performance.now() + 60_000; !here && performance.now() < end; here = all()) {
      viewer.camera.orbit(0.02, 0);
      viewer.refresh();
      await frames(2);
    }
    // The camera goes on moving while the server looks at itself, until it has heard how long the way is.
    let assessed: Awaited<ReturnType<typeof connection.performanceAssessment>> | undefined;
    for (const end = performance.now() + 60_000; !assessed?.networkLatency && performance.now() < end; ) {
      let answered = false;
      const asked = connection.performanceAssessment().then((answer) => {
        assessed = answer;
        answered = true;
      });
      while (!answered) {
        viewer.camera.orbit(0.02, 0);
        viewer.refresh();
        await Promise.race([frames(2), asked]);
      }
    }
    const server = await connection.serverStatistics();
    return { here, assessed, server, way: connection.way, renderMode: connection.renderMode, info: connection.info };
  },
};

window.drive = drive;
