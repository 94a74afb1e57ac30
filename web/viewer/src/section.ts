/** A section: one plane across the scene, along an axis of the world. Pure. */

import type { Axis, Bounds, Vector3 } from "@farframe/client";
import type { SectionState } from "./named_views.ts";

const NORMALS: readonly (readonly [kept: Axis, flipped: Axis])[] = [
  ["x", "negativeX"],
  ["y", "negativeY"],
  ["z", "negativeZ"],
];
/** The plane stops just short of the box's faces: on them it would flicker. */
const SHORT = 0.001;

/** Where the plane is, and which way lies what is cut away. */
export interface SectionPlane {
  readonly position: Vector3;
  readonly normal: Axis;
  /** Metres along the axis. */
  readonly offset: number;
}

/** The plane of a section through a box. */
export function planeOf({ axis, flipped, at }: SectionState, bounds: Bounds): SectionPlane {
  const [from, to] = [bounds.min[axis], bounds.max[axis]];
  const part = SHORT + (1 - 2 * SHORT) * at;
  const offset = from + (to - from) * part;
  const position = [0, 1, 2].map((each) =>
    each === axis ? offset : ((bounds.min[each] as number) + (bounds.max[each] as number)) / 2,
  ) as unknown as Vector3;
  const normals = NORMALS[axis] as readonly [Axis, Axis];
  return { position, normal: normals[flipped ? 1 : 0], offset };
}

/** Whether a section takes a point away. */
export function isCutAway({ axis, flipped }: SectionState, plane: SectionPlane, point: Vector3): boolean {
  return flipped ? point[axis] < plane.offset : point[axis] > plane.offset;
}
