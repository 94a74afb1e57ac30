/** States that an entity forces upon itself and all below it, and their numbers on the wire. */

import type { EntityRow } from "../scene_codec.ts";
import { invalid } from "./checks.ts";

/** Linear RGB, and how much of it is seen, each 0 to 1. */
export type Tint = readonly [red: number, green: number, blue: number, weight: number];

/**
 * What an entity forces upon itself and all below it: `true` or `false`; absent: it inherits. The nearest force on the
 * way up to the root wins, for each state on its own.
 */
export interface Overrides {
  /** Not drawn, but still hit by rays. */
  readonly hidden?: boolean | undefined;
  /** Outlined. */
  readonly selected?: boolean | undefined;
  readonly seeThrough?: boolean | undefined;
  /** `false`: no tint. */
  readonly tint?: Tint | false | undefined;
  /** Not hit by rays. */
  readonly disableCollision?: boolean | undefined;
  /** 0 to 255; `false`: all planes. */
  readonly cutPlaneMask?: number | false | undefined;
  /** Only the nearest surface, faintly. */
  readonly shell?: boolean | undefined;
  readonly transparencyWritesDepth?: boolean | undefined;
}

const STATES: Readonly<Record<keyof Overrides, number>> = {
  hidden: 1,
  selected: 2,
  seeThrough: 4,
  tint: 8,
  disableCollision: 16,
  cutPlaneMask: 64,
  shell: 128,
  transparencyWritesDepth: 256,
};
const NAMES = Object.keys(STATES) as (keyof Overrides)[];
const ALL = Object.values(STATES).reduce((all, bit) => all | bit, 0);

/** Throws InvalidParam for values out of range. */
export function checkOverrides(overrides: Overrides): void {
  for (const name of NAMES) {
    // Pages without types may say anything, and what is neither false nor absent would force a state on.
    const value: unknown = overrides[name];
    if (value === undefined || value === false) continue;
    if (name === "tint") {
      if (!Array.isArray(value) || value.length !== 4 || !value.every((part) => part >= 0 && part <= 1)) {
        throw invalid("A tint has four numbers between 0 and 1, or is false.");
      }
    } else if (name === "cutPlaneMask") {
      if (!Number.isInteger(value) || !((value as number) >= 0 && (value as number) <= 255)) {
        throw invalid("A cut-plane mask is an integer from 0 to 255, or false.");
      }
    } else if (value !== true) {
      throw invalid(`${name} is true or false, or undefined to inherit.`);
    }
  }
}

/** Equal for entities that force the same. */
export function overridesKey(overrides: Overrides): string {
  return JSON.stringify(NAMES.map((name) => overrides[name] ?? null));
}

/** The members of `setStates` that make these of whatever there was. */
export function overridesToWire(overrides: Overrides): object {
  let on = 0;
  let off = 0;
  for (const name of NAMES) {
    const value = overrides[name];
    if (value === false) off |= STATES[name];
    else if (value !== undefined) on |= STATES[name];
  }
  return {
    on,
    off,
    inherit: ALL & ~(on | off),
    ...(overrides.tint && { tint: overrides.tint }),
    ...(typeof overrides.cutPlaneMask === "number" && { mask: overrides.cutPlaneMask }),
  };
}

/** What an entity forces, as the server tells it. */
export function overridesFromWire(row: EntityRow): Overrides {
  const found: Record<string, unknown> = {};
  for (const name of NAMES) {
    if (row.off & STATES[name]) found[name] = false;
    else if (row.on & STATES[name])
      found[name] = name === "tint" ? row.tint : name === "cutPlaneMask" ? row.mask : true;
  }
  return found as Overrides;
}
