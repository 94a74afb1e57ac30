/** Vectors, turns and places of entities. Right-handed, +Y up, metres, radians; matrices multiply column vectors. */

import type { Bounds, Entity, Quaternion, Vector3 } from "@farframe/client";

/** Rows of a 3 x 3 matrix. */
export type Matrix3 = readonly [Vector3, Vector3, Vector3];

/** Where an entity is in the world: `linear` turns and scales, then `origin` is added. */
export interface Place {
  readonly linear: Matrix3;
  readonly origin: Vector3;
}

export const add = (a: Vector3, b: Vector3): Vector3 => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const subtract = (a: Vector3, b: Vector3): Vector3 => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scaled = (a: Vector3, factor: number): Vector3 => [a[0] * factor, a[1] * factor, a[2] * factor];
export const dot = (a: Vector3, b: Vector3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const lengthOf = (a: Vector3): number => Math.hypot(...a);
export const middleOf = ({ min, max }: Bounds): Vector3 => scaled(add(min, max), 0.5);
export const transformed = (matrix: Matrix3, a: Vector3): Vector3 => [
  dot(matrix[0], a),
  dot(matrix[1], a),
  dot(matrix[2], a),
];

export const IDENTITY: Matrix3 = [
  [1, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
];

/** The matrix of a turn by a unit quaternion. */
export function matrixOf([x, y, z, w]: Quaternion): Matrix3 {
  return [
    [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
    [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
    [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
  ];
}

const column = (matrix: Matrix3, at: 0 | 1 | 2): Vector3 => [matrix[0][at], matrix[1][at], matrix[2][at]];
const transpose = (m: Matrix3): Matrix3 => [column(m, 0), column(m, 1), column(m, 2)];

export function multiply(a: Matrix3, b: Matrix3): Matrix3 {
  const columns = transpose(b);
  const row = (of: Vector3): Vector3 => [dot(of, columns[0]), dot(of, columns[1]), dot(of, columns[2])];
  return [row(a[0]), row(a[1]), row(a[2])];
}

export function cross(a: Vector3, b: Vector3): Vector3 {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

/** The inverse, or undefined where the matrix flattens space. */
export function inverse(matrix: Matrix3): Matrix3 | undefined {
  const [a, b, c] = [column(matrix, 0), column(matrix, 1), column(matrix, 2)];
  const volume = dot(a, cross(b, c));
  const size = lengthOf(a) * lengthOf(b) * lengthOf(c);
  if (!(Math.abs(volume) > size * 1e-12)) return undefined;
  return [scaled(cross(b, c), 1 / volume), scaled(cross(c, a), 1 / volume), scaled(cross(a, b), 1 / volume)];
}

/** Where an entity is; without one, the world's own place. */
export function placeOf(entity: Pick<Entity, "parent" | "position" | "rotation" | "scale"> | undefined): Place {
  if (!entity) return { linear: IDENTITY, origin: [0, 0, 0] };
  const above = placeOf(entity.parent);
  const turn = matrixOf(entity.rotation);
  const [sx, sy, sz] = entity.scale;
  const size = (row: Vector3): Vector3 => [row[0] * sx, row[1] * sy, row[2] * sz];
  return {
    linear: multiply(above.linear, [size(turn[0]), size(turn[1]), size(turn[2])]),
    origin: add(above.origin, transformed(above.linear, entity.position)),
  };
}

/** Turns about X, then Y, then Z of the world, in degrees: what people type. */
export function degreesOf(rotation: Quaternion): Vector3 {
  const m = matrixOf(rotation);
  const degrees = 180 / Math.PI;
  const y = Math.asin(Math.min(1, Math.max(-1, -m[2][0])));
  if (Math.abs(m[2][0]) > 0.9999999) return [0, y * degrees, Math.atan2(-m[0][1], m[1][1]) * degrees];
  return [Math.atan2(m[2][1], m[2][2]) * degrees, y * degrees, Math.atan2(m[1][0], m[0][0]) * degrees];
}

/** The turn about X, then Y, then Z of the world, by degrees. */
export function quaternionOf(degrees: Vector3): Quaternion {
  const half = scaled(degrees, Math.PI / 360);
  const [sx, sy, sz] = [Math.sin(half[0]), Math.sin(half[1]), Math.sin(half[2])];
  const [cx, cy, cz] = [Math.cos(half[0]), Math.cos(half[1]), Math.cos(half[2])];
  return [
    sx * cy * cz - cx * sy * sz,
    cx * sy * cz + sx * cy * sz,
    cx * cy * sz - sx * sy * cz,
    cx * cy * cz + sx * sy * sz,
  ];
}
