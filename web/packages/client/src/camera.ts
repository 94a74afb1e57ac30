/**
 * A camera that orbits a target: pure maths, no DOM. Right-handed, +Y up, metres, radians; the camera looks along its
 * own -Z. `yaw` turns about +Y, 0 looks from +Z; `pitch` lifts the camera above the target's horizon.
 */

import type { Bounds } from "./messages.ts";
import type { FieldOfView, Quaternion, Vector3, View } from "./records.ts";

/** Just short of the poles, where "up" would turn over. */
const MAX_PITCH = (89.5 * Math.PI) / 180;
const EMPTY_SCENE_RADIUS = 1;
/** Room around a framed box, as a factor of its size on the screen. */
const FRAME_MARGIN = 1.12;
/** Even a box without width is looked at from outside its sphere. */
const MIN_FRAME_DISTANCE = 1.05;
/** The near plane stays above this part of the far plane: depth has 24 or 32 bits, not more. */
const MIN_NEAR_TO_FAR = 1 / 20_000;
const MIN_NEAR = 1e-4;

/** A sphere around the scene. */
export interface Sphere {
  readonly center: Vector3;
  readonly radius: number;
}

export interface OrbitState {
  readonly target: Vector3;
  readonly distance: number;
  readonly yaw: number;
  readonly pitch: number;
}

/** The field of view of a plain camera: `vertical` radians in all, `aspect` is width / height. */
export function symmetricFieldOfView(vertical: number, aspect: number): FieldOfView {
  const up = vertical / 2;
  const right = Math.atan(Math.tan(up) * aspect);
  return { left: -right, right, up, down: -up };
}

/** The box around all boxes; undefined for none, or when all are empty. */
export function unionBounds(boxes: readonly Bounds[]): Bounds | undefined {
  const min: [number, number, number] = [Infinity, Infinity, Infinity];
  const max: [number, number, number] = [-Infinity, -Infinity, -Infinity];
  for (const box of boxes) {
    for (let axis = 0; axis < 3; axis += 1) {
      min[axis] = Math.min(min[axis] as number, box.min[axis] as number);
      max[axis] = Math.max(max[axis] as number, box.max[axis] as number);
    }
  }
  return min.every((value, axis) => Number.isFinite(value) && value <= (max[axis] as number))
    ? { min, max }
    : undefined;
}

/** The sphere around a box. */
export function sphereOf(bounds: Bounds): Sphere {
  const [ax, ay, az] = bounds.min;
  const [bx, by, bz] = bounds.max;
  const radius = Math.hypot(bx - ax, by - ay, bz - az) / 2;
  return { center: [(ax + bx) / 2, (ay + by) / 2, (az + bz) / 2], radius: Math.max(radius, 1e-6) };
}

function cornersOf({ min, max }: Bounds): Vector3[] {
  return [min[0], max[0]].flatMap((x) =>
    [min[1], max[1]].flatMap((y) => [min[2], max[2]].map((z): Vector3 => [x, y, z])),
  );
}

export class OrbitCamera {
  target: Vector3 = [0, 0, 0];
  distance = 3;
  yaw = Math.PI / 5;
  pitch = Math.PI / 9;
  /** Whether all rays are parallel. What lies at the target keeps its size when this changes. */
  orthographic = false;
  /** Vertical field of view, radians. */
  readonly verticalFieldOfView: number;
  #scene: Sphere = { center: [0, 0, 0], radius: EMPTY_SCENE_RADIUS };

  constructor(verticalFieldOfView = (45 * Math.PI) / 180) {
    this.verticalFieldOfView = verticalFieldOfView;
  }

  /** The sphere around what there is to see; sets near, far and the limits of zoom. */
  get scene(): Sphere {
    return this.#scene;
  }

  /** Tells the camera what there is to see, without moving it. */
  setBounds(bounds: Bounds | undefined): void {
    this.#scene = bounds ? sphereOf(bounds) : { center: [0, 0, 0], radius: EMPTY_SCENE_RADIUS };
  }

  /** Moves the camera so that the whole box is in view, from where it looks now. */
  frame(bounds: Bounds | undefined, aspect: number): void {
    this.setBounds(bounds);
    const { center, radius } = this.#scene;
    this.target = center;
    const { up, right } = symmetricFieldOfView(this.verticalFieldOfView, aspect);
    if (!bounds) {
      this.distance = radius / Math.sin(Math.min(up, right));
      return;
    }
    // A corner lies on the edge of the view where its offset is the tangent times its depth: the camera has to be as
    // far away as the corner that asks for most.
    const axes = this.axes();
    const dot = (a: Vector3, b: Vector3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let distance = this.orthographic ? radius * 1e-3 : radius * MIN_FRAME_DISTANCE;
    for (const corner of cornersOf(bounds)) {
      const offset: Vector3 = [corner[0] - center[0], corner[1] - center[1], corner[2] - center[2]];
      // Seen by parallel rays it matters not how deep a corner lies.
      const depth = this.orthographic ? 0 : dot(offset, axes.back);
      const sideways = Math.abs(dot(offset, axes.right)) / Math.tan(right);
      const upwards = Math.abs(dot(offset, axes.up)) / Math.tan(up);
      distance = Math.max(distance, depth + Math.max(sideways, upwards) * FRAME_MARGIN);
    }
    this.distance = distance;
  }

  /** Turns about the target, radians. */
  orbit(yaw: number, pitch: number): void {
    this.yaw = (this.yaw + yaw) % (2 * Math.PI);
    this.pitch = Math.min(MAX_PITCH, Math.max(-MAX_PITCH, this.pitch + pitch));
  }

  /** Moves target and camera so that the scene follows a drag of that part of the view's height, +x right, +y down. */
  pan(x: number, y: number): void {
    const height = 2 * this.distance * Math.tan(this.verticalFieldOfView / 2);
    const { right, up } = this.axes();
    this.target = this.target.map(
      (value, axis) => value - (right[axis] as number) * x * height + (up[axis] as number) * y * height,
    ) as unknown as Vector3;
  }

  /** Multiplies the distance; below 1 comes closer. */
  zoom(factor: number): void {
    const { radius } = this.#scene;
    this.distance = Math.min(100 * radius, Math.max(radius / 1000, this.distance * factor));
  }

  /** Unit vectors of the camera in the world: `right`, `up`, and `back`, from the target to the camera. */
  axes(): { right: Vector3; up: Vector3; back: Vector3 } {
    const [sy, cy, sp, cp] = [Math.sin(this.yaw), Math.cos(this.yaw), Math.sin(this.pitch), Math.cos(this.pitch)];
    return { right: [cy, 0, -sy], up: [-sy * sp, cp, -cy * sp], back: [sy * cp, sp, cy * cp] };
  }

  get position(): Vector3 {
    const { back } = this.axes();
    return this.target.map((value, axis) => value + (back[axis] as number) * this.distance) as unknown as Vector3;
  }

  /** The camera's rotation: about +Y by `yaw`, then about its own +X by `-pitch`. */
  get orientation(): Quaternion {
    const [sy, cy] = [Math.sin(this.yaw / 2), Math.cos(this.yaw / 2)];
    const [sp, cp] = [Math.sin(-this.pitch / 2), Math.cos(-this.pitch / 2)];
    return [cy * sp, sy * cp, -sy * sp, cy * cp];
  }

  /** Puts the camera at `position`, looking at `target`; straight up and down are left by half a degree. */
  lookFrom(position: Vector3, target: Vector3): void {
    const [x, y, z] = [position[0] - target[0], position[1] - target[1], position[2] - target[2]];
    const distance = Math.hypot(x, y, z);
    if (!(distance > 0 && Number.isFinite(distance))) return;
    this.target = target;
    this.distance = distance;
    if (Math.hypot(x, z) > distance * 1e-9) this.yaw = Math.atan2(x, z);
    this.pitch = Math.min(MAX_PITCH, Math.max(-MAX_PITCH, Math.asin(Math.min(1, Math.max(-1, y / distance)))));
  }

  /** Where the rays begin: behind all of the scene where they are parallel, so that nothing is cut off. */
  get eye(): Vector3 {
    if (!this.orthographic) return this.position;
    const { center, radius } = this.#scene;
    const { back } = this.axes();
    const ahead = center.reduce(
      (sum, value, axis) => sum + (value - (this.target[axis] as number)) * (back[axis] as number),
      0,
    );
    const distance = Math.max(this.distance, ahead + radius * 1.2);
    return this.target.map((value, axis) => value + (back[axis] as number) * distance) as unknown as Vector3;
  }

  /** How much of the plane through the target is seen from bottom to top, metres. */
  get height(): number {
    return 2 * this.distance * Math.tan(this.verticalFieldOfView / 2);
  }

  /** The ray through a place in the picture (0 to 1 from its left and top edges), from the eye to beyond the scene. */
  ray(x: number, y: number, aspect: number): { start: Vector3; end: Vector3 } {
    const { right, up, back } = this.axes();
    const { eye, orthographic } = this;
    const { far } = this.clip();
    // Offsets of the place in the picture, at the eye and at the far plane.
    const half = this.height / 2;
    const wide = Math.tan(this.verticalFieldOfView / 2);
    const [nearHalf, farHalf] = orthographic ? [half, half] : [0, far * wide];
    const at = (size: number, depth: number): Vector3 =>
      eye.map(
        (value, axis) =>
          value +
          (right[axis] as number) * (2 * x - 1) * size * aspect +
          (up[axis] as number) * (1 - 2 * y) * size -
          (back[axis] as number) * depth,
      ) as unknown as Vector3;
    return { start: at(nearHalf, 0), end: at(farHalf, far) };
  }

  /** Clip distances that hold the scene's sphere. */
  clip(): { near: number; far: number } {
    const { center, radius } = this.#scene;
    const { back } = this.axes();
    const position = this.eye;
    const depth = position.reduce(
      (sum, value, axis) => sum + (value - (center[axis] as number)) * (back[axis] as number),
      0,
    );
    const far = Math.max(depth + radius * 1.1, radius * 0.2, MIN_NEAR * 10);
    const near = Math.max(depth - radius * 1.1, far * MIN_NEAR_TO_FAR, MIN_NEAR);
    return { near, far };
  }

  /** The camera as a view for the pose record. */
  view(aspect: number): View {
    const { orientation, orthographic } = this;
    if (!orthographic) {
      const fieldOfView = symmetricFieldOfView(this.verticalFieldOfView, aspect);
      return { position: this.position, orientation, fieldOfView, ...this.clip() };
    }
    const up = this.height / 2;
    const fieldOfView = { left: -up * aspect, right: up * aspect, up, down: -up };
    return { position: this.eye, orientation, fieldOfView, ...this.clip(), orthographic };
  }

  /** Where the camera is, to be kept. */
  get state(): OrbitState {
    return { target: this.target, distance: this.distance, yaw: this.yaw, pitch: this.pitch };
  }

  set state(state: OrbitState) {
    Object.assign(this, state);
  }
}
