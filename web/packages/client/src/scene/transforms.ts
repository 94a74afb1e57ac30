/** Transforms that are set for many entities at once. */

import type { Quaternion, Vector3 } from "../records.ts";
import { HAS_POSITION, HAS_ROTATION, HAS_SCALE } from "../scene_codec.ts";
import { type Check, invalid, rotation, vector } from "./checks.ts";
import type { EntityState } from "./entity.ts";

/**
 * New transforms for entities, relative to their parents: a row each for each entity, or all numbers one after the other
 * (3 each of positions and scales, 4 of rotations x, y, z, w).
 */
export interface Transforms {
  readonly positions?: readonly Vector3[] | Float64Array | Float32Array;
  readonly rotations?: readonly Quaternion[] | Float64Array | Float32Array;
  readonly scales?: readonly Vector3[] | Float64Array | Float32Array;
}

const MAX_COORDINATE = 1e15;
export const position: Check<Vector3> = vector<Vector3>(3, -MAX_COORDINATE, MAX_COORDINATE);
export { rotation };
export const scale: Check<Vector3> = position;

/** Checked rows, and which parts of a transform there are, as bits. */
export interface CheckedTransforms {
  readonly bits: number;
  apply(state: EntityState, row: number): void;
}

function rowsOf<V extends readonly number[]>(
  name: string,
  given: readonly V[] | Float64Array | Float32Array | undefined,
  count: number,
  width: number,
  check: Check<V>,
): V[] | undefined {
  if (given === undefined) return undefined;
  const flat = ArrayBuffer.isView(given);
  if (given.length !== (flat ? width * count : count)) throw invalid("There is not one transform for each entity.");
  if (!flat) return given.map((row) => check(name, row));
  return Array.from({ length: count }, (_, row) => check(name, given.subarray(row * width, (row + 1) * width)));
}

/** Throws InvalidParam unless there is one good row for each of `count` entities. */
export function checkTransforms(transforms: Transforms, count: number): CheckedTransforms {
  const positions = rowsOf("position", transforms.positions, count, 3, position);
  const rotations = rowsOf("rotation", transforms.rotations, count, 4, rotation);
  const scales = rowsOf("scale", transforms.scales, count, 3, scale);
  return {
    bits: (positions ? HAS_POSITION : 0) | (rotations ? HAS_ROTATION : 0) | (scales ? HAS_SCALE : 0),
    apply(state, row) {
      if (positions) state.position = positions[row] as Vector3;
      if (rotations) state.rotation = rotations[row] as Quaternion;
      if (scales) state.scale = scales[row] as Vector3;
    },
  };
}
