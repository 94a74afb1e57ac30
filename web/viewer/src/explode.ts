/** Takes a model apart: which of its parts move, and where to. Pure, but for the boxes that it asks for. */

import type { Bounds, Entity, Vector3 } from "@farframe/client";
import { inverse, middleOf, placeOf, scaled, subtract, transformed } from "./geometry.ts";

/** More pieces than that nobody tells apart, and each box is a question to the server. */
export const MAX_PIECES = 400;
const QUESTIONS_AT_A_TIME = 24;
/** With everything pulled out, a piece is as much further from the middle as this many times its distance. */
const FULL_SPREAD = 1.5;

/** A piece: at rest it is at `position` in its parent; fully apart, at `position + away`. */
export interface Piece {
  readonly entity: Entity;
  readonly position: Vector3;
  readonly away: Vector3;
}

/** The finest level of the tree below `root` with no more than `most` entities that can be moved; none is below another. */
export function piecesOf(root: Entity, most = MAX_PIECES): Entity[] {
  let level: Entity[] = [root];
  for (;;) {
    const next = level.flatMap((entity) => {
      const children = entity.children;
      return children.length > 0 && !entity.hasMesh ? children : [entity];
    });
    const opened = next.some((entity, index) => entity !== level[index]) || next.length !== level.length;
    if (!opened || next.length > most) break;
    level = next;
  }
  return level.filter((entity) => !entity.isStatic && entity !== root);
}

/** Which way pieces go: away from `middle`, in the space of their parents. Asks for boxes a few at a time. */
export async function plan(entities: readonly Entity[], middle: Vector3, signal: AbortSignal): Promise<Piece[]> {
  const pieces: Piece[] = [];
  for (let at = 0; at < entities.length; at += QUESTIONS_AT_A_TIME) {
    const some = entities.slice(at, at + QUESTIONS_AT_A_TIME).filter((entity) => entity.valid);
    const boxes = await Promise.all(some.map((entity) => entity.bounds()));
    signal.throwIfAborted();
    some.forEach((entity, index) => {
      const piece = pieceOf(entity, boxes[index], middle);
      if (piece) pieces.push(piece);
    });
  }
  return pieces;
}

function pieceOf(entity: Entity, box: Bounds | undefined, middle: Vector3): Piece | undefined {
  if (!box) return undefined;
  const back = inverse(placeOf(entity.parent).linear);
  if (!back) return undefined;
  const away = transformed(back, scaled(subtract(middleOf(box), middle), FULL_SPREAD));
  return { entity, position: entity.position, away };
}
