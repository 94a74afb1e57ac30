import {
  type Entity,
  type RayHit,
  Scene,
  type SceneLink,
  symmetricFieldOfView,
  type Vector3,
  type View,
} from "@farframe/client";
import { describe, expect, it } from "vitest";
import { colorText, linearOf } from "../src/colors.ts";
import { piecesOf } from "../src/explode.ts";
import {
  add,
  cross,
  degreesOf,
  dot,
  inverse,
  lengthOf,
  matrixOf,
  multiply,
  placeOf,
  quaternionOf,
  scaled,
  subtract,
  transformed,
} from "../src/geometry.ts";
import { distanceOf, drawingsOf, type Measure, measureText } from "../src/measure_tool.ts";
import {
  freeName,
  linkPartOf,
  type NamedView,
  textOf,
  viewFrom,
  viewFromLink,
  viewsFrom,
  withView,
} from "../src/named_views.ts";
import { project, rayThrough } from "../src/projection.ts";
import {
  acrossAxis,
  isCutAway,
  movedTo,
  onFace,
  partOf,
  placed,
  positionOf,
  rotationOf,
  titlesOf,
} from "../src/section.ts";
import { Selection } from "../src/selection.ts";
import { angleBetween, nearestOnSegment, placesAround, snap } from "../src/snapping.ts";
import { anglesOf, between, nearestTurn } from "../src/standard_views.ts";
import { TreeModel, titleOf } from "../src/tree_model.ts";
import { lengthText, unitFor } from "../src/units.ts";
import { isHidden, topmost, Visibility } from "../src/visibility.ts";

/** A scene whose server agrees to everything. */
function emptyScene(): Scene {
  const nothing = async (): Promise<never> => {
    throw new Error("nothing is loaded here");
  };
  const link = {
    request: async () => ({}),
    ready: async () => undefined,
    sendRecord: () => undefined,
    load: nothing,
    loadTexture: nothing,
  };
  return new Scene(link as unknown as SceneLink);
}

/** engine ─┬─ block ─┬─ bolt 1
 *          │         └─ bolt 2
 *          └─ cover ─── plate */
function engine(): { scene: Scene; by: (name: string) => Entity } {
  const scene = emptyScene();
  const root = scene.create("engine");
  const block = scene.create("block", { parent: root });
  scene.create("bolt 1", { parent: block });
  scene.create("bolt 2", { parent: block });
  scene.create("plate", { parent: scene.create("cover", { parent: root }) });
  return {
    scene,
    by: (name) => {
      const found = scene.find(name);
      if (!found) throw new Error(name);
      return found;
    },
  };
}

const near = (a: Vector3, b: Vector3): void => {
  for (const axis of [0, 1, 2] as const) expect(a[axis]).toBeCloseTo(b[axis], 9);
};

describe("the tree", () => {
  const names = (tree: TreeModel): string[] => tree.rows.map((row) => `${row.level} ${titleOf(row.entity)}`);

  it("shows what is open, with levels and places", () => {
    const { scene, by } = engine();
    const tree = new TreeModel(() => scene.roots);
    tree.rebuild();
    expect(names(tree)).toEqual(["1 engine"]);
    tree.open(by("engine"));
    expect(names(tree)).toEqual(["1 engine", "2 block", "2 cover"]);
    expect(tree.rows[2]).toMatchObject({ position: 2, siblings: 2, expandable: true, expanded: false });
    tree.reveal(by("plate"));
    expect(tree.indexOf(by("plate"))).toBe(3);
    tree.setExpanded(by("engine"), false);
    expect(names(tree)).toEqual(["1 engine"]);
    tree.setExpanded(by("engine"), true);
    expect(names(tree)).toContain("3 plate");
  });

  it("finds all words wherever they are, and shows what is above", async () => {
    const { scene, by } = engine();
    const tree = new TreeModel(() => scene.roots);
    expect(await tree.search("2 BOLT", new AbortController().signal)).toBe(true);
    expect(names(tree)).toEqual(["1 engine", "2 block", "3 bolt 2"]);
    expect([...tree.hits]).toEqual([by("bolt 2")]);
    await tree.search("no such part", new AbortController().signal);
    expect(tree.rows).toEqual([]);
    await tree.search(" ", new AbortController().signal);
    expect(names(tree)).toEqual(["1 engine"]);
  });

  it("searches 50,000 in slices, and gives up when another search begins", async () => {
    const scene = emptyScene();
    const root = scene.create("all");
    for (let index = 0; index < 50_000; index++) scene.create(`part ${index}`, { parent: root });
    const tree = new TreeModel(() => scene.roots);
    let pauses = 0;
    const pause = (): Promise<void> => {
      pauses += 1;
      return Promise.resolve();
    };
    expect(await tree.search("part 4999", new AbortController().signal, pause)).toBe(true);
    expect(tree.hits.size).toBe(15);
    expect(tree.rows.length).toBe(16);
    const before = tree.rows;
    const stopped = new AbortController();
    stopped.abort();
    expect(await tree.search("all", stopped.signal, pause)).toBe(false);
    expect(tree.rows).toBe(before);
    tree.setExpanded(root, true);
    await tree.search("", new AbortController().signal);
    expect(tree.rows.length).toBe(50_001);
    expect(tree.indexOf(tree.rows[30_000]?.entity)).toBe(30_000);
    expect(pauses).toBeLessThan(50_000 / 256 + 1);
  }, 60_000);

  it("forgets what is gone", () => {
    const { scene, by } = engine();
    const tree = new TreeModel(() => scene.roots);
    tree.reveal(by("bolt 1"));
    by("block").destroy();
    tree.prune();
    expect(names(tree)).toEqual(["1 engine", "2 cover"]);
  });
});

describe("selection", () => {
  it("marks what comes and lets go of what goes", () => {
    const { scene, by } = engine();
    const selection = new Selection((entities, changes) => scene.override(entities, changes));
    const heard: number[] = [];
    selection.on("change", (entities) => heard.push(entities.length));
    selection.set([by("bolt 1"), by("bolt 2")]);
    expect(by("bolt 1").overrides.selected).toBe(true);
    selection.toggle(by("bolt 1"));
    expect(by("bolt 1").overrides.selected).toBeUndefined();
    expect(selection.last).toBe(by("bolt 2"));
    selection.set([by("bolt 2")]);
    by("block").destroy();
    selection.prune();
    expect(heard).toEqual([2, 1, 0]);
  });
});

describe("visibility", () => {
  it("hides, shows below what is hidden, and shows all", () => {
    const { scene, by } = engine();
    const visibility = new Visibility(scene);
    visibility.hide([by("block")]);
    expect(isHidden(by("bolt 1"))).toBe(true);
    expect(by("block").overrides.disableCollision).toBe(true);
    visibility.show([by("bolt 1")]);
    expect(isHidden(by("bolt 1"))).toBe(false);
    expect(isHidden(by("bolt 2"))).toBe(true);
    visibility.toggle(by("bolt 1"));
    expect(isHidden(by("bolt 1"))).toBe(true);
    visibility.showAll();
    expect(visibility.changed).toBe(false);
    for (const entity of scene) expect(entity.overrides.hidden).toBeUndefined();
  });

  it("isolates with one force at the root and one at what is kept", () => {
    const { scene, by } = engine();
    const visibility = new Visibility(scene);
    visibility.hide([by("cover")]);
    visibility.isolate([by("cover"), by("plate"), by("bolt 2")]);
    expect(isHidden(by("bolt 1"))).toBe(true);
    expect(isHidden(by("plate"))).toBe(false);
    expect(isHidden(by("bolt 2"))).toBe(false);
    const first = by("engine").id;
    const kept = visibility.forced(first);
    expect(kept).toEqual({ hidden: [0], shown: [by("cover").id - first, by("bolt 2").id - first] });
    visibility.showAll();
    const at = (places: number[]): Entity[] => places.flatMap((place) => scene.get(first + place) ?? []);
    visibility.restore(at(kept.hidden), at(kept.shown));
    expect(isHidden(by("bolt 1"))).toBe(true);
    expect(isHidden(by("plate"))).toBe(false);
  });

  it("keeps only the topmost of what lies in one another", () => {
    const { by } = engine();
    expect(topmost([by("plate"), by("cover"), by("bolt 1")])).toEqual([by("cover"), by("bolt 1")]);
  });
});

describe("geometry", () => {
  it("turns degrees into quaternions and back", () => {
    for (const degrees of [
      [10, 20, 30],
      [-170, 45, 90],
      [0, 0, -180],
      [0, 90, 25],
    ] as const) {
      const back = quaternionOf(degreesOf(quaternionOf(degrees)));
      const wanted = quaternionOf(degrees);
      const sign = Math.sign(back[0] * wanted[0] + back[1] * wanted[1] + back[2] * wanted[2] + back[3] * wanted[3]);
      back.forEach((value, index) => {
        expect(value * sign).toBeCloseTo(wanted[index] as number, 9);
      });
    }
    near(degreesOf(quaternionOf([10, 20, 30])), [10, 20, 30]);
  });

  it("knows where entities are", () => {
    const scene = emptyScene();
    const parent = scene.create("", { position: [1, 0, 0], rotation: quaternionOf([0, 90, 0]), scale: [2, 2, 2] });
    const child = scene.create("", { parent, position: [0, 0, 1], scale: [1, 3, 1] });
    const { linear, origin } = placeOf(child);
    near(origin, [3, 0, 0]);
    near(transformed(linear, [0, 1, 1]), [2, 6, 0]);
    const back = inverse(linear);
    if (!back) throw new Error("no inverse");
    near(transformed(multiply(back, linear), [1, 2, 3]), [1, 2, 3]);
    expect(
      inverse([
        [1, 0, 0],
        [0, 0, 0],
        [0, 0, 1],
      ]),
    ).toBeUndefined(); // prettier-ignore
  });

  it("goes from the picture into the world and back, in both projections", () => {
    const orientation = quaternionOf([-20, 35, 0]);
    const common = { position: [1, 2, 3] as Vector3, orientation, near: 0.1, far: 10 };
    const views: View[] = [
      { ...common, fieldOfView: symmetricFieldOfView(0.8, 1.6) },
      { ...common, fieldOfView: { left: -2, right: 1, up: 1.5, down: -0.5 }, orthographic: true },
    ];
    for (const view of views) {
      for (const at of [
        { x: 0.5, y: 0.5 },
        { x: 0.1, y: 0.9 },
      ]) {
        const { start, end } = rayThrough(view, at);
        for (const part of [0.01, 0.5, 1]) {
          const point = start.map(
            (value, axis) => value + ((end[axis] as number) - value) * part,
          ) as unknown as Vector3;
          const seen = project(view, point);
          expect(seen?.x).toBeCloseTo(at.x, 6);
          expect(seen?.y).toBeCloseTo(at.y, 6);
        }
      }
    }
    const [perspective] = views as [View];
    const { start, end } = rayThrough(perspective, { x: 0.5, y: 0.5 });
    const behind = start.map((value, axis) => value - ((end[axis] as number) - value) * 0.1) as unknown as Vector3;
    expect(project(perspective, behind)).toBeUndefined();
  });
});

describe("views", () => {
  it("turn the shorter way", () => {
    expect(nearestTurn(3, -3)).toBeCloseTo(2 * Math.PI - 3);
    expect(nearestTurn(7, 1)).toBeCloseTo(1 + 2 * Math.PI);
    const state = { target: [0, 0, 0] as Vector3, distance: 1, yaw: 3, pitch: 0 };
    const goal = { target: [2, 0, 0] as Vector3, distance: 4, yaw: -3, pitch: 1 };
    const half = between(state, goal, 0.5);
    expect(half.distance).toBeCloseTo(2);
    expect(half.target).toEqual([1, 0, 0]);
    expect(half.yaw).toBeCloseTo(Math.PI);
    expect(between(state, goal, 1)).toEqual(goal);
    expect(anglesOf("top").pitch).toBe(Math.PI / 2);
  });

  const view: NamedView = {
    name: "Überblick 1",
    camera: { target: [1, 2, 3], distance: 4, yaw: 0.5, pitch: 0.25 },
    orthographic: true,
    edges: false,
    apart: 0.5,
    sections: [
      { axis: 1, normal: [0, 1, 0], offset: 0.25, from: 0, flipped: true },
      { axis: undefined, normal: [0.6, 0, 0.8], offset: -1, from: -0.9, flipped: false },
    ],
    parts: { hidden: [0, 7], shown: [9] },
  };

  it("go through a link and a file unchanged", () => {
    expect(viewFromLink(linkPartOf(view))).toEqual(view);
    expect(linkPartOf(view)).toMatch(/^[\w-]+$/);
    expect(viewsFrom(textOf([view, { ...view, name: "2" }], "engine")).map(({ name }) => name)).toEqual([
      view.name,
      "2",
    ]);
  });

  it("are not taken from what holds none", () => {
    for (const wrong of [
      null,
      7,
      {},
      { ...view, name: " " },
      { ...view, camera: { ...view.camera, distance: 0 } },
      { ...view, camera: { ...view.camera, target: [0, 1] } },
      { ...view, camera: { ...view.camera, yaw: "0" } },
      { ...view, camera: { ...view.camera, target: [0, 0, Number.NaN] } },
    ]) {
      expect(viewFrom(wrong)).toBeUndefined();
    }
    const plane = { axis: 0, normal: [1, 0, 0], offset: 0, from: 0 };
    const sections = [
      { axis: 4, at: 0 },
      { ...plane, normal: [1, 1, 0] },
      { ...plane, offset: 1e300 },
      { ...plane, from: "0" },
      "x",
      { ...plane, normal: [0, 1, 0] },
      ...Array(9).fill(plane),
    ];
    expect(viewFrom({ ...view, parts: { hidden: ["x", -1, 3.5, 4] }, sections, apart: 9 })).toEqual({
      ...view,
      apart: 1,
      sections: [
        { ...plane, axis: undefined, normal: [0, 1, 0], flipped: false },
        { ...plane, flipped: false },
        { ...plane, flipped: false },
      ],
      parts: { hidden: [4], shown: [] },
    });
    expect(() => viewsFrom("[]")).toThrow(SyntaxError);
    expect(() => viewsFrom("{")).toThrow(SyntaxError);
    expect(viewFromLink("!")).toBeUndefined();
    expect(viewFromLink("A".repeat(10_000))).toBeUndefined();
  });

  it("that were kept when there was one plane only keep it", () => {
    const { sections: _, ...older } = view;
    expect(viewFrom({ ...older, section: { axis: 1, flipped: true, at: 0.25 } })?.sections).toEqual([
      { axis: 1, flipped: true, at: 0.25 },
    ]);
    expect(viewFrom(older)?.sections).toEqual([]);
  });

  it("have names of their own", () => {
    const two = withView(withView([], view), { ...view, name: "View 1" });
    expect(withView(two, { ...view, apart: 0 }).map(({ name, apart }) => [name, apart])).toEqual([
      [view.name, 0],
      ["View 1", 0.5],
    ]);
    expect(freeName(two)).toBe("View 2");
  });
});

describe("measuring", () => {
  const slant: Measure = { from: [1, 1, 1], to: [4, 5, 1], angle: undefined };
  const corner: Measure = { from: [0, 0, 0], to: [0, 0, 1], angle: 89.96 };

  it("tells the distance and its parts", () => {
    expect(distanceOf(slant)).toEqual({ distance: 5, parts: [3, 4, 0] });
    expect(measureText(slant, "mm")).toBe("5000 mm");
    expect(measureText(corner, "mm")).toBe("90.0°");
    const drawings = drawingsOf([slant], undefined, "mm");
    expect(drawings.filter((drawing) => drawing.kind === "line")).toHaveLength(4);
    expect(drawings.find((drawing) => drawing.kind === "label")).toMatchObject({ text: "5000 mm", at: [2.5, 3, 1] });
    expect(drawingsOf([], [0, 0, 0], "m").map((drawing) => drawing.kind)).toEqual(["mark"]);
  });

  it("draws all, numbered, and the parts of the newest", () => {
    const drawings = drawingsOf([slant, corner], [9, 9, 9], "m");
    expect(drawings.filter((drawing) => drawing.kind === "line")).toHaveLength(2);
    expect(drawings.filter((drawing) => drawing.kind === "mark")).toHaveLength(5);
    expect(drawings.flatMap((drawing) => (drawing.kind === "label" ? drawing.text : []))).toEqual([
      "1: 5.000 m",
      "2: 90.0°",
    ]);
  });

  it("writes four figures", () => {
    expect(lengthText(0.18237, "mm")).toBe("182.4 mm");
    expect(lengthText(-0.0000123, "m")).toBe("-0.000012 m");
    expect(lengthText(0, "in")).toBe("0 in");
    expect(lengthText(-1e-17, "mm")).toBe("0 mm");
    expect(lengthText(0.0254, "in")).toBe("1.000 in");
    expect(lengthText(12345.6, "m")).toBe("12346 m");
    expect(unitFor(0.5)).toBe("mm");
    expect(unitFor(20)).toBe("m");
  });
});

describe("snapping", () => {
  // A box from 0 to 1, seen from the front and a little from the right and above; ten pixels are about a tenth of it.
  const size = { width: 400, height: 400 };
  const view: View = {
    position: [2, 2.5, 5],
    orientation: quaternionOf([-22, 21, 0]),
    fieldOfView: symmetricFieldOfView(0.8, 1),
    near: 0.1,
    far: 100,
  };
  const { scene, by } = engine();
  const [box, other] = [by("block"), by("cover")];
  const triangles: readonly (readonly [Vector3, Vector3, Vector3])[] = [
    // Front, top, right: two each, with a diagonal between them.
    [
      [0, 0, 1],
      [1, 0, 1],
      [1, 1, 1],
    ],
    [
      [0, 0, 1],
      [1, 1, 1],
      [0, 1, 1],
    ],
    [
      [0, 1, 1],
      [1, 1, 1],
      [1, 1, 0],
    ],
    [
      [0, 1, 1],
      [1, 1, 0],
      [0, 1, 0],
    ],
    [
      [1, 0, 1],
      [1, 0, 0],
      [1, 1, 0],
    ],
    [
      [1, 0, 1],
      [1, 1, 0],
      [1, 1, 1],
    ],
  ];

  /** The nearest of the triangles on a ray: Moeller and Trumbore. */
  function cast(at: { x: number; y: number }, entity: Entity): RayHit | undefined {
    const { start, end } = rayThrough(view, at);
    const along = subtract(end, start);
    let found: RayHit | undefined;
    for (const corners of triangles) {
      const [edge1, edge2] = [subtract(corners[1], corners[0]), subtract(corners[2], corners[0])];
      const [p, from] = [cross(along, edge2), subtract(start, corners[0])];
      const determinant = dot(edge1, p);
      const [u, q] = [dot(from, p) / determinant, cross(from, edge1)];
      const [v, t] = [dot(along, q) / determinant, dot(edge2, q) / determinant];
      if (u < 0 || v < 0 || u + v > 1 || t < 0) continue;
      const distance = t * lengthOf(along);
      if (found && found.distance <= distance) continue;
      const normal = cross(edge1, edge2);
      const position = add(start, scaled(along, t));
      found = { entity, subPart: 0, position, normal, distance, kind: "front", corners };
    }
    return found;
  }

  function pointedAt(point: Vector3, pixels: readonly [number, number], keeps?: (point: Vector3) => boolean) {
    const seen = project(view, point);
    if (!seen) throw new Error("behind the camera");
    const at = { x: seen.x + pixels[0] / size.width, y: seen.y + pixels[1] / size.height };
    const samples = placesAround(at, 10, size).map((place) => ({ at: place, hit: cast(place, box) }));
    return snap(view, samples, 10, size, keeps);
  }

  it("takes the corner near the pointer, on the model or beside it", () => {
    for (const pixels of [
      [0, 0],
      [-4, 4],
      [3, -3],
      [6, 5],
    ] as const) {
      const picked = pointedAt([1, 1, 1], pixels);
      expect(picked?.kind).toBe("corner");
      expect(picked?.point).toEqual([1, 1, 1]);
    }
    expect(pointedAt([0, 0, 1], [-5, 3])).toMatchObject({ kind: "corner", point: [0, 0, 1] });
  });

  it("takes the nearest point of an edge where no corner is near", () => {
    const inner = pointedAt([0.5, 1, 1], [0, 4]);
    expect(inner?.kind).toBe("edge");
    near([0, ...(inner?.point.slice(1) ?? [])] as unknown as Vector3, [0, 1, 1]);
    expect(inner?.point[0]).toBeCloseTo(0.5, 1);
    const outer = pointedAt([0, 0.5, 1], [-4, 0]);
    expect(outer?.kind).toBe("edge");
    expect(outer?.point[0]).toBe(0);
  });

  it("takes neither the diagonals of faces nor what is too far", () => {
    const onDiagonal = pointedAt([0.5, 0.5, 1], [2, 0]);
    expect(onDiagonal?.kind).toBe("face");
    expect(onDiagonal?.normal).toEqual([0, 0, 1]);
    expect(pointedAt([0.25, 0.75, 1], [0, 0])?.kind).toBe("face");
    expect(pointedAt([0, 0, 1], [-30, 30])).toBeUndefined();
  });

  it("takes no corner that is cut away, and an edge where two parts meet", () => {
    expect(pointedAt([1, 1, 1], [-1, 1], (point) => point[0] < 0.999)?.kind).not.toBe("corner");
    const at = project(view, [0.5, 0.5, 1]);
    if (!at) throw new Error("behind the camera");
    // Left of the middle lies another part in the same plane.
    const samples = placesAround(at, 10, size).map((place) => {
      const hit = cast(place, place.x < at.x ? other : box);
      return { at: place, hit };
    });
    expect(snap(view, samples, 10, size)?.kind).toBe("edge");
    expect(scene.roots).toHaveLength(1);
  });

  it("finds the nearest point of a segment", () => {
    const ray = { start: [0.25, 1, 5] as Vector3, end: [0.25, 1, -5] as Vector3 };
    near(nearestOnSegment([0, 0, 0], [1, 0, 0], ray), [0.25, 0, 0]);
    near(nearestOnSegment([0.5, 0, 0], [1, 0, 0], ray), [0.5, 0, 0]);
    near(nearestOnSegment([0.25, 0, 0], [0.25, 0, 1], ray), [0.25, 0, 0]);
  });

  it("tells the angle between faces as that between their planes", () => {
    expect(angleBetween([0, 0, 1], [0, 2, 0])).toBeCloseTo(90);
    expect(angleBetween([0, 0, 1], [0, 0, -1])).toBeCloseTo(0);
    expect(angleBetween([1, 1, 0], [1, 0, 0])).toBeCloseTo(45);
  });
});

describe("a section", () => {
  const bounds = { min: [0, -1, 2] as Vector3, max: [4, 1, 4] as Vector3 };

  it("lies across its axis, and knows what it takes away", () => {
    const middle = acrossAxis(0, bounds);
    near(positionOf(middle, bounds), [2, 0, 3]);
    expect(isCutAway(middle, [2.1, 5, 0])).toBe(true);
    expect(isCutAway(middle, [1.9, 5, 0])).toBe(false);
    const flipped = placed({ axis: 2, flipped: true, at: 0.25 }, bounds);
    expect(flipped.offset).toBeCloseTo(2.5, 2);
    expect(isCutAway(flipped, [0, 0, 2.1])).toBe(true);
    expect(isCutAway(flipped, [0, 0, 3])).toBe(false);
    expect(placed(flipped, bounds)).toBe(flipped);
  });

  it("goes through the box and stays within it", () => {
    const plane = acrossAxis(1, bounds);
    expect(movedTo(plane, 0, bounds).offset).toBeGreaterThan(-1);
    expect(movedTo(plane, 1, bounds).offset).toBeLessThan(1);
    expect(partOf(movedTo(plane, 0.3, bounds), bounds)).toBeCloseTo(0.3);
    expect(partOf({ ...plane, offset: 100 }, bounds)).toBe(1);
    // Along a slope it goes from one corner to the other.
    const slope = onFace([4, 1, 3], [3, 4, 0], bounds);
    expect(movedTo(slope, 1, bounds).offset).toBeCloseTo(0.6 * 4 + 0.8 * 1, 1);
    expect(movedTo(slope, 0, bounds).offset).toBeCloseTo(0.8 * -1, 1);
  });

  it("on a face takes the face away and little more", () => {
    const face = onFace([1, 1, 3], [0, 2, 0], bounds);
    near(face.normal, [0, 1, 0]);
    expect(face.from).toBe(1);
    expect(isCutAway(face, [1, 1, 3])).toBe(true);
    expect(isCutAway(face, [1, 0.99, 3])).toBe(false);
    expect(isCutAway({ ...face, flipped: true }, [1, 0.99, 3])).toBe(true);
  });

  it("turns X to where it cuts away", () => {
    for (const normal of [
      [1, 0, 0],
      [-1, 0, 0],
      [0, 1, 0],
      [0, 0, -1],
      [0.6, 0, -0.8],
      [-0.48, 0.64, 0.6],
    ] as const) {
      for (const flipped of [false, true]) {
        const state = { axis: undefined, normal, offset: 0, from: 0, flipped };
        const x = transformed(matrixOf(rotationOf(state)), [1, 0, 0]);
        near(x, flipped ? scaled(normal, -1) : normal);
      }
    }
  });

  it("has a name that people can tell from others", () => {
    const face = onFace([1, 1, 3], [0, 2, 0], bounds);
    expect(titlesOf([face, acrossAxis(2, bounds), face])).toEqual(["Face 1", "Z", "Face 2"]);
  });
});

describe("colours", () => {
  it("go to the page and back", () => {
    for (const text of ["#000000", "#ffffff", "#5fb0e8", "#0a0b0c"]) expect(colorText(linearOf(text))).toBe(text);
    expect(colorText([2, -1, 0.5])).toBe("#ff00bc");
  });
});

describe("taking apart", () => {
  it("takes the finest level that is not too much", () => {
    const { by } = engine();
    expect(piecesOf(by("engine")).map(titleOf)).toEqual(["bolt 1", "bolt 2", "plate"]);
    expect(piecesOf(by("engine"), 2).map(titleOf)).toEqual(["block", "cover"]);
    expect(piecesOf(by("engine"), 1)).toEqual([]);
  });
});
