import { describe, expect, it } from "vitest";
import { modelAmong } from "../src/files.ts";

const files = (...paths: string[]) => paths.map((path) => ({ path, data: new Blob([]) }));

describe("modelAmong", () => {
  it("finds the model between its side files", () => {
    expect(modelAmong(files("duck/Duck0.bin", "duck/DuckCM.png", "duck/Duck.gltf")).path).toBe("duck/Duck.gltf");
  });

  it("prefers the one nearest to the top, then by name", () => {
    expect(modelAmong(files("a/parts/b.gltf", "a/z.GLB", "a/c.gltf")).path).toBe("a/c.gltf");
  });

  it("says what to drop when there is none", () => {
    expect(() => modelAmong(files("readme.txt", "glb"))).toThrow(
      expect.objectContaining({ result: "NotSupported", nextStep: expect.stringContaining("glTF") }),
    );
    expect(() => modelAmong([])).toThrow();
  });
});
