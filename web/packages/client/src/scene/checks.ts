/** What values may be: checked before anything is changed, so that what is wrong is thrown where it is written. */

import { FarframeError } from "../errors.ts";

/** Gives the value as it is kept. Throws InvalidParam; `name` is what the message calls it. */
export type Check<T> = (name: string, value: unknown) => T;
/** One for each member of an object. */
export type Checks<V> = { readonly [K in keyof V]-?: Check<V[K]> };

const MAX_NUMBER = 1e6;

export function invalid(message: string): FarframeError {
  return new FarframeError("InvalidParam", message);
}

/** A finite number in a range. */
export function number(least = 0, most = MAX_NUMBER): Check<number> {
  return (name, value) => {
    if (typeof value === "number" && value >= least && value <= most) return value;
    throw invalid(`${name} must be a number from ${least} to ${most}.`);
  };
}

/** So many finite numbers in a range. */
export function vector<V extends readonly number[]>(length: number, least = 0, most = MAX_NUMBER): Check<V> {
  return (name, value) => {
    if (
      (Array.isArray(value) || ArrayBuffer.isView(value)) &&
      (value as ArrayLike<number>).length === length &&
      Array.from(value as ArrayLike<unknown>).every((item) => typeof item === "number" && item >= least && item <= most)
    ) {
      return Array.from(value as ArrayLike<number>) as unknown as V;
    }
    throw invalid(`${name} must be ${length} numbers from ${least} to ${most}.`);
  };
}

export const flag: Check<boolean> = (name, value) => {
  if (typeof value === "boolean") return value;
  throw invalid(`${name} must be true or false.`);
};

/** One of some words. */
export function word<W extends string>(...words: readonly W[]): Check<W> {
  return (name, value) => {
    if (words.includes(value as W)) return value as W;
    throw invalid(`${name} must be one of ${words.join(", ")}.`);
  };
}

/** A text of so many characters at most. Throws StringTooLong for a longer one. */
export function text(most: number): Check<string> {
  return (name, value) => {
    if (typeof value !== "string") throw invalid(`${name} must be a text.`);
    if (value.length > most && [...value].length > most) {
      throw new FarframeError("StringTooLong", `The ${name} is too long.`, {
        nextStep: `Use at most ${most} characters.`,
      });
    }
    return value;
  };
}

/** A quaternion x, y, z, w of any length but zero; unit when it is kept. */
export const rotation: Check<readonly [number, number, number, number]> = (name, value) => {
  const [x, y, z, w] = vector<readonly [number, number, number, number]>(4, -1e15, 1e15)(name, value);
  const length = Math.hypot(x, y, z, w);
  if (!(length > 1e-30)) throw invalid(`A ${name} is a quaternion of any length but zero.`);
  return [x / length, y / length, z / length, w / length];
};
