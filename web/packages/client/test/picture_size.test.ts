import { describe, expect, it } from "vitest";
import { CAUTIOUS_LIMITS, pictureSize } from "../src/picture_size.ts";

const GPU = { maxWidth: 3840, maxHeight: 2160, adapterKind: "gpu" };
const CPU = { ...GPU, adapterKind: "cpu" };

describe("pictureSize", () => {
  it.each([
    [1440, 852, 1, GPU],
    [1440, 852, 1, CPU],
    [390, 700, 3, CPU],
    [2560, 1300, 2, GPU],
    [5000, 300, 2, GPU],
    [331, 777, 1.25, CAUTIOUS_LIMITS],
    [0, 0, 1, CPU],
  ])("%d x %d at ratio %d: even, within limits, in proportion", (width, height, ratio, limits) => {
    const size = pictureSize(width, height, ratio, limits);
    expect(size.width % 2).toBe(0);
    expect(size.height % 2).toBe(0);
    expect(size.width).toBeLessThanOrEqual(limits.maxWidth);
    expect(size.height).toBeLessThanOrEqual(limits.maxHeight);
    const budget = limits.adapterKind === "gpu" ? 2560 * 1440 : 1280 * 720;
    expect(size.width * size.height).toBeLessThanOrEqual(budget * 1.01);
    if (width > 0) expect(size.width / size.height / (width / height)).toBeCloseTo(1, 1);
  });

  it("takes the device's pixels where there is room, and no more than two for one", () => {
    expect(pictureSize(400, 300, 2, GPU)).toEqual({ width: 800, height: 600 });
    expect(pictureSize(400, 300, 3, GPU)).toEqual({ width: 800, height: 600 });
    expect(pictureSize(1280, 720, 1, CPU)).toEqual({ width: 1280, height: 720 });
  });

  it("is careful with adapters that it does not know", () => {
    expect(pictureSize(1280, 720, 2, { ...GPU, adapterKind: "quantum" })).toEqual({ width: 1280, height: 720 });
  });
});
