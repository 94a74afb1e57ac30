import { describe, expect, it } from "vitest";
import { OrbitCamera, type Quaternion, sphereOf, unionBounds, type Vector3 } from "../src/index.ts";

/** Rotates a vector by a unit quaternion. */
function rotate([x, y, z, w]: Quaternion, [vx, vy, vz]: Vector3): Vector3 {
  const [tx, ty, tz] = [2 * (y * vz - z * vy), 2 * (z * vx - x * vz), 2 * (x * vy - y * vx)];
  return [vx + w * tx + y * tz - z * ty, vy + w * ty + z * tx - x * tz, vz + w * tz + x * ty - y * tx];
}

function expectClose(actual: Vector3, expected: Vector3): void {
  actual.forEach((value, axis) => {
    expect(value).toBeCloseTo(expected[axis] as number, 9);
  });
}

const box = { min: [-1, 0, -2], max: [3, 2, 2] } as const;

describe("OrbitCamera", () => {
  it.each([
    [0, 0],
    [0.7, 0.3],
    [-2.5, -1.2],
    [4, 1.5],
  ])("yaw %d, pitch %d: looks at its target, upright", (yaw, pitch) => {
    const camera = new OrbitCamera();
    camera.target = [1, 2, 3];
    Object.assign(camera, { yaw, pitch, distance: 5 });
    const { right, up, back } = camera.axes();
    expectClose(rotate(camera.orientation, [1, 0, 0]), right);
    expectClose(rotate(camera.orientation, [0, 1, 0]), up);
    expectClose(rotate(camera.orientation, [0, 0, 1]), back);
    const seen = rotate(camera.orientation, [0, 0, -5]);
    expectClose(camera.position.map((value, axis) => value + (seen[axis] as number)) as unknown as Vector3, [1, 2, 3]);
    expect(right[1]).toBe(0);
    expect(up[1]).toBeGreaterThan(0);
  });

  it("looks along -Z from +Z at yaw 0", () => {
    const camera = new OrbitCamera();
    Object.assign(camera, { yaw: 0, pitch: 0, distance: 2 });
    expectClose(camera.position, [0, 0, 2]);
    expectClose(camera.orientation.slice(0, 3) as unknown as Vector3, [0, 0, 0]);
  });

  it("stops short of the poles", () => {
    const camera = new OrbitCamera();
    camera.orbit(0, 100);
    expect(camera.pitch).toBeLessThan(Math.PI / 2);
    camera.orbit(0, -200);
    expect(camera.pitch).toBeGreaterThan(-Math.PI / 2);
  });

  it.each([0.4, 1, 16 / 9])("frames a box at aspect %d: all corners are in view, one nearly at its edge", (aspect) => {
    const camera = new OrbitCamera();
    camera.frame(box, aspect);
    expectClose(camera.target, sphereOf(box).center);
    const { right, up, back } = camera.axes();
    const { fieldOfView } = camera.view(aspect);
    const position = camera.position;
    const dot = (a: Vector3, b: Vector3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    const reach = [box.min[0], box.max[0]].flatMap((x) =>
      [box.min[1], box.max[1]].flatMap((y) =>
        [box.min[2], box.max[2]].map((z) => {
          const offset: Vector3 = [x - position[0], y - position[1], z - position[2]];
          const depth = -dot(offset, back);
          return Math.max(
            Math.abs(dot(offset, right)) / depth / Math.tan(fieldOfView.right),
            Math.abs(dot(offset, up)) / depth / Math.tan(fieldOfView.up),
          );
        }),
      ),
    );
    expect(Math.min(...reach)).toBeGreaterThan(0);
    expect(Math.max(...reach)).toBeLessThan(1);
    expect(Math.max(...reach)).toBeGreaterThan(0.8);
  });

  it("frames a point and an empty scene from outside", () => {
    const camera = new OrbitCamera();
    camera.frame({ min: [1, 1, 1], max: [1, 1, 1] }, 1);
    expect(camera.distance).toBeGreaterThan(0);
    camera.frame(undefined, 1);
    expect(camera.distance).toBeGreaterThan(1);
    expectClose(camera.target, [0, 0, 0]);
  });

  it("keeps the scene between near and far, from outside and inside", () => {
    const camera = new OrbitCamera();
    camera.frame(box, 1.5);
    const { radius } = sphereOf(box);
    const outside = camera.view(1.5);
    expect(outside.near).toBeLessThan(camera.distance - radius);
    expect(outside.near).toBeGreaterThan(0);
    expect(outside.far).toBeGreaterThan(camera.distance + radius);
    camera.distance = 0.01;
    const inside = camera.view(1.5);
    expect(inside.near).toBeLessThan(0.01);
    expect(inside.far).toBeGreaterThan(radius);
    camera.target = [0, 0, -1e6];
    camera.yaw = Math.PI;
    const behind = camera.view(1.5);
    expect(behind.near).toBeLessThan(behind.far);
  });

  it("pans so that the target's plane follows the pointer", () => {
    const camera = new OrbitCamera();
    Object.assign(camera, { yaw: 0, pitch: 0, distance: 2 });
    camera.pan(0.5, 0);
    expectClose(camera.target, [-2 * Math.tan(camera.verticalFieldOfView / 2), 0, 0]);
    camera.pan(-0.5, 0.5);
    expectClose(camera.target, [0, 2 * Math.tan(camera.verticalFieldOfView / 2), 0]);
  });

  it("limits zoom by the scene's size", () => {
    const camera = new OrbitCamera();
    camera.frame(box, 1);
    for (let step = 0; step < 200; step += 1) camera.zoom(0.5);
    expect(camera.distance).toBeGreaterThan(0);
    for (let step = 0; step < 200; step += 1) camera.zoom(2);
    expect(camera.distance).toBeLessThanOrEqual(100 * sphereOf(box).radius);
  });

  it("gives a symmetric field of view with negative left and down", () => {
    const { left, right, up, down } = new OrbitCamera().view(2).fieldOfView;
    expect(left).toBe(-right);
    expect(down).toBe(-up);
    expect(Math.tan(right) / Math.tan(up)).toBeCloseTo(2);
  });
});

describe("OrbitCamera with parallel rays", () => {
  const along = (view: ReturnType<OrbitCamera["view"]>, point: Vector3): Vector3 => {
    const [x, y, z, w] = view.orientation;
    const offset = point.map((value, axis) => value - (view.position[axis] as number)) as unknown as Vector3;
    return rotate([-x, -y, -z, w], offset);
  };

  it("shows the target's plane as large as with rays from one eye", () => {
    const camera = new OrbitCamera();
    camera.frame(box, 1.5);
    const { height } = camera;
    expect(height).toBeCloseTo(2 * camera.distance * Math.tan(camera.verticalFieldOfView / 2), 12);
    camera.orthographic = true;
    const view = camera.view(1.5);
    expect(view.orthographic).toBe(true);
    expect(view.fieldOfView.up - view.fieldOfView.down).toBeCloseTo(height, 12);
    expect(view.fieldOfView.right - view.fieldOfView.left).toBeCloseTo(1.5 * height, 12);
  });

  it.each([0.001, 1, 50])("cuts nothing of the scene off, however near (%d)", (distance) => {
    const camera = new OrbitCamera();
    camera.orthographic = true;
    camera.frame(box, 1);
    Object.assign(camera, { distance, target: [4, -3, 2] });
    const view = camera.view(1);
    for (const x of [box.min[0], box.max[0]]) {
      for (const z of [box.min[2], box.max[2]]) {
        const depth = -along(view, [x, box.max[1], z])[2];
        expect(depth).toBeGreaterThan(view.near);
        expect(depth).toBeLessThan(view.far);
      }
    }
  });

  it("frames a box so that it just fits", () => {
    const camera = new OrbitCamera();
    camera.orthographic = true;
    camera.frame(box, 2);
    const view = camera.view(2);
    let most = 0;
    for (const x of [box.min[0], box.max[0]]) {
      for (const y of [box.min[1], box.max[1]]) {
        for (const z of [box.min[2], box.max[2]]) {
          const [sideways, upwards] = along(view, [x, y, z]);
          most = Math.max(most, Math.abs(sideways) / view.fieldOfView.right, Math.abs(upwards) / view.fieldOfView.up);
        }
      }
    }
    expect(most).toBeLessThan(1);
    expect(most).toBeGreaterThan(0.8);
  });
});

describe("ray", () => {
  it.each([true, false])("goes through the place in the picture (parallel: %s)", (orthographic) => {
    const camera = new OrbitCamera();
    Object.assign(camera, { yaw: 0, pitch: 0, distance: 2, target: [0, 0, 0], orthographic });
    const half = camera.height / 2;
    const { start, end } = camera.ray(0.75, 0, 2);
    // Where the ray crosses the target's plane, z = 0.
    const share = start[2] / (start[2] - end[2]);
    expect(start[0] + share * (end[0] - start[0])).toBeCloseTo(0.5 * half * 2, 9);
    expect(start[1] + share * (end[1] - start[1])).toBeCloseTo(half, 9);
    expect(start[0] === end[0]).toBe(orthographic);
  });
});

describe("lookFrom", () => {
  it("stands there and looks there", () => {
    const camera = new OrbitCamera();
    camera.lookFrom([1, 5, -2], [0, 1, 2]);
    expectClose(camera.position, [1, 5, -2]);
    expectClose(camera.target, [0, 1, 2]);
    camera.lookFrom([1, 1, 1], [1, 1, 1]);
    expectClose(camera.position, [1, 5, -2]);
    camera.lookFrom([0, 9, 2], [0, 1, 2]);
    expect(camera.distance).toBeCloseTo(8);
    expect(camera.pitch).toBeLessThan(Math.PI / 2);
  });
});

describe("unionBounds", () => {
  it("spans all boxes and ignores empty ones", () => {
    const empty = { min: [Infinity, Infinity, Infinity], max: [-Infinity, -Infinity, -Infinity] } as const;
    expect(unionBounds([box, empty, { min: [0, 0, 0], max: [9, 1, 1] }])).toEqual({ min: [-1, 0, -2], max: [9, 2, 2] });
    expect(unionBounds([empty])).toBeUndefined();
    expect(unionBounds([])).toBeUndefined();
  });
});
