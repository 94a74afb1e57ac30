/**
 * `<farframe-viewer>`: a remote scene as an element of any page. Importing `@farframe/client/element` registers it.
 *
 *     <farframe-viewer endpoint="https://render.example.net" account="…" session="…" autoresize></farframe-viewer>
 *     viewer.tokenProvider = async () => (await fetch("/my/farframe-token")).text();
 *
 * It connects when it is in a page and has account, session and token provider, and leaves when it is taken out. All
 * that it shows lies in a shadow root; `::part()` and custom properties style it:
 *
 *     parts: stage, video, status, message, hint, progress, retry
 *     --farframe-background, --farframe-surface, --farframe-color, --farframe-accent, --farframe-focus, --farframe-font
 */

import { abortable } from "./abortable.ts";
import { OrbitCamera, unionBounds } from "./camera.ts";
import type { ConnectionStatistics } from "./connect_options.ts";
import { Connection } from "./connection.ts";
import { cancelled, FarframeError, type Result, toFarframeError } from "./errors.ts";
import type { LedgerEntry } from "./ledger.ts";
import { ManagementClient } from "./management.ts";
import {
  type Bounds,
  type ConnectionInfo,
  type LoadProgress,
  RENDER_MODE_CHOICES,
  type RenderModeChoice,
} from "./messages.ts";
import { OrbitControls } from "./orbit_controls.ts";
import { CAUTIOUS_LIMITS, pictureSize } from "./picture_size.ts";
import type { Vector3 } from "./records.ts";
import { Entity } from "./scene/entity.ts";
import type { RayHits, RayOptions } from "./scene/queries.ts";
import type { Scene } from "./scene/scene.ts";
import { type TokenProvider, TokenSource } from "./tokens.ts";
import type { WayChoice } from "./transport.ts";
import { HAVE_CURRENT_DATA } from "./video_frames.ts";
import { makeParts, type ViewerParts } from "./viewer_parts.ts";

/**
 *     idle ──► connecting ──► connected ◄──► interrupted
 *                  └───────────────┴──────────────┴──► disconnected ──► connecting
 */
export type ViewerState = "idle" | "connecting" | "connected" | "interrupted" | "disconnected";

/** Why there is no connection any more. */
export interface DisconnectedDetail {
  readonly reason: Result;
  readonly message: string;
  readonly error: FarframeError;
}

/** The element's own events; none of them bubbles. */
export interface FarframeViewerEventMap {
  /** The picture comes, and the scene can be filled. */
  connected: CustomEvent<{ readonly connection: Connection; readonly info: ConnectionInfo }>;
  /** The connection has ended, or was never made; also after {@link FarframeViewerElement.disconnect}. */
  disconnected: CustomEvent<DisconnectedDetail>;
  /** Something failed that nobody waits for: connecting, or the model of the attribute `model`. */
  error: CustomEvent<FarframeError>;
  statechange: CustomEvent<ViewerState>;
  /** Once a second while connected. */
  statistics: CustomEvent<ConnectionStatistics>;
  /** A frame was shown. */
  frame: CustomEvent<LedgerEntry>;
  /** The person, or a call, has moved the camera. */
  camerachange: CustomEvent<OrbitCamera>;
}

export interface ViewerLoadOptions {
  /** What the model hangs below. */
  parent?: Entity;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
  /** Whether the camera moves so that all is seen; by default with the first model. */
  fit?: boolean;
}

/** An entity or a box to bring into view as a whole, or where to stand and where to look. */
export type LookTarget = Entity | Bounds | { readonly position: Vector3; readonly target: Vector3 };

export interface ScreenshotOptions {
  /** `image/png` (default), `image/jpeg` or `image/webp`. */
  type?: string;
  /** 0 to 1, where the type has it. */
  quality?: number;
  /** Waits for the picture in full quality that shows all that was set; true by default. */
  sharp?: boolean;
  /** How long that is waited for, 10,000 by default; after that, what is on the screen has to do. */
  patienceMilliseconds?: number;
  signal?: AbortSignal;
}

const DEFAULT_WIDTH = 1280;
const DEFAULT_HEIGHT = 720;
const RESIZE_DELAY_MILLISECONDS = 200;
const BOUNDS_DELAY_MILLISECONDS = 250;
const SHARP_PATIENCE_MILLISECONDS = 10_000;
const WAYS: readonly string[] = ["auto", "webrtc", "turn", "websocket"] satisfies WayChoice[];
const DEFAULT_LABEL = "3D view";

/** Where there are no elements (a server that renders pages) the class can still be imported. */
const Base: typeof HTMLElement = globalThis.HTMLElement ?? (class {} as unknown as typeof HTMLElement);

export class FarframeViewerElement extends Base {
  static readonly observedAttributes = [
    "endpoint",
    "account",
    "session",
    "way",
    "render-mode",
    "watch",
    "autoresize",
    "width",
    "height",
    "model",
    "label",
  ];

  /** Where the person looks from; call {@link refresh} after changing it. */
  readonly camera = new OrbitCamera();

  readonly #parts: ViewerParts;
  #controls: OrbitControls | undefined;
  #observer: ResizeObserver | undefined;
  #resizeTimer: ReturnType<typeof setTimeout> | undefined;
  #tokenProvider: TokenProvider | undefined;
  #scheduled = false;
  /** What the present attempt was made of; undefined while there is none. */
  #wanted: string | undefined;
  #left = false;
  #attempt: AbortController | undefined;
  #connection: Connection | undefined;
  #ready = Promise.withResolvers<Connection>();
  /** Whether an attempt decides about {@link #ready}; before the first one nobody does. */
  #attempted = false;
  /** The end of the connection before: a session takes one device at a time. */
  #leaving: Promise<void> | undefined;
  /** Grows with each call that moves the camera: what was called before moves it no more, however late it has its answer. */
  #moves = 0;
  #boundsAsked = 0;
  #boundsTimer: ReturnType<typeof setTimeout> | undefined;
  #boundsKnown: Promise<void> = Promise.resolve();
  #state: ViewerState = "idle";
  #error: FarframeError | undefined;
  #loads = 0;
  #modelLoad: { uri: string; abort: AbortController; root: Entity | undefined } | undefined;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    this.#parts = makeParts(root);
    this.#parts.retry.addEventListener("click", () => {
      this.connect();
      this.#parts.stage.focus();
    });
    this.#quiet(this.#ready.promise);
    this.#label();
    this.#say();
  }

  // Attributes as properties ------------------------------------------------------------------------------------

  /** The service's origin; the page's own by default. */
  get endpoint(): string {
    return this.getAttribute("endpoint") ?? "";
  }

  set endpoint(value: string) {
    this.setAttribute("endpoint", value);
  }

  /** The account's id. */
  get account(): string {
    return this.getAttribute("account") ?? "";
  }

  set account(value: string) {
    this.setAttribute("account", value);
  }

  /** The session's id. One that is still starting is waited for. */
  get session(): string {
    return this.getAttribute("session") ?? "";
  }

  set session(value: string) {
    this.setAttribute("session", value);
  }

  /** Which way the stream takes: `auto` unless another is named. */
  get way(): WayChoice {
    const way = this.getAttribute("way") ?? "auto";
    return WAYS.includes(way) ? (way as WayChoice) : "auto";
  }

  set way(value: WayChoice) {
    this.setAttribute("way", value);
  }

  /** One of Azure Remote Rendering's render modes, `Default` unless another is named; both draw alike here. */
  get renderMode(): RenderModeChoice {
    const mode = this.getAttribute("render-mode") ?? "Default";
    return isRenderMode(mode) ? mode : "Default";
  }

  set renderMode(value: RenderModeChoice) {
    this.setAttribute("render-mode", value);
  }

  /** Whether it only watches what the driving device sees. */
  get watch(): boolean {
    return this.hasAttribute("watch");
  }

  set watch(value: boolean) {
    this.toggleAttribute("watch", value);
  }

  /** Whether the picture has the element's size; else it has `width` and `height`, 1280 x 720 by default. */
  get autoresize(): boolean {
    return this.hasAttribute("autoresize");
  }

  set autoresize(value: boolean) {
    this.toggleAttribute("autoresize", value);
  }

  /** A model that is loaded as soon as there is a connection; another one takes its place. */
  get model(): string {
    return this.getAttribute("model") ?? "";
  }

  set model(value: string) {
    this.setAttribute("model", value);
  }

  /** What screen readers call the view. */
  get label(): string {
    return this.getAttribute("label") ?? DEFAULT_LABEL;
  }

  set label(value: string) {
    this.setAttribute("label", value);
  }

  /** Who gives access tokens: asked when connecting, and again when one runs out or was refused. */
  get tokenProvider(): TokenProvider | undefined {
    return this.#tokenProvider;
  }

  set tokenProvider(provider: TokenProvider | undefined) {
    this.#tokenProvider = provider;
    this.#schedule();
  }

  // What there is -----------------------------------------------------------------------------------------------

  get state(): ViewerState {
    return this.#state;
  }

  /** The connection, while there is one. */
  get connection(): Connection | undefined {
    return this.#connection;
  }

  /** The scene of the connection, while there is one. */
  get scene(): Scene | undefined {
    return this.#connection?.scene;
  }

  /** Why it is not connected; undefined while it is, or tries. */
  get error(): FarframeError | undefined {
    return this.#error;
  }

  /** Resolves with the connection as soon as there is one; rejects when the present attempt fails. */
  async whenConnected(): Promise<Connection> {
    // What was set in this turn has not taken effect yet; the attempt of before has nothing to say any more.
    if (this.#scheduled) await Promise.resolve();
    return this.#ready.promise;
  }

  // What it does ------------------------------------------------------------------------------------------------

  /** Connects again after an end. Without a call it connects by itself, once. */
  connect(): void {
    this.#left = false;
    if (this.#state === "connecting" || this.#state === "connected" || this.#state === "interrupted") return;
    this.#wanted = undefined;
    this.#reconsider();
  }

  /** Leaves the session; the scene is gone then, and the session free for another device. */
  async disconnect(): Promise<void> {
    this.#left = true;
    this.#wanted = undefined;
    const connection = this.#connection;
    this.#attempt?.abort();
    await connection?.close();
    this.#reconsider();
  }

  /** Loads a model and resolves with its root. Waits for the connection; rejects if there will be none. */
  async loadModel(uri: string, options: ViewerLoadOptions = {}): Promise<Entity> {
    const connection = await abortable(this.whenConnected(), options.signal, "Loading the model");
    const { scene } = connection;
    const first = ![...scene].some((entity) => entity.hasMesh);
    this.#loads++;
    this.#say("Loading the model…");
    try {
      const root = await scene.loadModel(uri, {
        ...(options.parent && { parent: options.parent }),
        ...(options.signal && { signal: options.signal }),
        onProgress: (progress) => {
          this.#parts.progress.value = progress.fraction;
          options.onProgress?.(progress);
        },
      });
      if (connection === this.#connection) await ((options.fit ?? first) ? this.fit() : this.#knowBounds());
      return root;
    } finally {
      this.#loads--;
      if (this.#state === "connected") this.#say(this.#loads > 0 ? "Loading the model…" : undefined);
    }
  }

  /** Moves the camera so that all of the scene is seen. */
  async fit(): Promise<void> {
    const move = ++this.#moves;
    const connection = this.#connection;
    const bounds = await this.#bounds();
    if (move !== this.#moves || connection !== this.#connection) return;
    this.camera.frame(bounds, this.#aspect());
    this.#sendView();
  }

  /** Brings an entity or a box into view, or puts the camera where it shall be. */
  async lookAt(target: LookTarget): Promise<void> {
    const move = ++this.#moves;
    if (target instanceof Entity || "min" in target) {
      const connection = this.#connection;
      const box = target instanceof Entity ? target : ({ min: [...target.min], max: [...target.max] } as const);
      const all = await this.#bounds();
      const bounds = box instanceof Entity ? await box.bounds() : (box as Bounds);
      if (!bounds || move !== this.#moves || connection !== this.#connection) return;
      this.camera.frame(bounds, this.#aspect());
      // Clip planes follow from all that can be seen, not only from what is looked at.
      if (all) this.camera.setBounds(unionBounds([all, bounds]));
    } else this.camera.lookFrom(target.position, target.target);
    this.#sendView();
  }

  /** Sends where the camera is: after its members were set. */
  refresh(): void {
    this.#moves++;
    this.#sendView();
  }

  #sendView(): void {
    this.#connection?.setPose(this.camera.view(this.#aspect()));
    this.#tell("camerachange", this.camera);
  }

  /** What lies at a place of the page, as of a pointer event. */
  async pick(place: { clientX: number; clientY: number }, options: RayOptions = {}): Promise<RayHits> {
    const connection = this.#live();
    const box = this.#parts.video.getBoundingClientRect();
    const aspect = this.#aspect();
    // Where the picture does not fill the element it stands in the middle.
    const width = this.autoresize ? box.width : Math.min(box.width, box.height * aspect);
    const height = this.autoresize ? box.height : Math.min(box.height, box.width / aspect);
    const x = (place.clientX - box.left - (box.width - width) / 2) / Math.max(1, width);
    const y = (place.clientY - box.top - (box.height - height) / 2) / Math.max(1, height);
    if (x < 0 || x > 1 || y < 0 || y > 1) return { hits: [], complete: true };
    const { start, end } = this.camera.ray(x, y, aspect);
    return connection.scene.castRay(start, end, { policy: "closestHit", ...options });
  }

  /** The picture as it is on the screen. */
  async screenshot(options: ScreenshotOptions = {}): Promise<Blob> {
    const connection = this.#live();
    if (options.sharp ?? true) await this.#sharp(connection, options);
    // Where the browser makes no video tracks the pictures of a WebSocket lie on a canvas over the video.
    const drawn = this.#parts.stage.querySelector("canvas");
    const source = drawn ?? this.#parts.video;
    const canvas = document.createElement("canvas");
    canvas.width = drawn ? drawn.width : this.#parts.video.videoWidth;
    canvas.height = drawn ? drawn.height : this.#parts.video.videoHeight;
    // Just after coming back the element may know the size of a picture that it does not have yet.
    if (canvas.width === 0 || (!drawn && this.#parts.video.readyState < HAVE_CURRENT_DATA))
      throw new FarframeError("SessionNotReady", "No picture has arrived yet.");
    const context = canvas.getContext("2d");
    if (!context) throw new FarframeError("Fail", "The browser makes no canvas.");
    context.drawImage(source, 0, 0);
    const blob = await new Promise<Blob | null>((resolve) =>
      canvas.toBlob(resolve, options.type ?? "image/png", options.quality),
    );
    if (!blob) throw new FarframeError("Fail", "The browser could not write the picture.");
    return blob;
  }

  override addEventListener<K extends keyof FarframeViewerEventMap>(
    type: K,
    listener: (this: FarframeViewerElement, event: FarframeViewerEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: HTMLElement, event: HTMLElementEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(type: string, listener: unknown, options?: boolean | AddEventListenerOptions): void {
    super.addEventListener(type, listener as EventListener, options);
  }

  // The life of the element -------------------------------------------------------------------------------------

  /** @internal */
  connectedCallback(): void {
    this.#controls ??= new OrbitControls(this.camera, this.#parts.stage, {
      onChange: () => {
        if (!this.watch) this.#sendView();
      },
      onFit: () => void this.fit().catch(() => undefined),
    });
    this.#observer ??= new ResizeObserver(() => this.#resized());
    this.#observer.observe(this);
    this.#schedule();
  }

  /** @internal */
  disconnectedCallback(): void {
    // Whoever moves an element takes it out and puts it in again within one turn: that shall cost no connection.
    this.#schedule();
  }

  /** @internal */
  attributeChangedCallback(name: string): void {
    if (name === "label") this.#label();
    else if (name === "model") this.#loadAttribute();
    else if (name === "autoresize" || name === "width" || name === "height") this.#resized();
    else {
      this.#left = false;
      this.#schedule();
    }
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#reconsider();
    });
  }

  /** Connects, leaves or does nothing: whatever attributes and place ask for. */
  #reconsider(): void {
    const complete = this.isConnected && !this.#left && this.account && this.session && this.#tokenProvider;
    const wanted = complete
      ? JSON.stringify([this.endpoint, this.account, this.session, this.way, this.renderMode, this.watch])
      : undefined;
    if (!this.isConnected) {
      this.#controls?.dispose();
      this.#controls = undefined;
      this.#observer?.disconnect();
      this.#observer = undefined;
    }
    if (wanted === this.#wanted) return;
    this.#wanted = wanted;
    this.#attempt?.abort();
    this.#attempt = undefined;
    if (wanted === undefined) {
      if (this.#state === "connecting") this.#setState("idle");
      return;
    }
    const attempt = new AbortController();
    this.#attempt = attempt;
    void this.#connectThrough(attempt.signal);
  }

  /** One connection, from the token to its end. */
  async #connectThrough(signal: AbortSignal): Promise<void> {
    this.#error = undefined;
    if (this.#attempted) {
      this.#ready.reject(cancelled("Connecting"));
      this.#ready = Promise.withResolvers<Connection>();
      this.#quiet(this.#ready.promise);
    }
    // Who waited before the first attempt waits for that.
    this.#attempted = true;
    const ready = this.#ready;
    this.#setState("connecting");
    this.#say("Connecting…");
    let connection: Connection | undefined;
    let error: FarframeError;
    try {
      await this.#leaving;
      connection = await this.#open(signal);
      if (signal.aborted) {
        await connection.close();
        throw cancelled("Connecting");
      }
      const ended = connection.once("closed");
      this.#follow(connection, signal);
      this.#connection = connection;
      ready.resolve(connection);
      this.#setState("connected");
      this.#say();
      this.#sendView();
      this.#tell("connected", { connection, info: connection.info });
      this.#loadAttribute(true);
      this.#resized();
      error = await ended;
    } catch (thrown) {
      error = toFarframeError(thrown, "Connecting");
      ready.reject(error);
      if (!signal.aborted) this.#tell("error", error);
    }
    if (this.#connection === connection) this.#connection = undefined;
    this.#modelLoad?.abort.abort();
    this.#modelLoad = undefined;
    // Another attempt has begun, and tells of itself.
    if (this.#attempt !== undefined && this.#attempt.signal !== signal) {
      this.#tell("disconnected", { reason: error.result, message: error.message, error });
      return;
    }
    this.#error = error;
    if (connection) {
      this.#ready = Promise.withResolvers<Connection>();
      this.#quiet(this.#ready.promise);
      this.#ready.reject(error);
    }
    this.#setState("disconnected");
    const left = error.result === "DisconnectRequest" || error.result === "Cancelled";
    this.#say(left ? "Not connected." : error.message, left ? "" : error.nextStep, true);
    this.#tell("disconnected", { reason: error.result, message: error.message, error });
  }

  async #open(signal: AbortSignal): Promise<Connection> {
    const tokens = new TokenSource((request) => {
      if (!this.#tokenProvider) throw new FarframeError("AuthenticationFailed", "There is no token provider.");
      return this.#tokenProvider(request);
    });
    const management = new ManagementClient({ endpoint: this.endpoint, accountId: this.account, token: tokens });
    const id = this.session;
    await management.waitUntilReady(id, {
      signal,
      intervalMilliseconds: 1000,
      onChange: (session) => {
        if (session.status === "Starting") this.#say("The render server is starting…");
      },
    });
    const way = this.way;
    const mayTurn = way === "auto" || way === "turn";
    // What is wrong with the session the handshake says better.
    const iceServers = mayTurn ? await management.iceServers(id, { signal }).catch(() => []) : [];
    return Connection.connect({
      url: management.whepUrl(id),
      token: tokens,
      way,
      iceServers,
      ...(this.watch ? { watch: true } : { renderMode: this.renderMode }),
      client: "farframe-viewer",
      signal,
      ...this.#size(),
    });
  }

  #follow(connection: Connection, signal: AbortSignal): void {
    const detach = connection.attach(this.#parts.video);
    connection.on("closed", detach);
    const leave = (): void => {
      this.#leaving = connection.close();
    };
    signal.addEventListener("abort", leave, { once: true });
    connection.on("closed", () => signal.removeEventListener("abort", leave));
    connection.on("state", (state) => {
      if (state !== "connected" && state !== "interrupted") return;
      this.#setState(state);
      this.#say(state === "interrupted" ? "The connection was interrupted; trying again…" : undefined);
    });
    connection.on("resumed", () => this.#resized());
    // Clip distances hold what is where it is by now, a few times a second while it moves.
    connection.scene.on("moved", () => {
      // Never anew before the answer: a scene of many roots takes as long as it takes.
      this.#boundsTimer ??= setTimeout(
        () => void this.#boundsKnown.then(() => this.#knowBounds()),
        BOUNDS_DELAY_MILLISECONDS,
      );
    });
    connection.on("closed", () => this.#forgetBoundsTimer());
    connection.on("statistics", (statistics) => this.#tell("statistics", statistics));
    connection.on("frame", (entry) => this.#tell("frame", entry));
  }

  #live(): Connection {
    if (!this.#connection) {
      throw new FarframeError("SessionNotReady", "The viewer is not connected.", {
        nextStep: "Wait for the event connected, or for whenConnected().",
      });
    }
    return this.#connection;
  }

  /** Loads what the attribute names in place of what it named before. */
  #loadAttribute(anew = false): void {
    const uri = this.model;
    if (!this.#connection || (!anew && uri === this.#modelLoad?.uri)) return;
    this.#modelLoad?.abort.abort();
    if (this.#modelLoad?.root?.valid) this.#modelLoad.root.destroy();
    this.#modelLoad = undefined;
    if (!uri) return;
    const load = { uri, abort: new AbortController(), root: undefined as Entity | undefined };
    this.#modelLoad = load;
    this.loadModel(uri, { signal: load.abort.signal, fit: true }).then(
      (root) => {
        load.root = root;
        if (load.abort.signal.aborted && root.valid) root.destroy();
      },
      (thrown: unknown) => {
        if (load.abort.signal.aborted) return;
        const error = toFarframeError(thrown, "Loading the model");
        this.#say(error.message, error.nextStep);
        this.#parts.progress.hidden = true;
        this.#tell("error", error);
      },
    );
  }

  /** Until all that was set is on the screen, in full quality. */
  async #sharp(connection: Connection, options: ScreenshotOptions): Promise<void> {
    const { signal, patienceMilliseconds = SHARP_PATIENCE_MILLISECONDS } = options;
    await abortable(connection.scene.flush(), signal, "The screenshot");
    if (this.#boundsTimer !== undefined) void this.#knowBounds();
    await abortable(this.#boundsKnown, signal, "The screenshot");
    try {
      await connection.waitForStill({
        ...(signal && { signal }),
        timeoutMilliseconds: patienceMilliseconds,
      });
    } catch (error) {
      // Where something never comes to rest there is no such picture: what is on the screen has to do.
      if (connection.error || signal?.aborted) throw error;
    }
  }

  async #bounds(): Promise<Bounds | undefined> {
    const roots = this.#connection?.scene.roots ?? [];
    const boxes = await Promise.all(roots.map((root) => root.bounds().catch(() => undefined)));
    return unionBounds(boxes.filter((box) => box !== undefined));
  }

  #knowBounds(): Promise<void> {
    this.#forgetBoundsTimer();
    this.#boundsKnown = this.#askBounds();
    return this.#boundsKnown;
  }

  async #askBounds(): Promise<void> {
    const asked = ++this.#boundsAsked;
    const connection = this.#connection;
    const bounds = connection && (await this.#bounds());
    if (!connection || asked !== this.#boundsAsked || connection !== this.#connection) return;
    const { near, far } = this.camera.clip();
    this.camera.setBounds(bounds);
    const now = this.camera.clip();
    if (now.near !== near || now.far !== far) this.#sendView();
  }

  #forgetBoundsTimer(): void {
    clearTimeout(this.#boundsTimer);
    this.#boundsTimer = undefined;
  }

  #size(): { width: number; height: number } {
    const connection = this.#connection;
    if (!this.autoresize) {
      const number = (name: string, otherwise: number): number => {
        const value = Number(this.getAttribute(name) ?? otherwise);
        return Number.isFinite(value) && value >= 16 ? value : otherwise;
      };
      return { width: number("width", DEFAULT_WIDTH), height: number("height", DEFAULT_HEIGHT) };
    }
    const limits = connection
      ? { ...connection.info, adapterKind: connection.info.server.adapterKind }
      : CAUTIOUS_LIMITS;
    return pictureSize(this.clientWidth, this.clientHeight, devicePixelRatio, limits);
  }

  #aspect(): number {
    const { width, height } = this.autoresize
      ? { width: this.clientWidth, height: this.clientHeight }
      : (this.#connection?.video ?? this.#size());
    return Math.max(1, width) / Math.max(1, height);
  }

  #resized(): void {
    if (!this.#connection || this.watch) return;
    this.#sendView();
    clearTimeout(this.#resizeTimer);
    this.#resizeTimer = setTimeout(() => {
      const connection = this.#connection;
      if (!connection || connection.state === "closed") return;
      const size = this.#size();
      if (size.width === connection.video.width && size.height === connection.video.height) return;
      // The old size stays on the screen when this fails; the end of a connection is told elsewhere.
      connection.configureVideo(size).then(
        () => this.#sendView(),
        () => undefined,
      );
    }, RESIZE_DELAY_MILLISECONDS);
  }

  #setState(state: ViewerState): void {
    this.#parts.stage.setAttribute("aria-busy", String(state === "connecting" || state === "interrupted"));
    if (this.#state === state) return;
    this.#state = state;
    this.#tell("statechange", state);
  }

  /** Shows what goes on, or nothing; `retry`: with a button that connects again. */
  #say(message?: string, hint = "", retry = false): void {
    this.#parts.status.setAttribute("role", retry ? "alert" : "status");
    this.#parts.status.hidden = message === undefined;
    this.#parts.message.textContent = message ?? "";
    this.#parts.hint.textContent = hint;
    this.#parts.hint.hidden = hint === "";
    this.#parts.retry.hidden = !retry;
    this.#parts.progress.hidden = retry || this.#loads === 0;
    this.#parts.progress.removeAttribute("value");
  }

  #label(): void {
    this.#parts.stage.setAttribute("aria-label", this.label);
  }

  #tell<K extends keyof FarframeViewerEventMap>(type: K, detail: FarframeViewerEventMap[K]["detail"]): void {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** A promise that somebody may wait for, or nobody. */
  #quiet(promise: Promise<unknown>): void {
    promise.catch(() => undefined);
  }
}

function isRenderMode(text: string): text is RenderModeChoice {
  return (RENDER_MODE_CHOICES as readonly string[]).includes(text);
}

declare global {
  interface HTMLElementTagNameMap {
    "farframe-viewer": FarframeViewerElement;
  }
}
