/** From the picture into the world and back. Points of the picture are parts of it: x from the left, y from the top. */

import type { Vector3, View } from "@farframe/client";
import { add, dot, matrixOf, scaled, subtract } from "./geometry.ts";

export interface PicturePoint {
  readonly x: number;
  readonly y: number;
}

export interface Ray {
  readonly start: Vector3;
  readonly end: Vector3;
}

/** Right, up and back of a view in the world. */
function axesOf(view: View): readonly [Vector3, Vector3, Vector3] {
  const m = matrixOf(view.orientation);
  return [
    [m[0][0], m[1][0], m[2][0]],
    [m[0][1], m[1][1], m[2][1]],
    [m[0][2], m[1][2], m[2][2]],
  ];
}

/** The edges of what a view sees: their tangents, or, of a view without perspective, metres. */
function edgesOf(view: View): { left: number; right: number; up: number; down: number } {
  const { left, right, up, down } = view.fieldOfView;
  if (view.orthographic) return view.fieldOfView;
  return { left: Math.tan(left), right: Math.tan(right), up: Math.tan(up), down: Math.tan(down) };
}

/** From the near plane to the far one, through a point of the picture. */
export function rayThrough(view: View, point: PicturePoint): Ray {
  const [right, up, back] = axesOf(view);
  const edges = edgesOf(view);
  const sideways = edges.left + (edges.right - edges.left) * point.x;
  const upwards = edges.up + (edges.down - edges.up) * point.y;
  const aside = add(scaled(right, sideways), scaled(up, upwards));
  if (view.orthographic) {
    const origin = add(view.position, aside);
    return { start: add(origin, scaled(back, -view.near)), end: add(origin, scaled(back, -view.far)) };
  }
  const along = add(aside, scaled(back, -1));
  return {
    start: add(view.position, scaled(along, view.near)),
    end: add(view.position, scaled(along, view.far)),
  };
}

/** Where in the picture a point of the world is seen, or undefined behind the camera. */
export function project(view: View, point: Vector3): PicturePoint | undefined {
  const [right, up, back] = axesOf(view);
  const edges = edgesOf(view);
  const offset = subtract(point, view.position);
  const depth = -dot(offset, back);
  if (!view.orthographic && !(depth > view.near * 0.5)) return undefined;
  const divisor = view.orthographic ? 1 : depth;
  return {
    x: (dot(offset, right) / divisor - edges.left) / (edges.right - edges.left),
    y: (dot(offset, up) / divisor - edges.up) / (edges.down - edges.up),
  };
}
