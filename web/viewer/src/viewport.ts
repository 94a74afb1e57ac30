/** The picture and the camera before it: poses, sizes, clicks into the model. */

import {
  type Bounds,
  CAUTIOUS_LIMITS,
  type Connection,
  OrbitCamera,
  OrbitControls,
  type OrbitState,
  type PictureLimits,
  pictureSize,
  type View,
} from "@farframe/client";
import { Flight } from "./flight.ts";
import type { PicturePoint } from "./projection.ts";
import { anglesOf, nearestTurn, type StandardView } from "./standard_views.ts";

const RESIZE_DELAY_MILLISECONDS = 250;
/** A press that moved further, CSS pixels, or lasted longer is a drag. */
const CLICK_PIXELS = 5;
const CLICK_MILLISECONDS = 600;
const DOUBLE_CLICK_MILLISECONDS = 350;

export interface ViewportEvents {
  /** Someone clicked into the picture, or pressed Enter for its middle. `extend`: with shift, ctrl or command. */
  onPick(at: PicturePoint, extend: boolean): void;
  onDoublePick(at: PicturePoint): void;
  /** The picture shows another view now, or has another size. */
  onShown(): void;
  /** Frames the scene. */
  onFit(): void;
}

export class Viewport {
  readonly camera = new OrbitCamera();
  readonly #flight = new Flight(this.camera, () => this.sendPose());
  readonly #video: HTMLVideoElement;
  readonly #stage: HTMLElement;
  readonly #events: ViewportEvents;
  #connection: Connection | undefined;
  #shown: View | undefined;
  /** Boxes that fill the view until someone moves the camera: they do so in another size of the page, too. */
  #fitted: { bounds: Bounds | undefined; scene: Bounds | undefined } | undefined;
  #resizeTimer: ReturnType<typeof setTimeout> | undefined;
  #press: { x: number; y: number; at: number; moved: boolean } | undefined;
  #clicked = { x: 0, y: 0, at: -Infinity };
  #moves = 0;

  constructor(video: HTMLVideoElement, stage: HTMLElement, events: ViewportEvents) {
    this.#video = video;
    this.#stage = stage;
    this.#events = events;
    new OrbitControls(this.camera, video, {
      onChange: () => {
        this.#moves += 1;
        this.#flight.stop();
        this.#fitted = undefined;
        this.sendPose();
      },
      onFit: () => events.onFit(),
    });
    this.#listen();
    new ResizeObserver(() => {
      if (this.#fitted) this.fit(this.#fitted.bounds, this.#fitted.scene, true);
      this.resized();
      events.onShown();
    }).observe(stage);
  }

  /** Grows whenever somebody moves the camera: what was asked for before that no longer counts. */
  get moves(): number {
    return this.#moves;
  }

  get aspect(): number {
    return Math.max(1, this.#stage.clientWidth) / Math.max(1, this.#stage.clientHeight);
  }

  /** CSS pixels of the picture. */
  get size(): { width: number; height: number } {
    return { width: this.#stage.clientWidth, height: this.#stage.clientHeight };
  }

  /** The view that the picture on the screen was drawn for, not where the camera has got to since. */
  get shown(): View {
    return this.#shown ?? this.camera.view(this.aspect);
  }

  /** Shows the picture of a connection until it ends. */
  attach(connection: Connection): () => void {
    this.#connection = connection;
    this.#shown = undefined;
    const detach = connection.attach(this.#video);
    const off = connection.on("frame", (entry) => {
      this.#shown = entry.record.views[0];
      this.#events.onShown();
    });
    return () => {
      off();
      detach();
      this.#flight.stop();
      this.#connection = undefined;
    };
  }

  /** The size to ask for before anything is known of the server. */
  get firstSize(): { width: number; height: number } {
    return pictureSize(this.#stage.clientWidth, this.#stage.clientHeight, devicePixelRatio, CAUTIOUS_LIMITS);
  }

  sendPose(): void {
    this.#connection?.setPose(this.camera.view(this.aspect));
  }

  focus(): void {
    this.#video.dataset["quiet"] = "";
    this.#video.focus({ preventScroll: true });
  }

  /** Tells what there is to see, without moving. */
  setBounds(bounds: Bounds | undefined): void {
    this.camera.setBounds(bounds);
    this.sendPose();
  }

  /** Puts the whole box into the view. */
  fit(bounds: Bounds | undefined, scene: Bounds | undefined, atOnce = false): void {
    this.#moves += 1;
    this.#fitted = { bounds, scene };
    const before = this.camera.state;
    this.camera.state = this.#flight.goal;
    this.camera.frame(bounds, this.aspect);
    const { target, distance } = this.camera.state;
    this.camera.setBounds(scene);
    this.camera.state = before;
    this.#flight.to({ ...this.#flight.goal, target, distance }, atOnce);
  }

  /** Looks from one of the six sides or a corner, at the whole box. */
  look(view: StandardView, bounds: Bounds | undefined): void {
    this.#moves += 1;
    this.#fitted = { bounds, scene: bounds };
    const before = this.camera.state;
    const { yaw, pitch } = anglesOf(view);
    this.camera.state = { ...before, yaw: nearestTurn(before.yaw, yaw), pitch };
    this.camera.frame(bounds, this.aspect);
    const goal = this.camera.state;
    this.camera.state = before;
    this.#flight.to(goal);
  }

  /** Whether all rays are parallel. What is at the target keeps its size. */
  get orthographic(): boolean {
    return this.camera.orthographic;
  }

  set orthographic(orthographic: boolean) {
    this.camera.orthographic = orthographic;
    this.sendPose();
  }

  /** Goes to a state of the camera. */
  go(goal: OrbitState): void {
    this.#moves += 1;
    this.#fitted = undefined;
    this.#flight.to(goal);
  }

  /** Where the camera is or is going to be. */
  get goal(): OrbitState {
    return this.#flight.goal;
  }

  /** The stage has another size: the picture follows. */
  resized(): void {
    this.sendPose();
    clearTimeout(this.#resizeTimer);
    this.#resizeTimer = setTimeout(() => {
      const connection = this.#connection;
      if (!connection || connection.state === "closed" || connection.watching) return;
      const size = pictureSize(this.#stage.clientWidth, this.#stage.clientHeight, devicePixelRatio, this.#limits());
      if (size.width === connection.video.width && size.height === connection.video.height) return;
      // The old size stays on the screen when this fails; the end of a connection is told elsewhere.
      connection.configureVideo(size).catch(() => undefined);
    }, RESIZE_DELAY_MILLISECONDS);
  }

  #limits(): PictureLimits {
    if (!this.#connection) return CAUTIOUS_LIMITS;
    const { maxWidth, maxHeight, server } = this.#connection.info;
    return { maxWidth, maxHeight, adapterKind: server.adapterKind };
  }

  #listen(): void {
    const video = this.#video;
    for (const event of ["blur", "keydown"]) video.addEventListener(event, () => delete video.dataset["quiet"]);
    video.addEventListener("pointerdown", (event) => {
      video.dataset["quiet"] = "";
      const alone = event.isPrimary && event.button === 0;
      this.#press = alone ? { x: event.clientX, y: event.clientY, at: event.timeStamp, moved: false } : undefined;
    });
    video.addEventListener("pointermove", (event) => {
      const press = this.#press;
      if (press && Math.hypot(event.clientX - press.x, event.clientY - press.y) > CLICK_PIXELS) press.moved = true;
    });
    video.addEventListener("pointerup", (event) => {
      const press = this.#press;
      this.#press = undefined;
      if (!press || press.moved || event.timeStamp - press.at > CLICK_MILLISECONDS || !event.isPrimary) return;
      const box = video.getBoundingClientRect();
      const at = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
      const last = this.#clicked;
      const double =
        event.timeStamp - last.at < DOUBLE_CLICK_MILLISECONDS &&
        Math.hypot(event.clientX - last.x, event.clientY - last.y) <= CLICK_PIXELS;
      this.#clicked = { x: event.clientX, y: event.clientY, at: double ? -Infinity : event.timeStamp };
      if (double) this.#events.onDoublePick(at);
      else this.#events.onPick(at, event.shiftKey || event.ctrlKey || event.metaKey);
    });
    video.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.altKey) return;
      event.preventDefault();
      this.#events.onPick({ x: 0.5, y: 0.5 }, event.shiftKey || event.ctrlKey || event.metaKey);
    });
  }
}
