/** Section planes: across an axis of the world, or on a face. Pure. */

import type { Bounds, Quaternion, Vector3 } from "@farframe/client";
import { dot, lengthOf, middleOf, scaled, subtract } from "./geometry.ts";

/** As many as cut at a time. */
export const MAX_SECTIONS = 8;

export type SectionAxis = 0 | 1 | 2;
export const AXIS_NAMES = ["X", "Y", "Z"] as const;
const NORMALS: readonly Vector3[] = [
  [1, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
];
/** A plane stops just short of the box's faces, and lies as little below a face: on them it would flicker. */
const SHORT = 0.001;

/** A plane and which of its sides is cut away. Metres, in the world. */
export interface SectionState {
  /** The axis that it lies across; undefined for one on a face. */
  readonly axis: SectionAxis | undefined;
  /** Unit. What lies there is cut away, unless `flipped`. */
  readonly normal: Vector3;
  /** Where it is along the normal, from the world's origin. */
  readonly offset: number;
  /** Where along the normal its position counts from: the face that it was put on, or the origin. */
  readonly from: number;
  readonly flipped: boolean;
}

/** Across an axis, at a part of the scene's box, 0 to 1: how views were kept once. */
export interface SectionPart {
  readonly axis: SectionAxis;
  readonly flipped: boolean;
  readonly at: number;
}

/** How far a box reaches along a direction, but for a little at both ends. */
export function reach(bounds: Bounds, normal: Vector3): readonly [low: number, high: number] {
  const middle = dot(middleOf(bounds), normal);
  const size = subtract(bounds.max, bounds.min);
  const half = (0.5 - SHORT) * size.reduce((sum, edge, axis) => sum + edge * Math.abs(normal[axis] as number), 0);
  return [middle - half, middle + half];
}

/** Where a plane is along its way through the box, 0 to 1. */
export function partOf({ normal, offset }: SectionState, bounds: Bounds): number {
  const [low, high] = reach(bounds, normal);
  return high > low ? Math.min(1, Math.max(0, (offset - low) / (high - low))) : 0;
}

/** The plane at another part of its way through the box. */
export function movedTo(state: SectionState, part: number, bounds: Bounds): SectionState {
  const [low, high] = reach(bounds, state.normal);
  return { ...state, offset: low + (high - low) * part };
}

/** A plane across an axis, through the middle of the box or at another part of it. */
export function acrossAxis(axis: SectionAxis, bounds: Bounds, flipped = false, at = 0.5): SectionState {
  const normal = NORMALS[axis] as Vector3;
  return movedTo({ axis, normal, offset: 0, from: 0, flipped }, at, bounds);
}

/** A plane on a face: so little below it that the face itself is cut away, and one looks in. */
export function onFace(point: Vector3, normal: Vector3, bounds: Bounds): SectionState {
  const unit = scaled(normal, 1 / lengthOf(normal));
  const from = dot(point, unit);
  const below = SHORT * lengthOf(subtract(bounds.max, bounds.min));
  return { axis: undefined, normal: unit, offset: from - below, from, flipped: false };
}

/** What is kept, as a plane in a box. */
export function placed(kept: SectionState | SectionPart, bounds: Bounds): SectionState {
  return "at" in kept ? acrossAxis(kept.axis, bounds, kept.flipped, kept.at) : kept;
}

/** Where the plane's entity goes: in the middle of the box, as far as the plane lets it. */
export function positionOf({ normal, offset }: SectionState, bounds: Bounds): Vector3 {
  const middle = middleOf(bounds);
  const away = offset - dot(middle, normal);
  return [middle[0] + normal[0] * away, middle[1] + normal[1] * away, middle[2] + normal[2] * away];
}

/** The turn that takes X to where a plane cuts away. */
export function rotationOf({ normal, flipped }: SectionState): Quaternion {
  const [x, y, z] = flipped ? scaled(normal, -1) : normal;
  // Half way between X and there; straight back there is no such way, and any turn by half a circle will do.
  if (x < -1 + 1e-12) return [0, 1, 0, 0];
  const length = Math.hypot(1 + x, y, z);
  return [0, -z / length, y / length, (1 + x) / length];
}

/** Whether a section takes a point away. */
export function isCutAway({ normal, offset, flipped }: SectionState, point: Vector3): boolean {
  const at = dot(normal, point);
  return flipped ? at < offset : at > offset;
}

/** What people call the planes: X, Y, Z, Face 1, Face 2. */
export function titlesOf(states: readonly SectionState[]): string[] {
  let faces = 0;
  return states.map(({ axis }) => (axis === undefined ? `Face ${++faces}` : (AXIS_NAMES[axis] as string)));
}
