/** What the scene says over the wire in bytes: packed numbers, records of transforms, tables of entities. */

import { FarframeError } from "./errors.ts";
import type { Quaternion, Vector3 } from "./records.ts";

export const TRANSFORMS_TYPE = 3;
export const TRANSFORMS_VERSION = 1;
/** What a record or a command sets, as bits. */
export const HAS_POSITION = 1;
export const HAS_ROTATION = 2;
export const HAS_SCALE = 4;
/** Entities of a record: small enough to be lost rarely, all their transforms being in one message. */
export const ENTITIES_PER_RECORD = 512;
const HEAD_BYTES = 16;
const MAX_PAGE = 8192;
const MAX_SUB_PARTS = 4_194_304;
const MAX_UNPACKED_BYTES = 64 << 20;

/** Flags of an entity on the wire. */
export const IS_MESH = 1;
export const IS_STATIC = 2;
export const IS_CLOUD = 4;
export const IS_DISABLED = 8;

/** What is needed of an entity to send its transform. */
export interface Placed {
  readonly id: number;
  readonly position: Vector3;
  readonly rotation: Quaternion;
  readonly scale: Vector3;
}

/** An entity as the server tells it. */
export interface EntityRow extends Placed {
  readonly parent: number;
  readonly name: string;
  readonly flags: number;
  readonly on: number;
  readonly off: number;
  readonly tint: readonly [number, number, number, number];
  readonly mask: number;
}

/** Bytes as base64. */
export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

/** Base64 as bytes. Throws a ProtocolError for anything else. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  try {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let index = 0; index < binary.length; index++) bytes[index] = binary.charCodeAt(index);
    return bytes;
  } catch {
    throw unreadable("they are not base64");
  }
}

/** Unsigned 32-bit numbers, packed, as base64. */
export function packIds(ids: readonly number[]): string {
  const data = new DataView(new ArrayBuffer(4 * ids.length));
  ids.forEach((id, index) => {
    data.setUint32(4 * index, id, true);
  });
  return toBase64(new Uint8Array(data.buffer));
}

/** Parts of transforms, packed, as base64: 64-bit (positions) or 32-bit floats. */
export function packFloats(rows: readonly (readonly number[])[], double: boolean): string {
  const width = rows[0]?.length ?? 0;
  const size = double ? 8 : 4;
  const data = new DataView(new ArrayBuffer(size * width * rows.length));
  let offset = 0;
  for (const row of rows) {
    for (const value of row) {
      if (double) data.setFloat64(offset, value, true);
      else data.setFloat32(offset, value, true);
      offset += size;
    }
  }
  return toBase64(new Uint8Array(data.buffer));
}

/** A record of transforms for the `pose` channel. `has`: which parts of them. */
export function encodeTransforms(sequence: number, entities: readonly Placed[], has: number): ArrayBuffer {
  const parts = [
    { bit: HAS_POSITION, size: 8, values: (entity: Placed) => entity.position as readonly number[] },
    { bit: HAS_ROTATION, size: 4, values: (entity: Placed) => entity.rotation as readonly number[] },
    { bit: HAS_SCALE, size: 4, values: (entity: Placed) => entity.scale as readonly number[] },
  ].filter((part) => has & part.bit);
  const each = 4 + (has & HAS_POSITION ? 24 : 0) + (has & HAS_ROTATION ? 16 : 0) + (has & HAS_SCALE ? 12 : 0);
  const data = new DataView(new ArrayBuffer(HEAD_BYTES + each * entities.length));
  data.setUint8(0, TRANSFORMS_TYPE);
  data.setUint8(1, TRANSFORMS_VERSION);
  data.setUint8(2, has);
  data.setUint32(4, sequence, true);
  data.setUint32(8, entities.length, true);
  let offset = HEAD_BYTES;
  for (const part of parts) {
    for (const entity of entities) {
      for (const value of part.values(entity)) {
        if (part.size === 8) data.setFloat64(offset, value, true);
        else data.setFloat32(offset, value, true);
        offset += part.size;
      }
    }
  }
  for (const entity of entities) {
    data.setUint32(offset, entity.id, true);
    offset += 4;
  }
  return data.buffer as ArrayBuffer;
}

async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > MAX_UNPACKED_BYTES) {
      await reader.cancel();
      throw unreadable("they are too large");
    }
    chunks.push(value);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/** Unsigned 32-bit numbers from base64. Throws a ProtocolError for anything else. */
export function unpackIds(text: string): number[] {
  const bytes = fromBase64(text);
  if (bytes.length % 4 !== 0) throw unreadable("they are cut off");
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 4 }, (_, index) => view.getUint32(4 * index, true));
}

/** What an entity is made of, as the server tells it. */
export interface SubPartRow {
  readonly entity: number;
  /** The same number where the mesh is the same. */
  readonly part: number;
  /** The file's; 0: none. */
  readonly material: number;
  /** In the mesh in the place of the file's; 0: none. */
  readonly replaced: number;
  /** Of this entity only; 0: none. */
  readonly override: number;
}

/** The sub-parts of an answer to `scene.getSubParts`. Rejects with a ProtocolError for bytes that are none. */
export async function decodeSubParts(count: number, data: string): Promise<SubPartRow[]> {
  if (!Number.isInteger(count) || count < 0 || count > MAX_SUB_PARTS) throw unreadable("they are too many");
  const bytes = await unpacked(data);
  if (bytes.length !== 20 * count) throw unreadable("they are cut off");
  const view = new DataView(bytes.buffer);
  const at = (column: number, row: number): number => view.getUint32(4 * (column * count + row), true);
  return Array.from({ length: count }, (_, row) => ({
    entity: at(0, row),
    part: at(1, row),
    material: at(2, row),
    replaced: at(3, row),
    override: at(4, row),
  }));
}

async function unpacked(data: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await inflate(fromBase64(data));
  } catch (error) {
    throw error instanceof FarframeError ? error : unreadable("they are not compressed as they should be");
  }
}

/** The entities of an answer to `scene.getEntities`. Rejects with a ProtocolError for bytes that are none. */
export async function decodeEntities(count: number, data: string): Promise<EntityRow[]> {
  if (!Number.isInteger(count) || count < 0 || count > MAX_PAGE) throw unreadable("they are too many");
  const bytes = await unpacked(data);
  const view = new DataView(bytes.buffer);
  const text = new TextDecoder();
  const at: Record<string, number> = {};
  let offset = 0;
  for (const [name, size] of [
    ["position", 24],
    ["id", 4],
    ["parent", 4],
    ["rotation", 16],
    ["scale", 12],
    ["tint", 16],
    ["on", 2],
    ["off", 2],
    ["nameBytes", 2],
    ["flags", 1],
    ["mask", 1],
  ] as const) {
    at[name] = offset;
    offset += size * count;
  }
  const place = (name: string, size: number, row: number): number => (at[name] ?? 0) + size * row;
  const floats = (name: string, width: number, row: number): number[] =>
    Array.from({ length: width }, (_, index) => view.getFloat32(place(name, 4 * width, row) + 4 * index, true));
  const rows: EntityRow[] = [];
  try {
    for (let row = 0; row < count; row++) {
      const length = view.getUint16(place("nameBytes", 2, row), true);
      if (offset + length > bytes.length) throw new RangeError();
      rows.push({
        id: view.getUint32(place("id", 4, row), true),
        parent: view.getUint32(place("parent", 4, row), true),
        position: [0, 8, 16].map((step) => view.getFloat64(place("position", 24, row) + step, true)) as never,
        rotation: floats("rotation", 4, row) as never,
        scale: floats("scale", 3, row) as never,
        tint: floats("tint", 4, row) as never,
        on: view.getUint16(place("on", 2, row), true),
        off: view.getUint16(place("off", 2, row), true),
        flags: view.getUint8(place("flags", 1, row)),
        mask: view.getUint8(place("mask", 1, row)),
        name: text.decode(bytes.subarray(offset, offset + length)),
      });
      offset += length;
    }
  } catch (error) {
    if (error instanceof RangeError) throw unreadable("they are cut off");
    throw error;
  }
  return rows;
}

function unreadable(why: string): FarframeError {
  return new FarframeError("ProtocolError", `The server's entities cannot be read: ${why}.`);
}
