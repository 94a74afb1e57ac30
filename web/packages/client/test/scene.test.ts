import { describe, expect, it } from "vitest";
import {
  type CutPlane,
  type Entity,
  FarframeError,
  type Material,
  type ModelAnimation,
  Scene,
  type SubPart,
} from "../src/index.ts";
import { CUT_PLANE_DEFAULTS } from "../src/scene/cut_planes.ts";
import { LIGHT_DEFAULTS, lightToWire } from "../src/scene/lights.ts";
import { MATERIAL_DEFAULTS, materialFromWire, materialToWire } from "../src/scene/materials.ts";
import {
  decodeEntities,
  decodeSubParts,
  type EntityRow,
  encodeTransforms,
  fromBase64,
  HAS_POSITION,
  HAS_ROTATION,
  HAS_SCALE,
  toBase64,
} from "../src/scene_codec.ts";
import { chance } from "./chance.ts";
import fixtures from "./fixtures/scene.json" with { type: "json" };
import { Server, same } from "./model_server.ts";

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
      [() => a.override({ cutPlaneMask: 1.5 }), "InvalidParam"],
      // What is neither true nor false nor absent is said by pages without types, and forces nothing on.
      [() => a.override({ cutPlaneMask: true } as never), "InvalidParam"],
      [() => a.override({ hidden: null } as never), "InvalidParam"],
      [() => a.override({ selected: 0 } as never), "InvalidParam"],
      [() => a.override({ tint: true } as never), "InvalidParam"],
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

  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])(
    "ends up with the same as the server, whatever is lost (%i)",
    async (seed) => {
      const server = new Server();
      const random = chance(seed);
      server.lose = () => random() < 0.4;
      const scene = new Scene(server);
      const some = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
      const pick = (): Entity | undefined => some([...scene]);
      const vector = (): [number, number, number] => [random(), random(), random()];
      const tries = async (work: () => Promise<unknown>): Promise<void> => {
        await work().catch((error: unknown) => expect((error as FarframeError).result).toBe("ConnectionLost"));
      };
      const change = async (entity: Entity, kind: number): Promise<void> => {
        const parts = [...scene].flatMap(({ subParts }) => subParts);
        const material = some(scene.materials);
        const own = some(scene.materials.filter(({ isModels }) => !isModels));
        const texture = some(scene.textures);
        const part = some(parts);
        if (kind === 12 && random() < 0.2) await tries(() => scene.loadModel(String(3 + Math.floor(random() * 5))));
        else if (kind === 13) scene.createMaterial(random() < 0.5 ? "pbr" : "color", { roughness: random() });
        else if (kind === 14 && material) material.set({ roughness: random(), transparent: random() < 0.5 });
        else if (kind === 15 && material) material.albedoMap = texture?.kind === "2d" ? texture : undefined;
        else if (kind === 16 && own && random() < 0.5) own.destroy();
        else if (kind === 17)
          scene.dress(
            parts.filter(() => random() < 0.5),
            random() < 0.7 ? material : undefined,
          );
        else if (kind === 18 && part) part.meshMaterial = random() < 0.7 ? material : undefined;
        else if (kind === 19) {
          const kinds = ["2d", "cube"] as const;
          await tries(() =>
            scene.loadTexture(`https://x/${Math.floor(random() * 3)}`, { kind: kinds[random() < 0.5 ? 0 : 1] }),
          );
        } else if (kind === 20 && random() < 0.3) texture?.destroy();
        else if (kind === 21)
          entity.addSpotLight({ intensity: random(), ...(texture?.kind === "2d" && { projectedTexture: texture }) });
        else if (kind === 22) some(entity.lights)?.remove();
        else if (kind === 23) entity.cutPlane = random() < 0.7 ? { filterMask: Math.floor(random() * 256) } : undefined;
        else if (kind === 24 && entity.cutPlane) entity.cutPlane.normal = random() < 0.5 ? "negativeY" : "z";
        else if (kind === 25) scene.outline.pulseRateHz = random();
        else if (kind === 26) scene.stage.set({ position: vector() });
        else if (kind === 27) scene.sky = texture ?? "builtin://Garden";
        else if (kind === 28) scene.singleSided = random() < 0.5 ? "normal" : "alwaysDoubleSided";
        else if (kind === 29) scene.debug.edges = random() < 0.5;
      };
      for (let step = 0; step < 500; step++) {
        const entity = pick();
        const kind = Math.floor(random() * 30);
        if (kind <= 1 || !entity) scene.create(`e${step}`, { parent: random() < 0.6 ? entity : undefined });
        else if (kind === 2) entity.position = vector();
        else if (kind === 3) {
          const two = [...new Set([entity, pick() as Entity])];
          scene.setTransforms(two, { positions: two.map(vector) }, { streaming: true });
        } else if (kind === 4) entity.override({ hidden: [true, false, undefined][Math.floor(random() * 3)] });
        else if (kind === 5) entity.enabled = random() < 0.5;
        else if (kind === 6 && random() < 0.4) {
          // A part of a model goes with its model.
          if (!entity.hasMesh) entity.destroy();
        } else if (kind === 7) {
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
          server.reconnect();
          scene.resumed();
        } else await change(entity, kind);
      }
      server.broken = undefined;
      server.answersLost = false;
      await new Promise((resolve) => setTimeout(resolve, 0));
      server.reconnect();
      scene.resumed();
      await scene.flush();
      for (const record of server.records.splice(0)) server.arrive(record);
      same(scene, server);
      // Somebody who knows nothing finds the same.
      const back = new Scene(server);
      await back.restore();
      same(back, server);
      const known = (each: Scene): number[] => each.textures.map(({ id }) => id).sort();
      expect(known(back)).toEqual(known(scene));
    },
  );

  it("edits materials while they are seen, and shares them", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const root = await scene.loadModel("7");
    const [first, second, third] = root.children.map(({ subParts }) => subParts[0] as SubPart) as [
      SubPart,
      SubPart,
      SubPart,
    ];
    const own = first.material as Material;
    expect([own.isModels, own.name, own.albedoMap, own.doubleSided, own.specularHighlights]).toEqual([
      true,
      "material 2",
      "own",
      true,
      false,
    ]);
    expect(third.mesh).toBe(first.mesh);
    expect(second.mesh).not.toBe(first.mesh);
    const texture = await scene.loadTexture("https://x/a.png");
    expect(await scene.loadTexture("https://x/a.png")).toBe(texture);
    server.batches.length = 0;
    const red = scene.createMaterial("pbr", { albedoColor: [1, 0, 0, 1], albedoMap: texture });
    red.roughness = 0.25;
    red.metalness = 1;
    red.alphaClipped = true;
    scene.dress([first, second], red);
    own.roughness = 0.5;
    await scene.flush();
    expect(server.batches).toHaveLength(1);
    same(scene, server);
    expect(server.materials.get(red.id)?.values).toEqual({
      albedoColor: [1, 0, 0, 1],
      albedoMap: texture.id,
      roughness: 0.25,
      metalness: 1,
      flags: 8 + 16,
    });
    expect([first.override, first.meshMaterial, third.material]).toEqual([red, own, own]);
    third.meshMaterial = red;
    expect(third.material).toBe(red);
    first.material = undefined;
    expect(first.material).toBe(red);
    red.destroy();
    red.destroy();
    expect([first.material, second.override, third.material]).toEqual([own, undefined, own]);
    texture.destroy();
    await scene.flush();
    same(scene, server);
    expect(() => (first.material = red)).toThrow(refusal("InvalidId"));
    expect(() => (red.roughness = 1)).toThrow(refusal("InvalidId"));
    expect(() => (own.albedoMap = texture)).toThrow(refusal("InvalidId"));
    expect(() => own.destroy()).toThrow(refusal("InvalidParam"));
    const guest = await scene.loadModel("3");
    const [wearer, sharer] = guest.children.map(({ subParts }) => subParts[0]) as [SubPart, SubPart];
    const theirs = [wearer.material, sharer.material];
    wearer.material = own;
    sharer.meshMaterial = own;
    expect([wearer.material, sharer.material]).toEqual([own, own]);
    await scene.flush();
    same(scene, server);
    // It goes with its model: what wore it has its mesh's own again.
    root.destroy();
    expect([scene.materials.length, own.valid]).toEqual([2, false]);
    expect([wearer.material, wearer.override, sharer.material]).toEqual([theirs[0], undefined, theirs[1]]);
    await scene.flush();
    same(scene, server);
    expect(() => (wearer.material = own)).toThrow(refusal("InvalidId"));
  });

  it("gives each instance of a model materials of its own", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const one = await scene.loadModel("3");
    const other = await scene.loadModel("3");
    expect(scene.materials).toHaveLength(4);
    one.destroy();
    expect(scene.materials).toHaveLength(2);
    expect(other.children[0]?.subParts[0]?.material?.valid).toBe(true);
    await scene.flush();
    same(scene, server);
  });

  it("has lights, cut planes and effects", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const entity = scene.create("lamp");
    const light = entity.addPointLight();
    expect(entity.addPointLight({ intensity: 3 })).toBe(light);
    light.radius = 0.5;
    entity.addDirectionalLight({ color: [1, 1, 0] });
    entity.cutPlane = { normal: "negativeZ", fadeColor: [0, 1, 0, 1] };
    const plane = entity.cutPlane as unknown as CutPlane;
    plane.fadeLength = 0.2;
    plane.capped = true;
    plane.capColor = [0.5, 0, 0, 0.5];
    plane.capHatching = 0;
    scene.outline.set({ color: [0, 0, 1], pulseRateHz: 2 });
    scene.outline.pulseIntensity = 0.5;
    scene.camera.set({ near: 0.5, far: 20 });
    scene.stage.rotation = [0, 0, 0, 2];
    scene.pointSize = 2;
    expect(scene.stage.rotation).toEqual([0, 0, 0, 1]);
    expect([entity.pointLight, entity.spotLight, entity.directionalLight?.intensity]).toEqual([light, undefined, 10]);
    await scene.flush();
    same(scene, server);
    expect(server.effects).toEqual({
      outline: { color: [0, 0, 1], pulseRateHz: 2, pulseIntensity: 0.5 },
      camera: { near: 0.5, far: 20 },
      stage: { rotation: [0, 0, 0, 1] },
      pointSize: 2,
    });
    light.remove();
    entity.cutPlane = undefined;
    expect([light.valid, entity.lights.length, entity.cutPlane]).toEqual([false, 1, undefined]);
    expect(() => (light.intensity = 1)).toThrow(refusal("InvalidId"));
    await scene.flush();
    same(scene, server);
  });

  it("throws at once for values out of range, and changes nothing", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const entity = scene.create("a");
    const material = scene.createMaterial();
    const flat = await scene.loadTexture("https://x/a");
    const cube = await scene.loadTexture("https://x/a", { kind: "cube" });
    const light = entity.addSpotLight();
    entity.cutPlane = {};
    await scene.flush();
    server.batches.length = 0;
    const tries: [() => void, string][] = [
      [() => (material.roughness = 1.5), "InvalidParam"],
      [() => (material.roughness = Number.NaN), "InvalidParam"],
      [() => (material.albedoColor = [1, 1, 1] as never), "InvalidParam"],
      [() => (material.albedoColor = [1, 1, 1, -1]), "InvalidParam"],
      [() => (material.fresnelEffectExponent = 0), "InvalidParam"],
      [() => (material.vertexAlphaMode = "much" as never), "InvalidParam"],
      [() => (material.transparent = 1 as never), "InvalidParam"],
      [() => (material.name = "x".repeat(1025)), "StringTooLong"],
      [() => (material.albedoMap = "own"), "InvalidParam"],
      [() => (material.albedoMap = cube), "InvalidParam"],
      [() => material.set({ roughness: 0.5, metalness: 2 }), "InvalidParam"],
      [() => material.set({ shine: 1 } as never), "InvalidParam"],
      [() => scene.createMaterial("wood" as never), "InvalidParam"],
      [() => scene.createMaterial("pbr", { metalness: -1 }), "InvalidParam"],
      [() => (light.intensity = -1), "InvalidParam"],
      [() => (light.spotAngleDeg = [40, 30]), "InvalidParam"],
      [() => (light.attenuationCutoff = [2, 1]), "InvalidParam"],
      [() => (light.projectedTexture = cube), "InvalidParam"],
      [() => entity.addPointLight({ projectedTexture: flat }), "InvalidParam"],
      [() => (entity.cutPlane = { normal: "w" as never }), "InvalidParam"],
      [() => (entity.cutPlane = { filterMask: 1.5 }), "InvalidParam"],
      [() => (scene.outline.pulseRateHz = 61), "InvalidParam"],
      [() => (scene.camera.near = 1), "InvalidParam"],
      [() => (scene.stage.rotation = [0, 0, 0, 0]), "InvalidParam"],
      [() => (scene.singleSided = "never" as never), "InvalidParam"],
      [() => (scene.pointSize = -1), "InvalidParam"],
      [() => (scene.sky = ""), "InvalidParam"],
    ];
    for (const [attempt, result] of tries) expect(attempt).toThrow(refusal(result));
    expect([material.roughness, entity.pointLight, scene.materials.length]).toEqual([1, undefined, 1]);
    await scene.flush();
    expect(server.batches).toHaveLength(0);
  });

  it("takes transforms as numbers one after the other", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const two = [scene.create("a"), scene.create("b")];
    scene.setTransforms(two, {
      positions: new Float64Array([1, 2, 3, 4, 5, 6]),
      rotations: new Float32Array([0, 0, 0, 1, 0, 0, 3, 4]),
    });
    expect(two.map((entity) => entity.position)).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(two[1]?.rotation[2]).toBeCloseTo(0.6, 6);
    expect(() => scene.setTransforms(two, { positions: new Float64Array(5) })).toThrow(refusal("InvalidParam"));
    expect(() => scene.setTransforms(two, { scales: new Float32Array(6).fill(Number.NaN) })).toThrow(
      refusal("InvalidParam"),
    );
    await scene.flush();
    same(scene, server);
  });

  it("sends what is too long for one message as one batch", async () => {
    const server = new Server();
    const scene = new Scene(server);
    await scene.batch(() => {
      for (let index = 0; index < 1500; index++) scene.create(`entity number ${index}`);
    });
    expect(server.batches.map(({ length }) => length)).toEqual([1500]);
    same(scene, server);
  });

  it("sends a batch whole once more when its line broke in the middle", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const request = server.request.bind(server);
    let messages = 0;
    server.request = async (method, params) => {
      if (++messages === 2) server.broken = new FarframeError("ConnectionLost", "Gone.");
      return request(method, params);
    };
    for (let index = 0; index < 1500; index++) scene.create(`entity number ${index}`);
    await expect(scene.flush()).rejects.toEqual(refusal("ConnectionLost"));
    expect(server.batches).toHaveLength(0);
    server.broken = undefined;
    server.reconnect();
    scene.resumed();
    await scene.flush();
    expect(server.batches.map(({ length }) => length)).toEqual([1500]);
    same(scene, server);
  });

  it("plays a model's animations", async () => {
    const server = new Server();
    const scene = new Scene(server);
    const root = await scene.loadModel("3");
    const [rise, turn] = (await root.animations()) as [ModelAnimation, ModelAnimation];
    expect([rise.name, rise.duration, rise.nodeCount, rise.state, rise.loop]).toEqual([
      "rise",
      2,
      3,
      "stopped",
      "repeat",
    ]);
    expect([turn.state, turn.speed]).toEqual(["paused", 3]);
    rise.play({ time: 0.5, loop: "pingPong" });
    turn.seek(1);
    turn.speed = -2;
    rise.pause();
    turn.stop();
    turn.seek(0.5);
    rise.reclaim();
    expect([rise.state, rise.loop, turn.state, turn.speed]).toEqual(["paused", "pingPong", "paused", -2]);
    const tries = [
      () => rise.play({ time: 3 }),
      () => (rise.speed = 2000),
      () => (rise.weight = 2),
      () => rise.seek(-1),
    ];
    for (const attempt of tries) expect(attempt).toThrow(refusal("InvalidParam"));
    expect(() => (rise.loop = "twice" as never)).toThrow(refusal("InvalidParam"));
    await scene.flush();
    const id = root.id;
    expect(server.played).toEqual([
      { op: "setAnimation", id, clip: 0, state: "playing", time: 0.5, loop: "pingPong" },
      { op: "setAnimation", id, clip: 1, time: 1 },
      { op: "setAnimation", id, clip: 1, speed: -2 },
      { op: "setAnimation", id, clip: 0, state: "paused" },
      { op: "setAnimation", id, clip: 1, state: "stopped" },
      { op: "setAnimation", id, clip: 1, state: "paused", time: 0.5 },
      { op: "setAnimation", id, clip: 0, reclaim: true },
    ]);
    root.destroy();
    expect(() => rise.play()).toThrow(refusal("InvalidId"));
  });

  it("finds what overlaps", async () => {
    const scene = new Scene(new Server());
    const root = await scene.loadModel("4");
    const { parts, more, complete } = await scene.findOverlaps({ kind: "sphere", center: [0, 0, 0], radius: 1 });
    expect(parts.map(({ entity }) => entity)).toEqual(root.children);
    expect([more, complete]).toEqual([true, true]);
  });

  it("takes a load out of the scene that nobody could be told of", async () => {
    const server = new Server();
    const scene = new Scene(server);
    server.broken = new FarframeError("ConnectionLost", "Gone.");
    await expect(scene.loadModel("3")).rejects.toEqual(refusal("ConnectionLost"));
    expect(server.rows.size).toBe(3);
    server.broken = undefined;
    scene.resumed();
    await scene.flush();
    expect(server.rows.size).toBe(0);
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

  it("is the same page of sub-parts", async () => {
    expect(await decodeSubParts(3, fixtures.subPartPage)).toEqual(fixtures.subParts);
    const refused = expect.objectContaining({ result: "ProtocolError", message: expect.stringContaining("cut off") });
    await expect(decodeSubParts(2, fixtures.subPartPage)).rejects.toEqual(refused);
  });

  it("begins as things begin there", () => {
    const { defaults } = fixtures;
    const names = Object.keys(MATERIAL_DEFAULTS) as (keyof typeof MATERIAL_DEFAULTS)[];
    expect(materialToWire(MATERIAL_DEFAULTS, names)).toEqual(defaults.material);
    expect(materialFromWire(defaults.material, () => undefined)).toEqual(MATERIAL_DEFAULTS);
    for (const [name, bit] of Object.entries(defaults.materialFlags)) {
      const only = { ...MATERIAL_DEFAULTS, specularHighlights: false, [name]: true };
      expect(materialToWire(only, ["transparent"])).toEqual({ flags: bit });
    }
    expect(materialToWire({ ...MATERIAL_DEFAULTS, aoMap: "own" }, ["aoMap"])).toEqual({ aoMap: defaults.ownMap });
    const lights = Object.keys(LIGHT_DEFAULTS) as (keyof typeof LIGHT_DEFAULTS)[];
    expect(lightToWire(LIGHT_DEFAULTS, lights)).toEqual(defaults.light);
    expect(CUT_PLANE_DEFAULTS).toEqual(defaults.cutPlane);
    const scene = new Scene(new Server());
    const { outline, shell, zFighting, camera, stage, debug, sky, singleSided, pointSize } = scene;
    expect({
      ...Object.fromEntries(
        Object.entries({ outline, shell, zFighting, camera, stage, debug }).map(([name, { values }]) => [name, values]),
      ),
      sky: { uri: sky, texture: 0 },
      singleSided,
      pointSize,
    }).toEqual(defaults.effects);
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
