import { describe, expect, it } from "vitest";
import { decodeFrame, decodePose, encodePose, type FrameRecord, type PoseRecord } from "../src/index.ts";
import fixtures from "./fixtures/records.json" with { type: "json" };

function bytesOf(hex: string): ArrayBuffer {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)).buffer;
}

function hexOf(buffer: ArrayBuffer): string {
  return [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

describe("pose record", () => {
  it.each(fixtures.poses)("$name: encodes to the server's bytes", ({ bytes, record }) => {
    expect(hexOf(encodePose(record as unknown as PoseRecord))).toBe(bytes);
  });

  it.each(fixtures.poses)("$name: decodes from the server's bytes", ({ bytes, record }) => {
    expect(decodePose(bytesOf(bytes))).toEqual(record);
  });

  it("refuses none and three views", () => {
    const { record } = fixtures.poses[0] as unknown as { record: PoseRecord };
    const [view] = record.views;
    expect(() => encodePose({ ...record, views: [] })).toThrow(expect.objectContaining({ result: "InvalidParam" }));
    expect(() => encodePose({ ...record, views: [view, view, view] as PoseRecord["views"] })).toThrow();
  });
});

describe("frame record", () => {
  it.each(fixtures.frames)("$name: decodes from the server's bytes", ({ bytes, record }) => {
    expect(decodeFrame(bytesOf(bytes))).toEqual(record as unknown as FrameRecord);
  });

  const good = fixtures.frames[0]?.bytes ?? "";

  it.each([
    ["nothing", ""],
    ["a pose", fixtures.poses[0]?.bytes ?? ""],
    ["a cut record", good.slice(0, -2)],
    ["a record with bytes to spare", `${good}00`],
    ["more views than its length holds", `${good.slice(0, 4)}02${good.slice(6)}`],
    ["no view", `${good.slice(0, 4)}00${good.slice(6)}`],
  ])("refuses %s", (_name, hex) => {
    expect(() => decodeFrame(bytesOf(hex))).toThrow(expect.objectContaining({ result: "ProtocolError" }));
  });

  it("names the versions when they differ", () => {
    const newer = `${good.slice(0, 2)}09${good.slice(4)}`;
    expect(() => decodeFrame(bytesOf(newer))).toThrow(
      expect.objectContaining({ result: "ProtocolVersionMismatch", message: expect.stringContaining("9") }),
    );
  });
});
