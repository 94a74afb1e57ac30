/**
 * The animations that a model's file brings along.
 *
 *     const [rise] = await engine.animations();
 *     rise?.play({ loop: "pingPong", speed: 0.5 });
 *
 * What is played moves what is drawn only: entities keep their own transforms. What a page sets of an entity that is
 * played is the page's, until {@link ModelAnimation.reclaim}.
 */

import { number, word } from "./checks.ts";
import type { Entity } from "./entity.ts";

export type AnimationState = "stopped" | "playing" | "paused";
/** What comes after its end. */
export type AnimationLoop = "once" | "repeat" | "pingPong";

/** How an animation is played; what is absent stays. */
export interface PlayOptions {
  /** Seconds from its beginning. */
  time?: number;
  /** Seconds of it per second; negative: backwards. */
  speed?: number;
  loop?: AnimationLoop;
  /** How much of it is seen, 0 to 1, beside others that move the same nodes. */
  weight?: number;
}

/** An animation as the server tells it. */
export interface AnimationInfo {
  readonly name: string;
  readonly duration: number;
  readonly nodes: number;
  readonly state?: AnimationState;
  readonly time?: number;
  readonly speed?: number;
  readonly loop?: AnimationLoop;
  readonly weight?: number;
}

const MAX_SPEED = 1000;
const checkLoop = word<AnimationLoop>("once", "repeat", "pingPong");

/** One animation of a model. `state`, `speed`, `loop` and `weight` are what was set last. */
export class ModelAnimation {
  readonly root: Entity;
  readonly name: string;
  /** Seconds. */
  readonly duration: number;
  /** How many nodes it moves. */
  readonly nodeCount: number;
  /** Seconds from its beginning, when the server was asked for it. */
  readonly toldTime: number;
  readonly #index: number;
  readonly #send: (root: Entity, set: Record<string, unknown>) => void;
  #state: AnimationState;
  #speed: number;
  #loop: AnimationLoop;
  #weight: number;

  /** @internal */
  constructor(
    root: Entity,
    index: number,
    info: AnimationInfo,
    send: (root: Entity, set: Record<string, unknown>) => void,
  ) {
    this.root = root;
    this.name = info.name;
    this.duration = info.duration;
    this.nodeCount = info.nodes;
    this.toldTime = info.time ?? 0;
    this.#index = index;
    this.#send = send;
    this.#state = info.state ?? "stopped";
    this.#speed = info.speed ?? 1;
    this.#loop = info.loop ?? "repeat";
    this.#weight = info.weight ?? 1;
  }

  /** `stopped`: it moves nothing; `playing`, also when one that plays once has come to its end; `paused`: it stands. */
  get state(): AnimationState {
    return this.#state;
  }

  get speed(): number {
    return this.#speed;
  }

  set speed(speed: number) {
    this.#set({ speed });
  }

  get loop(): AnimationLoop {
    return this.#loop;
  }

  set loop(loop: AnimationLoop) {
    this.#set({ loop });
  }

  get weight(): number {
    return this.#weight;
  }

  set weight(weight: number) {
    this.#set({ weight });
  }

  /** Plays it from where it is, or from `time`. Throws InvalidParam, InvalidId. */
  play(options: PlayOptions = {}): void {
    this.#set(options, "playing");
  }

  /** Lets it stand where it is. */
  pause(): void {
    this.#set({}, "paused");
  }

  /** Lets its nodes go back to where they are, and it to its beginning. */
  stop(): void {
    this.#set({}, "stopped");
  }

  /** Goes to `time`, seconds from its beginning; one that is stopped is paused there. */
  seek(time: number): void {
    this.#set({ time }, this.#state === "stopped" ? "paused" : undefined);
  }

  /** Lets the model's animations move again what the page has set of the nodes that they move. */
  reclaim(): void {
    this.#send(this.root, { clip: this.#index, reclaim: true });
  }

  #set({ time, speed, loop, weight }: PlayOptions, state?: AnimationState): void {
    const set = {
      ...(state !== undefined && { state }),
      ...(time !== undefined && { time: number(0, this.duration)("time", time) }),
      ...(speed !== undefined && { speed: number(-MAX_SPEED, MAX_SPEED)("speed", speed) }),
      ...(loop !== undefined && { loop: checkLoop("loop", loop) }),
      ...(weight !== undefined && { weight: number(0, 1)("weight", weight) }),
    };
    this.#send(this.root, { clip: this.#index, ...set });
    this.#state = state ?? this.#state;
    this.#speed = speed ?? this.#speed;
    this.#loop = loop ?? this.#loop;
    this.#weight = weight ?? this.#weight;
  }
}
