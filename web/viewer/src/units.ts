/** Lengths as people read them. The world is in metres. */

export const UNITS = ["m", "cm", "mm", "in", "ft"] as const;
export type Unit = (typeof UNITS)[number];

const METRES: Readonly<Record<Unit, number>> = { m: 1, cm: 0.01, mm: 0.001, in: 0.0254, ft: 0.3048 };

/** Figures that a measure shows: more than four nobody reads, and the hit is not surer than that. */
const FIGURES = 4;
const MOST_DIGITS = 6;

export function isUnit(value: unknown): value is Unit {
  return UNITS.includes(value as Unit);
}

/** The unit that suits a model of that size, metres. */
export function unitFor(size: number): Unit {
  return size < 2 ? "mm" : "m";
}

/** A length with its unit: 182.4 mm. */
export function lengthText(metres: number, unit: Unit): string {
  const exact = metres / METRES[unit];
  // What rounds to nothing with the most digits that are written is nothing.
  const value = Math.abs(exact) < 0.5 * 10 ** -MOST_DIGITS ? 0 : exact;
  const digits = value === 0 ? 0 : FIGURES - 1 - Math.floor(Math.log10(Math.abs(value)));
  const text = value.toFixed(Math.min(MOST_DIGITS, Math.max(0, digits)));
  return `${text === "-0" ? "0" : text} ${unit}`;
}
