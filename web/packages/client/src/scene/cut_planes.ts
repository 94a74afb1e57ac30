/** Cut planes: each at an entity, cutting away what lies beyond it, in the direction of one of the entity's own axes. */

import { FarframeError } from "../errors.ts";
import { type Check, type Checks, flag, invalid, number, vector, word } from "./checks.ts";
import { Editable, giveMembers } from "./editable.ts";
import type { Entity } from "./entity.ts";
import type { Color4 } from "./materials.ts";

/** An axis of an entity's own space. */
export type Axis = "x" | "y" | "z" | "negativeX" | "negativeY" | "negativeZ";

export interface CutPlaneValues {
  enabled: boolean;
  /** Points to what is cut away. */
  normal: Axis;
  /** Seen on what is left near the plane; its fourth number is how much of it, 0 for none. */
  fadeColor: Color4;
  /** Metres. */
  fadeLength: number;
  /** Parts are cut if this and their own mask share a bit. */
  filterMask: number;
  /** Whether what is solid is closed where it is cut, instead of showing its inside. */
  capped: boolean;
  /** Mixed into the parts' own colours on caps; its fourth number is how much of it. */
  capColor: Color4;
  /** How much darker the lines across caps are, from 0 (none) to 1. */
  capHatching: number;
}

/** How a cut plane begins. */
export const CUT_PLANE_DEFAULTS: Readonly<CutPlaneValues> = {
  enabled: true,
  normal: "x",
  fadeColor: [1, 0, 0, 0],
  fadeLength: 0.1,
  filterMask: 255,
  capped: false,
  capColor: [0, 0, 0, 0],
  capHatching: 0.3,
};

const mask: Check<number> = (name, value) => {
  if (Number.isInteger(value)) return number(0, 255)(name, value);
  throw invalid(`${name} must be a whole number from 0 to 255.`);
};

const CHECKS: Checks<CutPlaneValues> = {
  enabled: flag,
  normal: word("x", "y", "z", "negativeX", "negativeY", "negativeZ"),
  fadeColor: vector<Color4>(4, 0, 1),
  fadeLength: number(0, 1e9),
  filterMask: mask,
  capped: flag,
  capColor: vector<Color4>(4, 0, 1),
  capHatching: number(0, 1),
};

/** What a cut plane tells its scene. */
export interface CutPlaneHome {
  cutPlaneChanged(plane: CutPlaneHandle, names: readonly (keyof CutPlaneValues)[]): void;
  cutPlaneRemoved(plane: CutPlaneHandle): void;
}

/** What a cut plane has beside its values. */
export class CutPlaneHandle extends Editable<CutPlaneValues> {
  readonly entity: Entity;
  readonly #home: CutPlaneHome;
  #alive = true;

  /** @internal */
  constructor(home: CutPlaneHome, entity: Entity) {
    super({ ...CUT_PLANE_DEFAULTS }, CHECKS);
    this.#home = home;
    this.entity = entity;
  }

  get valid(): boolean {
    return this.#alive && this.entity.valid;
  }

  /** Takes it off its entity. Twice is fine. */
  remove(): void {
    if (!this.valid) return;
    this.#alive = false;
    this.#home.cutPlaneRemoved(this);
  }

  protected override judge(): void {
    if (!this.valid) throw new FarframeError("InvalidId", "The cut plane was removed.");
  }

  protected override changed(names: readonly (keyof CutPlaneValues)[]): void {
    this.#home.cutPlaneChanged(this, names);
  }
}

giveMembers<CutPlaneValues>(CutPlaneHandle.prototype, Object.keys(CHECKS) as (keyof CutPlaneValues)[]);

export type CutPlane = CutPlaneHandle & CutPlaneValues;
