/** Colours between the scene, which is linear, and the page, which shows them to eyes. */

import type { Vector3 } from "@farframe/client";

const toDisplay = (linear: number): number =>
  Math.round(255 * (linear <= 0.0031308 ? linear * 12.92 : 1.055 * linear ** (1 / 2.4) - 0.055));
const toLinear = (display: number): number =>
  display <= 0.04045 ? display / 12.92 : ((display + 0.055) / 1.055) ** 2.4;

/** A linear colour as `#rrggbb`, for the eye. */
export function colorText(color: readonly number[]): string {
  const channels = color.slice(0, 3).map((channel) => toDisplay(Math.min(1, Math.max(0, channel))));
  return `#${channels.map((channel) => channel.toString(16).padStart(2, "0")).join("")}`;
}

/** `#rrggbb` as linear red, green and blue. */
export function linearOf(text: string): Vector3 {
  const channel = (at: number): number => toLinear(Number.parseInt(text.slice(at, at + 2), 16) / 255);
  return [channel(1), channel(3), channel(5)];
}
