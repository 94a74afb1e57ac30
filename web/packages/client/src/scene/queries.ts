/** Questions about where things are. The server answers them from the full geometry, whatever level is drawn. */

import type { Quaternion, Vector3 } from "../records.ts";
import type { Entity } from "./entity.ts";

/** Where a ray met something. World space, metres; `subPart`: which of the entity's parts. */
export interface RayHit {
  readonly entity: Entity;
  readonly subPart: number;
  readonly position: Vector3;
  /** Unit, of the surface. */
  readonly normal: Vector3;
  readonly distance: number;
  readonly kind: "front" | "back" | "point";
  /** Of the triangle, counter-clockwise seen from its front, where they were asked for. */
  readonly corners?: readonly [Vector3, Vector3, Vector3];
}

export interface RayHits {
  readonly hits: readonly RayHit[];
  /** Whether all geometry could be looked at in time. */
  readonly complete: boolean;
}

export interface RayOptions {
  /** All by distance (default), the nearest, or any one. */
  policy?: "closestHits" | "closestHit" | "anyHit";
  /** At most; 0, the default, stands for 1,024. */
  maxHits?: number;
  /** Whether the nearest 256 hits tell their triangles; false by default. */
  corners?: boolean;
  signal?: AbortSignal;
}

/** What shall be overlapped: world space, metres. */
export type Shape =
  | { readonly kind: "box"; readonly min: Vector3; readonly max: Vector3 }
  | { readonly kind: "sphere"; readonly center: Vector3; readonly radius: number }
  | {
      readonly kind: "orientedBox";
      readonly center: Vector3;
      readonly halfSize: Vector3;
      readonly rotation?: Quaternion;
    };

export interface OverlapOptions {
  /** The parts' own boxes, turned as they are (default), or their triangles and points. */
  against?: "bounds" | "geometry";
  /** At most; 0, the default, stands for 8,192. */
  maxResults?: number;
  signal?: AbortSignal;
}

/** A part of an entity. */
export interface Overlap {
  readonly entity: Entity;
  readonly subPart: number;
}

export interface Overlaps {
  readonly parts: readonly Overlap[];
  /** Whether others overlap, too. */
  readonly more: boolean;
  /** Whether all geometry could be looked at in time. */
  readonly complete: boolean;
}
