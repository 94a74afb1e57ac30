/**
 * Finds the corner or edge that a person points at, from what a few rays around the pointer hit. Pure.
 *
 * The rays tell the triangles that are seen there. A side of one of them is an edge of the surface if the surface does
 * not go on beyond it as good as flat; so the diagonals of flat faces and the facets of what is round are none.
 */

import type { RayHit, Vector3, View } from "@farframe/client";
import { add, dot, lengthOf, scaled, subtract } from "./geometry.ts";
import { type PicturePoint, project, type Ray, rayThrough } from "./projection.ts";

/** Rays around the pointer, beside the one through it. */
const RING = 8;
/** Where surfaces bend by less, degrees, people see one. */
const SMOOTH_DEGREES = 20;
const SMOOTH = Math.cos((SMOOTH_DEGREES * Math.PI) / 180);
const SLOPE = Math.sin((SMOOTH_DEGREES * Math.PI) / 180);
/** An edge has to be nearer than a corner, so that corners at its ends can be reached. */
const EDGE_SHARE = 0.7;

export type SnapKind = "corner" | "edge" | "face";

/** A point that was picked, metres, in the world; `normal`: of the face that was seen there. */
export interface Picked {
  readonly point: Vector3;
  readonly normal: Vector3 | undefined;
  readonly kind: SnapKind;
}

/** CSS pixels. */
export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

/** A ray's place in the picture and what it hit first. */
export interface Sample {
  readonly at: PicturePoint;
  readonly hit: RayHit | undefined;
}

/** Where to look: at the pointer first, then around it, `radius` CSS pixels away. */
export function placesAround(at: PicturePoint, radius: number, { width, height }: PictureSize): PicturePoint[] {
  const places = [at];
  for (let index = 0; index < RING; index++) {
    const angle = (2 * Math.PI * index) / RING;
    places.push({ x: at.x + (radius * Math.cos(angle)) / width, y: at.y + (radius * Math.sin(angle)) / height });
  }
  return places;
}

/**
 * The corner within `radius` CSS pixels of the first sample's place, or the edge, or the face there; undefined where
 * nothing is. `keeps` tells of points whether they are there, and not cut away.
 */
export function snap(
  view: View,
  samples: readonly Sample[],
  radius: number,
  size: PictureSize,
  keeps: (point: Vector3) => boolean = () => true,
): Picked | undefined {
  const [middle] = samples;
  if (!middle) return undefined;
  const ray = rayThrough(view, middle.at);
  const away = (point: Vector3): number => {
    const seen = project(view, point);
    if (!seen) return Infinity;
    return Math.hypot((seen.x - middle.at.x) * size.width, (seen.y - middle.at.y) * size.height);
  };
  let corner: { point: Vector3; pixels: number; hit: RayHit } | undefined;
  let edge: { point: Vector3; pixels: number; hit: RayHit } | undefined;
  for (const { hit } of samples) {
    if (!hit?.corners) continue;
    const { corners } = hit;
    for (const [index, from] of corners.entries()) {
      const to = corners[(index + 1) % 3] as Vector3;
      const opposite = corners[(index + 2) % 3] as Vector3;
      const nearest = nearestOnSegment(from, to, ray);
      const pixels = away(nearest);
      if (pixels > radius || !isEdge(from, to, opposite, nearest, hit, view, samples)) continue;
      if (keeps(nearest) && pixels <= radius * EDGE_SHARE && pixels < (edge?.pixels ?? Infinity)) {
        edge = { point: nearest, pixels, hit };
      }
      for (const point of [from, to]) {
        const near = away(point);
        if (near <= radius && near < (corner?.pixels ?? Infinity) && keeps(point))
          corner = { point, pixels: near, hit };
      }
    }
  }
  const found = corner ?? edge;
  if (found) return { point: found.point, normal: normalOf(middle.hit ?? found.hit), kind: corner ? "corner" : "edge" };
  return middle.hit && { point: middle.hit.position, normal: normalOf(middle.hit), kind: "face" };
}

function normalOf(hit: RayHit): Vector3 | undefined {
  return hit.kind === "point" ? undefined : hit.normal;
}

/** The point of a segment that is nearest to a ray. */
export function nearestOnSegment(from: Vector3, to: Vector3, { start, end }: Ray): Vector3 {
  const along = subtract(to, from);
  const ray = subtract(end, start);
  const between = subtract(from, start);
  const [a, b, c] = [dot(along, along), dot(along, ray), dot(ray, ray)];
  const [d, e] = [dot(along, between), dot(ray, between)];
  const divisor = a * c - b * b;
  // Of a segment that one looks along every point is as near.
  const part = divisor > 1e-12 * a * c ? Math.min(1, Math.max(0, (b * e - c * d) / divisor)) : 0;
  return add(from, scaled(along, part));
}

/** Whether the surface ends or bends at a side of a triangle, as far as samples on its other side tell. */
function isEdge(
  from: Vector3,
  to: Vector3,
  opposite: Vector3,
  nearest: Vector3,
  hit: RayHit,
  view: View,
  samples: readonly Sample[],
): boolean {
  const [a, b, inside, place] = [from, to, opposite, nearest].map((point) => project(view, point));
  if (!a || !b || !inside || !place) return false;
  const side = (point: PicturePoint): number => (b.x - a.x) * (point.y - a.y) - (b.y - a.y) * (point.x - a.x);
  const within = Math.sign(side(inside));
  let beyond: Sample | undefined;
  let least = Infinity;
  for (const sample of samples) {
    if (Math.sign(side(sample.at)) !== -within) continue;
    const apart = Math.hypot(sample.at.x - place.x, sample.at.y - place.y);
    if (apart < least) [beyond, least] = [sample, apart];
  }
  return beyond !== undefined && !goesOn(hit, nearest, beyond.hit);
}

/** Whether what was hit beyond a side is the same surface, as good as flat. */
function goesOn(hit: RayHit, at: Vector3, beyond: RayHit | undefined): boolean {
  if (!beyond || beyond.entity !== hit.entity) return false;
  if (Math.abs(dot(hit.normal, beyond.normal)) < SMOOTH) return false;
  const step = subtract(beyond.position, at);
  return Math.abs(dot(hit.normal, step)) <= SLOPE * lengthOf(step);
}

/** The angle between two faces, degrees, 0 to 90: as that between their planes. */
export function angleBetween(a: Vector3, b: Vector3): number {
  const cosine = Math.abs(dot(a, b)) / (lengthOf(a) * lengthOf(b));
  return (Math.acos(Math.min(1, cosine)) * 180) / Math.PI;
}
