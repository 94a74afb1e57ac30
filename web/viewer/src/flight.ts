/** Moves the camera from where it is to where it shall be, smoothly, unless a person prefers still pictures. */

import type { OrbitCamera, OrbitState } from "@farframe/client";
import { between, eased } from "./standard_views.ts";

const FLIGHT_MILLISECONDS = 420;

export class Flight {
  readonly #camera: OrbitCamera;
  readonly #onChange: () => void;
  #frame = 0;
  #goal: OrbitState | undefined;

  constructor(camera: OrbitCamera, onChange: () => void) {
    this.#camera = camera;
    this.#onChange = onChange;
  }

  /** Where the camera will be: its goal while it moves, its place while it rests. */
  get goal(): OrbitState {
    return this.#goal ?? this.#camera.state;
  }

  /** Goes to a state of the camera. `at once`: without the way. */
  to(goal: OrbitState, atOnce = false): void {
    this.stop();
    if (atOnce || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.#camera.state = goal;
      this.#onChange();
      return;
    }
    const from = this.#camera.state;
    const begin = performance.now();
    this.#goal = goal;
    const step = (now: number): void => {
      const part = (now - begin) / FLIGHT_MILLISECONDS;
      this.#camera.state = between(from, goal, eased(part));
      if (part >= 1) this.#goal = undefined;
      else this.#frame = requestAnimationFrame(step);
      this.#onChange();
    };
    this.#frame = requestAnimationFrame(step);
  }

  /** Stays where it is. */
  stop(): void {
    cancelAnimationFrame(this.#frame);
    this.#goal = undefined;
  }
}
