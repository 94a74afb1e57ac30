/** The views of a drawing: where each looks from, and the way there. */

import type { OrbitState, Vector3 } from "@farframe/client";

export const STANDARD_VIEWS = ["front", "back", "left", "right", "top", "bottom", "isometric"] as const;
export type StandardView = (typeof STANDARD_VIEWS)[number];

const QUARTER = Math.PI / 2;
/** Where all three axes look equally long. */
const ISOMETRIC_PITCH = Math.atan(1 / Math.SQRT2);

/** Yaw and pitch of each; front looks from +Z, as a glTF model faces, and its right hand side is at +X. */
const ANGLES: Readonly<Record<StandardView, readonly [yaw: number, pitch: number]>> = {
  front: [0, 0],
  back: [2 * QUARTER, 0],
  left: [-QUARTER, 0],
  right: [QUARTER, 0],
  top: [0, QUARTER],
  bottom: [0, -QUARTER],
  isometric: [QUARTER / 2, ISOMETRIC_PITCH],
};

export const VIEW_TITLES: Readonly<Record<StandardView, string>> = {
  front: "Front",
  back: "Back",
  left: "Left",
  right: "Right",
  top: "Top",
  bottom: "Bottom",
  isometric: "Isometric",
};

/** Yaw and pitch of a standard view, radians. */
export function anglesOf(view: StandardView): { yaw: number; pitch: number } {
  const [yaw, pitch] = ANGLES[view];
  return { yaw, pitch };
}

/** The same direction, less than half a turn from `from`. */
export function nearestTurn(from: number, to: number): number {
  const whole = 2 * Math.PI;
  return from + ((((to - from + Math.PI) % whole) + whole) % whole) - Math.PI;
}

/** Slow at both ends. */
export function eased(part: number): number {
  const t = Math.min(1, Math.max(0, part));
  return t * t * (3 - 2 * t);
}

/** The camera on its way: `part` of it is done. Distance goes by ratio, so that approach looks even. */
export function between(from: OrbitState, to: OrbitState, part: number): OrbitState {
  if (part >= 1) return to;
  const mix = (a: number, b: number): number => a + (b - a) * part;
  return {
    target: from.target.map((value, axis) => mix(value, to.target[axis] as number)) as unknown as Vector3,
    distance: from.distance * (to.distance / from.distance) ** part,
    yaw: mix(from.yaw, nearestTurn(from.yaw, to.yaw)),
    pitch: mix(from.pitch, to.pitch),
  };
}
