/**
 * Mouse, touch and keyboard for an {@link OrbitCamera}.
 *
 *     left drag, one finger      orbit           right or middle drag, shift drag, two fingers   pan
 *     wheel, pinch, + and -      zoom            arrows  orbit    shift arrows  pan    Home or F  fit
 *
 * After a flick the camera turns on a little; the turn dies out within half a second.
 */

import type { OrbitCamera } from "./camera.ts";

const ORBIT_RADIANS_PER_HEIGHT = Math.PI;
const KEY_ORBIT_RADIANS = Math.PI / 36;
const KEY_PAN = 0.04;
const KEY_ZOOM = 1.12;
const WHEEL_ZOOM_PER_PIXEL = 0.0015;
const WHEEL_LINE_PIXELS = 18;
const MAX_WHEEL_PIXELS = 240;
/** How fast inertia dies: the time constant of the exponential. */
const INERTIA_MILLISECONDS = 90;
/** A drag that rested so long before the release leaves no inertia. */
const FLICK_MILLISECONDS = 40;
const MIN_INERTIA_RADIANS_PER_MILLISECOND = 0.00005;
const MAX_INERTIA_RADIANS_PER_MILLISECOND = 0.006;

interface Point {
  x: number;
  y: number;
}

export interface OrbitControlsOptions {
  /** Called after each change of the camera. */
  onChange: () => void;
  /** Called on Home or F. */
  onFit?: () => void;
}

export class OrbitControls {
  readonly #camera: OrbitCamera;
  readonly #element: HTMLElement;
  readonly #options: OrbitControlsOptions;
  readonly #disposal = new AbortController();
  readonly #pointers = new Map<number, Point>();
  #panning = false;
  #velocity: Point = { x: 0, y: 0 };
  #movedAt = 0;
  #inertia = 0;

  constructor(camera: OrbitCamera, element: HTMLElement, options: OrbitControlsOptions) {
    this.#camera = camera;
    this.#element = element;
    this.#options = options;
    const signal = this.#disposal.signal;
    element.style.touchAction = "none";
    element.addEventListener("pointerdown", (event) => this.#down(event), { signal });
    element.addEventListener("pointermove", (event) => this.#move(event), { signal });
    element.addEventListener("pointerup", (event) => this.#up(event), { signal });
    element.addEventListener("pointercancel", (event) => this.#up(event), { signal });
    element.addEventListener("lostpointercapture", (event) => this.#up(event), { signal });
    element.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    element.addEventListener("keydown", (event) => this.#key(event), { signal });
    element.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
  }

  /** Takes all listeners off the element. */
  dispose(): void {
    this.#disposal.abort();
    cancelAnimationFrame(this.#inertia);
  }

  #down(event: PointerEvent): void {
    if (event.pointerType === "mouse" && event.button > 2) return;
    cancelAnimationFrame(this.#inertia);
    this.#element.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.#panning = event.button === 1 || event.button === 2 || event.shiftKey;
    this.#velocity = { x: 0, y: 0 };
    if (event.button === 1) event.preventDefault();
  }

  #move(event: PointerEvent): void {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const height = Math.max(1, this.#element.clientHeight);
    if (this.#pointers.size === 1) {
      const [dx, dy] = [(now.x - before.x) / height, (now.y - before.y) / height];
      if (this.#panning) this.#camera.pan(dx, dy);
      else this.#orbit(dx, dy, event.timeStamp);
    } else if (this.#pointers.size === 2) {
      const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const distance = (a: Point, b: Point): number => Math.max(1, Math.hypot(a.x - b.x, a.y - b.y));
        this.#camera.zoom(distance(before, other) / distance(now, other));
        // Each finger moves the middle by half its own way.
        this.#camera.pan((now.x - before.x) / 2 / height, (now.y - before.y) / 2 / height);
      }
    }
    this.#pointers.set(event.pointerId, now);
    this.#options.onChange();
  }

  #orbit(dx: number, dy: number, at: number): void {
    const [yaw, pitch] = [-dx * ORBIT_RADIANS_PER_HEIGHT, dy * ORBIT_RADIANS_PER_HEIGHT];
    this.#camera.orbit(yaw, pitch);
    const elapsed = Math.max(1, at - this.#movedAt);
    const limit = (value: number): number =>
      Math.min(MAX_INERTIA_RADIANS_PER_MILLISECOND, Math.max(-MAX_INERTIA_RADIANS_PER_MILLISECOND, value));
    const blend = (old: number, value: number): number => old * 0.6 + limit(value) * 0.4;
    this.#velocity = { x: blend(this.#velocity.x, yaw / elapsed), y: blend(this.#velocity.y, pitch / elapsed) };
    this.#movedAt = at;
  }

  #up(event: PointerEvent): void {
    if (!this.#pointers.delete(event.pointerId)) return;
    // The finger that stays after a pinch must not orbit at once.
    if (this.#pointers.size === 1) this.#velocity = { x: 0, y: 0 };
    if (this.#pointers.size > 0 || this.#panning) return;
    if (event.timeStamp - this.#movedAt > FLICK_MILLISECONDS || reducedMotion()) return;
    let last = performance.now();
    const step = (now: number): void => {
      const elapsed = Math.max(0, now - last);
      last = now;
      const { x, y } = this.#velocity;
      if (Math.hypot(x, y) < MIN_INERTIA_RADIANS_PER_MILLISECOND) return;
      // The way that the dying speed makes meanwhile: the same in all, however often the browser calls.
      const decay = Math.exp(-elapsed / INERTIA_MILLISECONDS);
      this.#camera.orbit(x * INERTIA_MILLISECONDS * (1 - decay), y * INERTIA_MILLISECONDS * (1 - decay));
      this.#velocity = { x: x * decay, y: y * decay };
      this.#options.onChange();
      if (!this.#disposal.signal.aborted) this.#inertia = requestAnimationFrame(step);
    };
    this.#inertia = requestAnimationFrame(step);
  }

  #wheel(event: WheelEvent): void {
    event.preventDefault();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : WHEEL_LINE_PIXELS;
    const pixels = Math.min(MAX_WHEEL_PIXELS, Math.max(-MAX_WHEEL_PIXELS, event.deltaY * unit));
    // A pinch on a touch pad comes as a wheel with ctrl and small steps.
    this.#camera.zoom(Math.exp(pixels * WHEEL_ZOOM_PER_PIXEL * (event.ctrlKey ? 6 : 1)));
    this.#options.onChange();
  }

  #key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const directions: Record<string, Point> = {
      ArrowLeft: { x: -1, y: 0 },
      ArrowRight: { x: 1, y: 0 },
      ArrowUp: { x: 0, y: -1 },
      ArrowDown: { x: 0, y: 1 },
    };
    const direction = directions[event.key];
    if (direction) {
      if (event.shiftKey) this.#camera.pan(direction.x * KEY_PAN, direction.y * KEY_PAN);
      else this.#camera.orbit(direction.x * KEY_ORBIT_RADIANS, -direction.y * KEY_ORBIT_RADIANS);
    } else if (event.key === "+" || event.key === "=") this.#camera.zoom(1 / KEY_ZOOM);
    else if (event.key === "-" || event.key === "_") this.#camera.zoom(KEY_ZOOM);
    else if (event.key === "Home" || event.key.toLowerCase() === "f") {
      event.preventDefault();
      this.#options.onFit?.();
      return;
    } else return;
    event.preventDefault();
    cancelAnimationFrame(this.#inertia);
    this.#options.onChange();
  }
}

function reducedMotion(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
