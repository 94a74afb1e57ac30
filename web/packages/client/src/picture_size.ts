/** How large a picture to ask for. */

import { evenSize } from "./connect_options.ts";

/** More device pixels than that per CSS pixel nobody tells apart in moving pictures. */
const MAX_PIXEL_RATIO = 2;
/** Pixels of a picture by kind of graphics adapter: what it draws and encodes fluently. */
const PIXEL_BUDGET: Readonly<Record<string, number>> = { cpu: 1280 * 720, gpu: 2560 * 1440 };

export interface PictureLimits {
  readonly maxWidth: number;
  readonly maxHeight: number;
  readonly adapterKind: string;
}

/** What holds before the server has said what it can do. */
export const CAUTIOUS_LIMITS: PictureLimits = { maxWidth: 1920, maxHeight: 1920, adapterKind: "cpu" };

/** Even width and height for an element of `width` x `height` CSS pixels, in its proportions, within all limits. */
export function pictureSize(
  width: number,
  height: number,
  pixelRatio: number,
  limits: PictureLimits,
): { width: number; height: number } {
  const ratio = Math.min(Math.max(pixelRatio, 1), MAX_PIXEL_RATIO);
  const wanted = { width: Math.max(width, 1) * ratio, height: Math.max(height, 1) * ratio };
  const budget = PIXEL_BUDGET[limits.adapterKind] ?? (PIXEL_BUDGET.cpu as number);
  const scale = Math.min(
    1,
    limits.maxWidth / wanted.width,
    limits.maxHeight / wanted.height,
    Math.sqrt(budget / (wanted.width * wanted.height)),
  );
  return { width: evenSize(wanted.width * scale), height: evenSize(wanted.height * scale) };
}
