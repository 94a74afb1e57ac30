/**
 * A connection to a render server: video in, poses and commands out.
 *
 *     connecting ──► connected ◄──► interrupted
 *          └──────────────┴──────────────┴──► closed (with the error that says why)
 *
 * A connection that is lost, or whose network changes, is made anew with the server's resume secret, and finds its scene
 * again: `resumed`. What was asked before and not answered has failed then; what is asked meanwhile waits. A closed
 * connection stays closed; to reconnect, connect again.
 */

import { abortable } from "./abortable.ts";
import { ClockAlignment, nowMicroseconds } from "./clock.ts";
import {
  type ConnectionEvents,
  type ConnectionState,
  type ConnectionStatistics,
  type ConnectOptions,
  checkRenderMode,
  evenSize,
} from "./connect_options.ts";
import { cancelled, FarframeError, isResult, nextStepOf, toFarframeError } from "./errors.ts";
import { Emitter } from "./events.ts";
import { Ledger, type LedgerEntry } from "./ledger.ts";
import {
  type ConnectionInfo,
  type LoadedModel,
  type LoadProgress,
  PROTOCOL_VERSION,
  type RenderMode,
  type SceneDescription,
  type SceneSettings,
  type ServerStatistics,
  type VideoSettings,
} from "./messages.ts";
import { type FrameStatistics, frameStatistics, type PerformanceAssessment } from "./performance.ts";
import { PoseSender } from "./pose_sender.ts";
import { decodeFrame, type FrameRecord, type View } from "./records.ts";
import { FrameReporter } from "./reports.ts";
import { type RequestOptions, RpcPeer } from "./rpc.ts";
import type { TextureInfo, TextureKind } from "./scene/materials.ts";
import { Scene, type TextureLoadOptions } from "./scene/scene.ts";
import { StillTracker } from "./still.ts";
import { TokenSource, withToken } from "./tokens.ts";
import type { Transport, TransportEvents, Way } from "./transport.ts";
import { type FoundWay, findWay, type WayOpeners } from "./ways.ts";
import { type Fetch, GOODBYE_MILLISECONDS } from "./whep.ts";

const DEFAULT_TIMEOUT_MILLISECONDS = 20_000;
const PING_INTERVAL_MILLISECONDS = 1000;
const INTERRUPTED_AFTER_MILLISECONDS = 2500;
const LOST_AFTER_MILLISECONDS = 5000;
/** A page whose timer comes later than that stood still itself, and has not read yet what came meanwhile. */
const STOOD_STILL_MILLISECONDS = 1500;
/** So long it then reads before it judges the silence. */
const CATCH_UP_MILLISECONDS = 250;
/** How soon a ping must be answered after the network has changed. */
const PROOF_MILLISECONDS = 600;
/** Pauses before the attempts to come back; the last one again and again. */
const PAUSES_MILLISECONDS = [0, 150, 300, 600, 1200, 2000];
const ATTEMPT_MILLISECONDS = 8000;
const WATCHER_PATIENCE_MILLISECONDS = 30_000;
/** What no further attempt would change. */
const REFUSED: ReadonlySet<string> = new Set([
  "AuthenticationFailed",
  "NothingToResume",
  "OtherSessionConnected",
  "ProtocolVersionMismatch",
  "SessionStopped",
  "SessionExpired",
  "WatchingOnly",
]);
const REQUEST_TIMEOUT_MILLISECONDS = 10_000;
/** How long the picture of full quality is waited for, unless told otherwise. */
const STILL_MILLISECONDS = 30_000;
/** How long a clean close waits for the server's answer. */
const CLOSE_GRACE_MILLISECONDS = 300;

export class Connection extends Emitter<ConnectionEvents> {
  readonly ledger: Ledger;
  readonly clock = new ClockAlignment();
  /** The entities: what is loaded and made, and where and how it is drawn. */
  readonly scene: Scene;

  #transport: Transport | undefined;
  /** Names the present line: what a former one still says is not listened to. */
  #line = 0;
  /** Closed once there is another: closing says goodbye, and should that get through, the scene would be gone. */
  #former: Transport[] = [];
  #options: ConnectOptions | undefined;
  #tokens = new TokenSource("");
  readonly #still = new StillTracker();
  readonly #attached = new Set<{ video: HTMLVideoElement; detach: (() => void) | undefined }>();
  /** Resolves when an interruption is over. */
  #back: Promise<void> | undefined;
  /** After one, resolves when what nobody knows of has been taken out. */
  #tidying: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #driver = true;
  #reason = "";
  readonly #openers: WayOpeners | undefined;
  readonly #rpc: RpcPeer;
  readonly #poses: PoseSender;
  readonly #reports: FrameReporter;
  readonly #progress = new Map<string, (progress: LoadProgress) => void>();
  /** The models that this device has heard of; what else there is after an interruption, nobody knows of. */
  readonly #models = new Set<number>();
  readonly #disposal = new AbortController();
  /** Aborts with the error when all has been told. */
  readonly #ended = new AbortController();
  #info: ConnectionInfo | undefined;
  #video: VideoSettings | undefined;
  #videoAsked = 0;
  #videoTold = 0;
  /** Whether a texture was asked for since the line was made: its answer may be lost with that. */
  #texturesAsked = false;
  #state: ConnectionState = "connecting";
  #error: FarframeError | undefined;
  #record: FrameRecord | undefined;
  #statistics: ConnectionStatistics | undefined;
  #progressCount = 0;
  #heardAt = performance.now();
  #tickedAt = performance.now();
  #disturbed = false;
  #lastBytes: { at: number; bytes: number } | undefined;

  private constructor(openers: WayOpeners | undefined) {
    super();
    this.#openers = openers;
    this.ledger = new Ledger(() => this.clock.offsetMicroseconds);
    this.#rpc = new RpcPeer((text) => {
      if (!this.#transport) throw new FarframeError("ConnectionLost", "There is no connection at present.");
      this.#transport.sendControl(text);
    });
    this.#poses = new PoseSender({
      send: (bytes) => this.#transport?.sendPose(bytes),
      bufferedBytes: () => this.#transport?.poseBacklog() ?? 0,
      requestFrame: (callback) => requestAnimationFrame(callback),
      setTimer: (callback, milliseconds) => setTimeout(callback, milliseconds),
      clearTimer: (timer) => clearTimeout(timer),
    });
    this.#reports = new FrameReporter(
      {
        send: (bytes) => this.#transport?.sendPose(bytes),
        setTimer: (callback, milliseconds) => setTimeout(callback, milliseconds),
        clearTimer: (timer) => clearTimeout(timer),
      },
      this.clock,
    );
    this.scene = new Scene({
      request: (method, params, options) => this.#rpc.request(method, params, options),
      ready: async () => {
        while (this.#back) await this.#back;
      },
      sendRecord: (bytes) => this.#transport?.sendPose(bytes),
      load: (uri, parent, { parent: _, ...options }) => this.loadModel(uri, { ...options, parent }),
      loadTexture: (uri, kind, options) => this.#loadTexture(uri, kind, options),
    });
    this.#listen();
  }

  /** Connects: handshake, channels, `connection.open`. Rejects with a {@link FarframeError}, leaving nothing behind. */
  static async connect(options: ConnectOptions): Promise<Connection> {
    return Connection.connectWith(options);
  }

  /** The same, over transports of another make. @internal */
  static async connectWith(options: ConnectOptions, openers?: WayOpeners): Promise<Connection> {
    checkRenderMode(options);
    const connection = new Connection(openers);
    try {
      await connection.#open(options);
    } catch (error) {
      const failure = toFarframeError(error, "Connecting");
      const transport = connection.#transport;
      connection.#finish(failure);
      void transport?.end();
      throw failure;
    }
    return connection;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /**
   * The next event of that name; rejects with the reason when the connection ends before it, or with that of `signal`.
   * `closed` resolves at once if it has.
   */
  override once<K extends keyof ConnectionEvents>(name: K, signal?: AbortSignal): Promise<ConnectionEvents[K]> {
    if (name === "closed" && this.#error) return Promise.resolve(this.#error as ConnectionEvents[K]);
    return super.once(name, signal ? AbortSignal.any([signal, this.#ended.signal]) : this.#ended.signal);
  }

  /** What the server said when the connection opened. */
  get info(): ConnectionInfo {
    if (!this.#info) throw new FarframeError("SessionNotReady", "The connection is not open yet.");
    return this.#info;
  }

  /** The picture as it is being sent. */
  get video(): VideoSettings {
    return this.#video ?? this.info.video;
  }

  /** The render mode of Azure Remote Rendering that this device drives in; undefined for who watches, and from older servers. */
  get renderMode(): RenderMode | undefined {
    return this.info.renderMode;
  }

  /** Why the connection ended; undefined while it lives. */
  get error(): FarframeError | undefined {
    return this.#error;
  }

  /** Whether a device drives; for one that watches, without it nothing moves. */
  get driven(): boolean {
    return this.#driver;
  }

  /** Whether this device only watches. */
  get watching(): boolean {
    return this.#info?.role === "viewer";
  }

  /** The newest record of a frame. */
  get lastRecord(): FrameRecord | undefined {
    return this.#record;
  }

  /** The statistics of the last second; undefined in the first. */
  get statistics(): ConnectionStatistics | undefined {
    return this.#statistics;
  }

  /** By which way the stream travels, and why. */
  get way(): Way {
    if (!this.#transport) throw new FarframeError("SessionNotReady", "The connection is not open yet.");
    const { kind, relayed } = this.#transport;
    const roundTrip = this.clock.roundTripMicroseconds;
    const roundTripMilliseconds = roundTrip === undefined ? undefined : roundTrip / 1000;
    return { kind, relayed, reason: this.#reason, roundTripMilliseconds };
  }

  /** The video; {@link attach} shows it. */
  get stream(): MediaStream {
    if (!this.#transport) throw new FarframeError("SessionNotReady", "The connection is not open yet.");
    return this.#transport.stream;
  }

  /** The id of the last pose sent; 0 before the first. */
  get poseId(): number {
    return this.#poses.poseId;
  }

  /** Shows the video in `video` and keeps the ledger of its frames, until the connection ends or the returned function runs. */
  attach(video: HTMLVideoElement): () => void {
    video.muted = true;
    video.playsInline = true;
    video.autoplay = true;
    const place: { video: HTMLVideoElement; detach: (() => void) | undefined } = { video, detach: undefined };
    this.#attached.add(place);
    this.#show(place);
    return () => {
      this.#attached.delete(place);
      place.detach?.();
    };
  }

  /**
   * Resolves with the first frame on an attached video that shows the newest pose and all that was loaded or changed so far,
   * in full quality. Rejects with the first change that was refused (see {@link Scene.flush}), with `Cancelled`, with `Fail`
   * after so many milliseconds, 30,000 by default, and with the end of the connection.
   */
  async waitForStill(options: { signal?: AbortSignal; timeoutMilliseconds?: number } = {}): Promise<LedgerEntry> {
    const { signal, timeoutMilliseconds = STILL_MILLISECONDS } = options;
    const what = "Waiting for the picture of full quality";
    await this.#flushSurely(signal, what);
    if (this.#error) throw this.#error;
    const until = new AbortController();
    try {
      return await new Promise((resolve, reject) => {
        const look = (): void => {
          const { poseId, waits: poseWaits } = this.#poses;
          const { width, height } = this.video;
          const { answeredMicroseconds } = this.#rpc;
          const shown = this.#still.shows({ poseId, poseWaits, width, height, answeredMicroseconds });
          if (shown) resolve(shown);
        };
        this.on("frame", look, until.signal);
        this.on("closed", reject, until.signal);
        const late = new FarframeError("Fail", `No picture of full quality came within ${timeoutMilliseconds} ms.`, {
          nextStep: "Wait longer, or ask for a smaller picture.",
        });
        const timer = setTimeout(() => reject(late), timeoutMilliseconds);
        until.signal.addEventListener("abort", () => clearTimeout(timer));
        signal?.addEventListener("abort", () => reject(cancelled(what)), { signal: until.signal });
        if (signal?.aborted) reject(cancelled(what));
        look();
      });
    } finally {
      until.abort();
    }
  }

  /** As {@link Scene.flush}, also across an interruption: what was not answered is sent once more over the next line. */
  async #flushSurely(signal: AbortSignal | undefined, what: string): Promise<void> {
    for (;;) {
      try {
        await abortable(this.scene.flush(), signal, what);
        return;
      } catch (error) {
        if (!this.#back || signal?.aborted) throw error;
        await abortable(this.#back, signal, what);
      }
    }
  }

  #shownAs(entry: LedgerEntry | undefined): void {
    // Who hears of a frame takes it for what is on the screen: where things are, and whether they are at rest.
    if (entry && this.#still.add(entry)) this.emit("frame", entry);
  }

  #show(place: { video: HTMLVideoElement; detach: (() => void) | undefined }): void {
    if (this.#error) return;
    place.detach = this.#transport?.attach(place.video, (shown) => {
      if (!this.watching) this.#reports.add(shown);
      this.#shownAs(this.ledger.addShown(shown));
    });
    // Interrupted by a later attach, or refused until a gesture: autoplay of muted video starts it then.
    place.video.play().catch(() => undefined);
  }

  /**
   * Whether the server draws for where the views will be when the frame is shown. For a head that moves by itself; off for
   * a mouse, whose movement stops as suddenly as the hand does.
   */
  set predictPoses(predict: boolean) {
    this.#poses.predict = predict;
  }

  get predictPoses(): boolean {
    return this.#poses.predict;
  }

  /** Where the device is now: one view, or two for stereo. Sent at the next animation frame if it changed. */
  setPose(...views: View[]): void {
    if (this.#options?.watch) return;
    this.#poses.set(views);
  }

  /**
   * Loads a model by URI, below the entity `parent` if any. Aborting the signal cancels the load at the server. To move,
   * hide or colour its parts, load it by {@link Scene.loadModel} of {@link scene}.
   */
  async loadModel(
    uri: string,
    options: { signal?: AbortSignal; onProgress?: (progress: LoadProgress) => void; parent?: number } = {},
  ): Promise<LoadedModel> {
    const params = { uri, ...(options.parent && { parent: options.parent }) };
    const loaded = (result: unknown): LoadedModel => {
      const model = { warnings: [], ...(result as object) } as unknown as LoadedModel;
      this.#models.add(model.modelId);
      return model;
    };
    return loaded(await this.#load("scene.loadModel", params, options, (result) => this.scene.discard(loaded(result))));
  }

  async #loadTexture(uri: string, kind: TextureKind, options: TextureLoadOptions): Promise<TextureInfo> {
    const discard = (result: unknown): void => this.scene.discardTexture(result as TextureInfo);
    return (await this.#load("scene.loadTexture", { uri, kind }, options, discard)) as TextureInfo;
  }

  async #load(
    method: string,
    params: object,
    options: { signal?: AbortSignal; onProgress?: (progress: LoadProgress) => void },
    discard: (result: unknown) => void,
  ): Promise<unknown> {
    const { signal } = options;
    // While there is a line nothing is awaited: what is sent in one turn goes out in its order.
    for (let wait = this.#back ?? this.#tidying; wait; wait = this.#back ?? this.#tidying) {
      await abortable(wait, signal, "Loading");
    }
    if (method === "scene.loadTexture") this.#texturesAsked = true;
    const progressToken = `load-${++this.#progressCount}`;
    if (options.onProgress) this.#progress.set(progressToken, options.onProgress);
    try {
      const cancellation = signal ? { signal } : {};
      const asked = { ...params, progressToken };
      const result = await this.#rpc.request(method, asked, { ...cancellation, onLateResult: discard });
      if (signal?.aborted) {
        // It was done before the server heard of the end: whoever aborted does not expect anything any more.
        discard(result);
        throw cancelled("Loading");
      }
      return result;
    } finally {
      this.#progress.delete(progressToken);
    }
  }

  /** Removes a model from the scene. */
  async unloadModel(modelId: number): Promise<void> {
    await this.scene.sent();
    await this.#call("scene.unloadModel", { modelId });
    this.scene.forget(modelId);
  }

  /** Removes all models and entities from the scene. */
  async clearScene(): Promise<void> {
    await this.scene.sent();
    this.scene.forget();
    await this.#call("scene.clear");
  }

  /** Changes light and background; resolves with the settings as they are then. */
  async configureScene(settings: SceneSettings): Promise<SceneSettings> {
    return (await this.#call("scene.configure", settings)) as SceneSettings;
  }

  /** Changes the picture; resolves with what the server will send. Sizes are made even and kept within its limits. */
  async configureVideo(settings: Partial<VideoSettings>): Promise<VideoSettings> {
    const asked = ++this.#videoAsked;
    const params = { ...settings };
    if (settings.width !== undefined) params.width = Math.min(evenSize(settings.width), this.info.maxWidth);
    if (settings.height !== undefined) params.height = Math.min(evenSize(settings.height), this.info.maxHeight);
    const video = (await this.#call("video.configure", params)) as VideoSettings;
    // Answers may come in another order: what was asked for last holds.
    if (asked > this.#videoTold) {
      this.#videoTold = asked;
      this.#video = video;
    }
    return video;
  }

  /** The server's own view of the last second. */
  async serverStatistics(): Promise<ServerStatistics> {
    return (await this.#call("statistics.get")) as ServerStatistics;
  }

  /** How the server does, with ratings, over about a second. */
  async performanceAssessment(): Promise<PerformanceAssessment> {
    return (await this.#call("performance.assess")) as PerformanceAssessment;
  }

  /** What this device saw of the stream in the last second, in seconds. Asks nobody; empty unless a video is attached. */
  frameStatistics(): FrameStatistics {
    const now = performance.now();
    return frameStatistics(this.ledger.entries, this.ledger.skipped(now), now);
  }

  /** Ends the connection and frees the session for the next device. Never rejects. */
  close(): Promise<void> {
    this.#closing ??= this.#leave();
    return this.#closing;
  }

  async #leave(): Promise<void> {
    if (this.#state === "closed") return;
    const transport = this.#transport;
    if (transport?.open) {
      await this.#rpc
        .request("connection.close", {}, { timeoutMilliseconds: CLOSE_GRACE_MILLISECONDS })
        .catch(() => undefined);
    }
    const away = this.#back !== undefined;
    this.#finish(new FarframeError("DisconnectRequest", "The connection was closed."));
    await transport?.end();
    if (away) await this.#giveUp();
  }

  /** The server keeps the scene for a device that will not come back: say so. */
  async #giveUp(keepalive = false): Promise<void> {
    const options = this.#options;
    const secret = this.#info?.resumeSecret;
    if (!options || !secret) return;
    const headers = { Authorization: `Bearer ${this.#tokens.last}`, "Farframe-Resume": secret };
    const signal = AbortSignal.timeout(GOODBYE_MILLISECONDS);
    await (options.fetch ?? fetch)(options.url, { method: "DELETE", headers, keepalive, signal }).catch(
      () => undefined,
    );
  }

  async #call(method: string, params: object = {}, options: RequestOptions = {}): Promise<unknown> {
    // What was asked for counts, whatever the page does with its object while there is no line.
    const asked = this.#back ? structuredClone(params) : params;
    while (this.#back) await this.#back;
    return this.#rpc.request(method, asked, { timeoutMilliseconds: REQUEST_TIMEOUT_MILLISECONDS, ...options });
  }

  async #open(options: ConnectOptions): Promise<void> {
    this.#options = options;
    this.#tokens = options.token instanceof TokenSource ? options.token : new TokenSource(options.token);
    const limit = options.timeoutMilliseconds ?? DEFAULT_TIMEOUT_MILLISECONDS;
    await this.#makeLine(options, limit, undefined, options.signal);
    this.#heardAt = performance.now();
    this.#setState("connected");
    void this.#ping();
    this.#tickedAt = performance.now();
    const timer = setInterval(() => this.#tick(), PING_INTERVAL_MILLISECONDS);
    this.#disposal.signal.addEventListener("abort", () => clearInterval(timer), { once: true });
    const signal = this.#disposal.signal;
    const changed = (): void => void this.#prove();
    globalThis.addEventListener?.("online", changed, { signal });
    const network = (globalThis.navigator as (Navigator & { connection?: EventTarget }) | undefined)?.connection;
    network?.addEventListener?.("change", changed, { signal });
  }

  /** Connects and opens the connection. */
  async #makeLine(
    options: ConnectOptions,
    limit: number,
    resumeSecret: string | undefined,
    cancellation: AbortSignal | undefined,
  ): Promise<void> {
    const line = ++this.#line;
    const deadline = AbortSignal.timeout(limit);
    const signal = AbortSignal.any([deadline, this.#disposal.signal, ...(cancellation ? [cancellation] : [])]);
    try {
      const fetcher: Fetch = options.fetch ?? ((input, init) => fetch(input, init));
      const find = (token: string): Promise<FoundWay> =>
        findWay(
          {
            url: options.url,
            streamUrls: options.streamUrls,
            token,
            lastToken: () => this.#tokens.last,
            iceServers: options.iceServers,
            way: options.way ?? "auto",
            watch: options.watch ?? false,
            resumeSecret,
            fetch: fetcher,
            signal,
          },
          this.#events(line),
          this.#openers,
        );
      const found = await withToken(this.#tokens, find, signal);
      if (signal.aborted) {
        // It got through just when nobody wanted it any more.
        found.transport.close();
        await found.transport.end();
        throw cancelled("Connecting");
      }
      this.#transport = found.transport;
      this.#reason = found.reason;
      const info = (await this.#rpc.request(
        "connection.open",
        {
          protocol: PROTOCOL_VERSION,
          client: options.client ?? "@farframe/client",
          width: this.#video?.width ?? evenSize(options.width),
          height: this.#video?.height ?? evenSize(options.height),
          maxFramesPerSecond: this.#video?.maxFramesPerSecond ?? options.maxFramesPerSecond ?? 60,
          ...(options.renderMode !== undefined && { renderMode: options.renderMode }),
        },
        { timeoutMilliseconds: REQUEST_TIMEOUT_MILLISECONDS, signal },
      )) as ConnectionInfo;
      if (info.protocol !== PROTOCOL_VERSION) {
        throw new FarframeError(
          "ProtocolVersionMismatch",
          `The server speaks protocol ${info.protocol}, this client ${PROTOCOL_VERSION}.`,
          { nextStep: nextStepOf("ProtocolVersionMismatch") },
        );
      }
      this.#info = info;
      this.#video = info.video;
      this.#driver = info.driver ?? true;
    } catch (error) {
      if (this.#error) throw this.#error;
      if (cancellation?.aborted) throw cancelled("Connecting");
      if (deadline.aborted) {
        throw new FarframeError(
          this.#transport ? "ConnectionLost" : "HandshakeFailed",
          `The connection was not made within ${limit / 1000} seconds.`,
          { nextStep: nextStepOf("ConnectionLost") },
        );
      }
      throw error;
    }
  }

  /** The network may have changed: unless the server answers right away, the connection is made anew. */
  async #prove(): Promise<void> {
    if (this.#back || !this.#info) return;
    const line = this.#line;
    try {
      const timeoutMilliseconds = PROOF_MILLISECONDS;
      const params = { clientTimeMicroseconds: nowMicroseconds() };
      await this.#rpc.request("connection.ping", params, { timeoutMilliseconds });
    } catch {
      if (line === this.#line && !this.#error) {
        this.#lose(
          new FarframeError(
            "ConnectionLost",
            "The network has changed, and the render server is not reached any more.",
            {
              nextStep: nextStepOf("ConnectionLost"),
            },
          ),
        );
      }
    }
  }

  /** The line is lost: make another, if the server keeps what there was. */
  #lose(error: FarframeError): void {
    if (this.#error) return;
    if (this.#back || this.#closing) {
      // That attempt fails, and another follows, or none: a line ends when the server has heard goodbye.
      this.#rpc.interrupt(error);
      return;
    }
    const returns = this.#options?.reconnect !== false && (this.watching || this.#info?.resumeSecret);
    if (!returns || !this.#info) {
      this.#finish(error);
      return;
    }
    const back = this.#comeBack(error).finally(() => {
      if (this.#back === back) this.#back = undefined;
    });
    this.#back = back;
    this.#rpc.interrupt(error);
    this.#setState("interrupted");
  }

  /** Makes lines until one holds, for as long as the server keeps what there was. Never rejects. */
  async #comeBack(error: FarframeError): Promise<void> {
    const options = this.#options;
    const info = this.#info;
    if (!options || !info) return;
    const patience = this.watching
      ? WATCHER_PATIENCE_MILLISECONDS
      : (info.resumeGraceSeconds ?? 0) * 1000 + LOST_AFTER_MILLISECONDS;
    const deadline = performance.now() + patience;
    this.#video = this.video;
    for (let attempt = 0; ; attempt++) {
      this.#line++;
      if (this.#transport) this.#former.push(this.#transport);
      this.#transport = undefined;
      const pause = PAUSES_MILLISECONDS[Math.min(attempt, PAUSES_MILLISECONDS.length - 1)];
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (this.#error) return;
      const left = deadline - performance.now();
      if (left <= 0) {
        this.#finish(error);
        return;
      }
      try {
        await this.#makeLine(options, Math.min(left, ATTEMPT_MILLISECONDS), info.resumeSecret, undefined);
        break;
      } catch (thrown) {
        if (this.#error) return;
        const failure = toFarframeError(thrown, "Coming back");
        if (REFUSED.has(failure.result)) {
          this.#finish(failure);
          return;
        }
      }
    }
    this.ledger.forgetUnmatched();
    this.#still.reset();
    this.#reports.forget();
    for (const place of this.#attached) {
      place.detach?.();
      this.#show(place);
    }
    for (const former of this.#former.splice(0)) former.close();
    this.#heardAt = performance.now();
    this.#disturbed = false;
    this.#lastBytes = undefined;
    this.#poses.repeat();
    this.#back = undefined;
    this.scene.resumed();
    const tidying = this.#tidyUp()
      .catch(() => undefined)
      .finally(() => {
        if (this.#tidying === tidying) this.#tidying = undefined;
      });
    this.#tidying = tidying;
    await tidying;
    if (this.#error || this.#back) return;
    this.#setState("connected");
    this.emit("resumed", this.info);
  }

  /** A load may have ended at the server just when the line broke: its caller was told that it failed. */
  async #tidyUp(): Promise<void> {
    if (this.watching) return;
    await this.#discardUnknownModels();
    if (!this.#texturesAsked) return;
    await this.scene.discardUnknownTextures((method, params) =>
      this.#rpc.request(method, params, { timeoutMilliseconds: REQUEST_TIMEOUT_MILLISECONDS }),
    );
    this.#texturesAsked = false;
  }

  async #discardUnknownModels(): Promise<void> {
    let found = this.#info?.scene;
    while (found) {
      for (const model of found.models) {
        if (!this.#models.has(model.modelId)) this.scene.discard(model);
      }
      const last = found.models.at(-1);
      if (!found.more || !last) return;
      const params = { afterModelId: last.modelId };
      const options = { timeoutMilliseconds: REQUEST_TIMEOUT_MILLISECONDS };
      found = (await this.#rpc.request("scene.describe", params, options)) as SceneDescription;
    }
  }

  /** What the transport of a line tells. */
  #events(line: number): TransportEvents {
    return {
      control: (text) => {
        if (line !== this.#line) return;
        this.#heard();
        try {
          this.#rpc.receive(text);
        } catch (error) {
          // Something is deeply wrong between the two sides; going on would hide it.
          this.#finish(toFarframeError(error, "The connection"));
        }
      },
      record: (bytes) => {
        if (line !== this.#line) return;
        this.#heard();
        this.#recordReceived(bytes);
      },
      disturbed: (disturbed) => {
        if (line !== this.#line) return;
        this.#disturbed = disturbed;
        if (disturbed && this.#state === "connected") this.#setState("interrupted");
        if (disturbed) void this.#prove();
      },
      lost: () => {
        // Before there is a transport, whoever looks for a way hears it himself.
        if (line !== this.#line || !this.#transport) return;
        this.#lose(
          new FarframeError("ConnectionLost", "The connection to the render server was lost.", {
            nextStep: nextStepOf("ConnectionLost"),
          }),
        );
      },
    };
  }

  #recordReceived(bytes: ArrayBuffer): void {
    let record: FrameRecord;
    try {
      record = decodeFrame(bytes);
    } catch (error) {
      const failure = toFarframeError(error);
      if (failure.result === "ProtocolVersionMismatch") this.#finish(failure);
      return;
    }
    this.#record = record;
    this.#poses.acknowledge(record.poseId);
    this.emit("record", record);
    this.#shownAs(this.ledger.addRecord(record));
  }

  #listen(): void {
    const signal = this.#disposal.signal;
    this.#rpc.onNotification("scene.loadProgress", (params) => {
      const { progressToken, stage, fraction } = params as {
        progressToken?: string;
        stage?: string;
        fraction?: number;
      };
      if (progressToken === undefined) return;
      this.#progress.get(progressToken)?.({
        stage: stage ?? "",
        fraction: Math.min(1, Math.max(0, fraction ?? 0)),
      });
    });
    const driver = (drives: boolean): void => {
      this.#driver = drives;
      this.emit("driver", drives);
    };
    const show = (settings: VideoSettings): void => {
      this.#video = settings;
      this.emit("video", settings);
    };
    this.#rpc.onNotification("driver.joined", (params) => {
      show((params as { video: VideoSettings }).video);
      driver(true);
    });
    this.#rpc.onNotification("driver.left", () => driver(false));
    this.#rpc.onNotification("video.changed", (params) => show(params as VideoSettings));
    this.#rpc.onNotification("session.ending", (params) => {
      const { reason, message } = params as { reason?: unknown; message?: unknown };
      const result = isResult(reason) ? reason : "Fail";
      const text = typeof message === "string" && message ? message : "The server ended the connection.";
      this.emit("ending", { reason: result, message: text });
      this.#finish(new FarframeError(result, text, { nextStep: nextStepOf(result) }));
    });
    globalThis.addEventListener?.(
      "pagehide",
      () => {
        const transport = this.#transport;
        this.#finish(new FarframeError("DisconnectRequest", "The page was left."));
        void transport?.end(true);
        if (!transport) void this.#giveUp(true);
      },
      { signal },
    );
  }

  #heard(): void {
    this.#heardAt = performance.now();
    if (this.#state === "interrupted" && !this.#disturbed && !this.#back) this.#setState("connected");
  }

  #tick(): void {
    const now = performance.now();
    const stoodStill = now - this.#tickedAt > STOOD_STILL_MILLISECONDS;
    this.#tickedAt = now;
    if (stoodStill) setTimeout(() => void this.#ping(), CATCH_UP_MILLISECONDS);
    else void this.#ping();
    void this.#sample();
  }

  async #ping(): Promise<void> {
    if (this.#back || this.#error) return;
    const silence = performance.now() - this.#heardAt;
    if (silence > LOST_AFTER_MILLISECONDS) {
      this.#lose(
        new FarframeError("ConnectionLost", "The render server has not been heard for too long.", {
          nextStep: nextStepOf("ConnectionLost"),
        }),
      );
      return;
    }
    if (silence > INTERRUPTED_AFTER_MILLISECONDS && this.#state === "connected") this.#setState("interrupted");
    const sentMicroseconds = nowMicroseconds();
    try {
      const result = (await this.#call("connection.ping", { clientTimeMicroseconds: sentMicroseconds })) as {
        serverTimeMicroseconds?: number;
      };
      if (typeof result.serverTimeMicroseconds === "number") {
        this.clock.add(sentMicroseconds, result.serverTimeMicroseconds, nowMicroseconds());
      }
    } catch {
      // Silence is what ends a connection, see above; a single ping is not.
    }
  }

  async #sample(): Promise<void> {
    const transport = this.#transport;
    const sample = await transport?.sample();
    // What a former line says now would be counted against this one.
    if (!sample || transport !== this.#transport || this.#state === "closed") return;
    const now = performance.now();
    const bytes = sample.bytesReceived;
    const last = this.#lastBytes;
    this.#lastBytes = { at: now, bytes };
    const roundTripMicroseconds = this.clock.roundTripMicroseconds;
    this.#statistics = {
      ...this.ledger.summary(now),
      bitrate: last ? Math.max(0, ((bytes - last.bytes) * 8000) / Math.max(1, now - last.at)) : 0,
      roundTripMilliseconds: roundTripMicroseconds === undefined ? undefined : roundTripMicroseconds / 1000,
      packetsLost: sample.packetsLost,
      framesDropped: sample.framesDropped,
      framesDecoded: sample.framesDecoded,
      record: this.#record,
    };
    this.emit("statistics", this.#statistics);
  }

  #setState(state: ConnectionState): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.emit("state", state);
  }

  /** The one end of a connection, whatever the reason. */
  #finish(error: FarframeError): void {
    if (this.#error) return;
    this.#error = error;
    this.#disposal.abort();
    this.#poses.stop();
    this.#reports.stop();
    this.#rpc.fail(error);
    this.scene.close(error);
    for (const place of this.#attached) place.detach?.();
    this.#attached.clear();
    this.#transport?.close();
    for (const former of this.#former.splice(0)) former.close();
    this.#setState("closed");
    this.emit("closed", error);
    this.#ended.abort(error);
  }
}
