/**
 * Views with names, kept in this browser for each model, and passed on as JSON or as a link. What comes from a file or a
 * link may be anything: it is taken apart and checked.
 */

import type { OrbitState, Vector3 } from "@farframe/client";
import { MAX_SECTIONS, type SectionAxis, type SectionPart, type SectionState } from "./section.ts";

/** A view as it is kept. */
export interface NamedView {
  readonly name: string;
  readonly camera: OrbitState;
  readonly orthographic: boolean;
  readonly edges: boolean;
  /** How far the model is taken apart, 0 to 1. */
  readonly apart: number;
  readonly sections: readonly (SectionState | SectionPart)[];
  /** Which parts of the first model are forced to hide (`-`) or to show, by their place in the model. */
  readonly parts: { readonly hidden: readonly number[]; readonly shown: readonly number[] };
}

const FORMAT = "farframe-views";
const VERSION = 2;
export const MAX_VIEWS_OF_A_MODEL = 100;
const MAX_NAME = 80;
const MAX_PARTS = 5000;
/** A link longer than that is cut off by what carries it. */
export const MAX_LINK_CHARACTERS = 8000;

type Loose = Record<string, unknown>;

const isObject = (value: unknown): value is Loose => typeof value === "object" && value !== null;
const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

function idsOf(value: unknown): number[] {
  if (!Array.isArray(value)) return [];
  return value.filter((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 31).slice(0, MAX_PARTS);
}

const AXES: readonly unknown[] = [0, 1, 2];
const MAX_METRES = 1e9;

function vectorOf(value: unknown): Vector3 | undefined {
  return Array.isArray(value) && value.length === 3 && value.every(isNumber)
    ? (value as unknown as Vector3)
    : undefined;
}

/** A section plane out of anything, or none. */
function sectionsFrom(value: unknown): (SectionState | SectionPart)[] {
  if (!isObject(value)) return [];
  const { axis, at, offset, from } = value;
  const flipped = value["flipped"] === true;
  if (AXES.includes(axis) && isNumber(at)) {
    return [{ axis: axis as SectionAxis, flipped, at: Math.min(1, Math.max(0, at)) }];
  }
  const normal = vectorOf(value["normal"]);
  if (!normal || Math.abs(Math.hypot(...normal) - 1) > 1e-6 || !isNumber(offset) || !isNumber(from)) return [];
  if (Math.abs(offset) > MAX_METRES || Math.abs(from) > MAX_METRES) return [];
  const across = AXES.includes(axis) && normal[axis as SectionAxis] === 1 ? (axis as SectionAxis) : undefined;
  return [{ axis: across, normal, offset, from, flipped }];
}

/** A view out of anything, or undefined. */
export function viewFrom(value: unknown): NamedView | undefined {
  if (!isObject(value) || !isObject(value["camera"])) return undefined;
  const { target, distance, yaw, pitch } = value["camera"];
  const looksAt = vectorOf(target);
  if (!looksAt) return undefined;
  if (!isNumber(distance) || distance <= 0 || !isNumber(yaw) || !isNumber(pitch)) return undefined;
  if (typeof value["name"] !== "string" || value["name"].trim() === "") return undefined;
  // Views of the first version had one plane.
  const sections = Array.isArray(value["sections"]) ? value["sections"] : [value["section"]];
  const parts = isObject(value["parts"]) ? value["parts"] : {};
  return {
    name: value["name"].trim().slice(0, MAX_NAME),
    camera: {
      target: looksAt,
      distance,
      yaw,
      pitch: Math.min(Math.PI / 2, Math.max(-Math.PI / 2, pitch)),
    },
    orthographic: value["orthographic"] === true,
    edges: value["edges"] === true,
    apart: isNumber(value["apart"]) ? Math.min(1, Math.max(0, value["apart"])) : 0,
    sections: sections.slice(0, MAX_SECTIONS).flatMap(sectionsFrom),
    parts: { hidden: idsOf(parts["hidden"]), shown: idsOf(parts["shown"]) },
  };
}

/** Views out of a file's text. Throws SyntaxError for what is no JSON, and for JSON that holds no views. */
export function viewsFrom(text: string): NamedView[] {
  const value: unknown = JSON.parse(text);
  const list =
    isObject(value) && value["format"] === FORMAT && Array.isArray(value["views"]) ? value["views"] : undefined;
  if (!list) throw new SyntaxError("This file holds no views.");
  const views = list.slice(0, MAX_VIEWS_OF_A_MODEL).flatMap((item) => viewFrom(item) ?? []);
  if (views.length === 0) throw new SyntaxError("This file holds no views.");
  return views;
}

/** The file's text for views. */
export function textOf(views: readonly NamedView[], model: string): string {
  return `${JSON.stringify({ format: FORMAT, version: VERSION, model, views }, undefined, 2)}\n`;
}

/** A view as a part of a link, letters and digits. */
export function linkPartOf(view: NamedView): string {
  const bytes = new TextEncoder().encode(JSON.stringify(view));
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The view that a link carries, or undefined. */
export function viewFromLink(part: string): NamedView | undefined {
  if (part.length > MAX_LINK_CHARACTERS) return undefined;
  try {
    const text = atob(part.replaceAll("-", "+").replaceAll("_", "/"));
    return viewFrom(JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (letter) => letter.charCodeAt(0)))));
  } catch {
    return undefined;
  }
}

/** The list with a view added; one of the same name is replaced. */
export function withView(views: readonly NamedView[], view: NamedView): NamedView[] {
  const at = views.findIndex((other) => other.name === view.name);
  return at < 0 ? [...views, view].slice(-MAX_VIEWS_OF_A_MODEL) : views.with(at, view);
}

/** A name that is not taken yet: View 3. */
export function freeName(views: readonly NamedView[]): string {
  for (let number = 1; ; number++) {
    const name = `View ${number}`;
    if (!views.some((view) => view.name === name)) return name;
  }
}
