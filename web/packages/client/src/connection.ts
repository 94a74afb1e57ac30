/**
 * A connection to a render server: video in, poses and commands out.
 *
 *     connecting ──► connected ◄──► interrupted
 *          └──────────────┴──────────────┴──► closed (with the error that says why)
 *
 * A closed connection stays closed; to reconnect, connect again.
 */

import { ClockAlignment, nowMicroseconds } from "./clock.ts";
import { cancelled, FarframeError, isResult, nextStepOf, toFarframeError } from "./errors.ts";
import { Emitter } from "./events.ts";
import { Ledger, type LedgerEntry, type LedgerSummary } from "./ledger.ts";
import {
  type ConnectionInfo,
  type LoadedModel,
  type LoadProgress,
  PROTOCOL_VERSION,
  type SceneSettings,
  type ServerStatistics,
  type SessionEnding,
  type VideoSettings,
} from "./messages.ts";
import { PoseSender } from "./pose_sender.ts";
import { decodeFrame, type FrameRecord, type View } from "./records.ts";
import { FrameReporter } from "./reports.ts";
import { type RequestOptions, RpcPeer } from "./rpc.ts";
import type { Transport, TransportEvents, Way, WayChoice } from "./transport.ts";
import { findWay } from "./ways.ts";
import type { Fetch } from "./whep.ts";

export type ConnectionState = "connecting" | "connected" | "interrupted" | "closed";

export interface ConnectOptions {
  /** The WHEP address: relayed by the service or direct, see {@link ManagementClient.whepUrl}. */
  url: string;
  /** Addresses of the stream's WebSocket, for where UDP does not get through; by default the one beside `url`. */
  streamUrls?: readonly string[];
  /** Which way the stream takes; `auto` by default. */
  way?: WayChoice;
  /** The account's access token. */
  token: string;
  /** The picture wanted, pixels; made even. */
  width: number;
  height: number;
  maxFramesPerSecond?: number;
  /** Names this client in the server's log. */
  client?: string;
  /** STUN or TURN servers, see {@link ManagementClient.iceServers}; none by default. */
  iceServers?: RTCIceServer[];
  /** Aborting ends the attempt. */
  signal?: AbortSignal;
  /** Milliseconds until the attempt is given up. */
  timeoutMilliseconds?: number;
  fetch?: Fetch;
}

/** What the browser and the ledger say about the last second. */
export interface ConnectionStatistics extends LedgerSummary {
  /** Bits per second of received video. */
  readonly bitrate: number;
  readonly roundTripMilliseconds: number | undefined;
  readonly packetsLost: number;
  readonly framesDropped: number;
  readonly framesDecoded: number;
  /** The newest record of a frame, shown or not. */
  readonly record: FrameRecord | undefined;
}

export interface ConnectionEvents {
  state: ConnectionState;
  /** A frame was shown, and its record is known. */
  frame: LedgerEntry;
  /** The server's record of a frame arrived. */
  record: FrameRecord;
  /** Once a second while connected. */
  statistics: ConnectionStatistics;
  /** The server is about to end the connection; `closed` follows. */
  ending: SessionEnding;
  /** The connection has ended, and why: `DisconnectRequest` after {@link Connection.close}. */
  closed: FarframeError;
}

const DEFAULT_TIMEOUT_MILLISECONDS = 20_000;
const PING_INTERVAL_MILLISECONDS = 1000;
const INTERRUPTED_AFTER_MILLISECONDS = 2500;
const LOST_AFTER_MILLISECONDS = 8000;
const REQUEST_TIMEOUT_MILLISECONDS = 10_000;
/** How long a clean close waits for the server's answer. */
const CLOSE_GRACE_MILLISECONDS = 300;

/** Sizes on the wire are even and at least 16 pixels. */
export function evenSize(pixels: number): number {
  return Math.max(16, 2 * Math.round(pixels / 2));
}

export class Connection extends Emitter<ConnectionEvents> {
  readonly ledger: Ledger;
  readonly clock = new ClockAlignment();

  #transport: Transport | undefined;
  #reason = "";
  readonly #rpc: RpcPeer;
  readonly #poses: PoseSender;
  readonly #reports: FrameReporter;
  readonly #progress = new Map<string, (progress: LoadProgress) => void>();
  readonly #disposal = new AbortController();
  #info: ConnectionInfo | undefined;
  #video: VideoSettings | undefined;
  #state: ConnectionState = "connecting";
  #error: FarframeError | undefined;
  #record: FrameRecord | undefined;
  #statistics: ConnectionStatistics | undefined;
  #progressCount = 0;
  #heardAt = performance.now();
  #disturbed = false;
  #lastBytes: { at: number; bytes: number } | undefined;

  private constructor() {
    super();
    this.ledger = new Ledger(() => this.clock.offsetMicroseconds);
    this.#rpc = new RpcPeer((text) => this.#transport?.sendControl(text));
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
    this.#listen();
  }

  /** Connects: handshake, channels, `connection.open`. Rejects with a {@link FarframeError}, leaving nothing behind. */
  static async connect(options: ConnectOptions): Promise<Connection> {
    const connection = new Connection();
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

  /** What the server said when the connection opened. */
  get info(): ConnectionInfo {
    if (!this.#info) throw new FarframeError("SessionNotReady", "The connection is not open yet.");
    return this.#info;
  }

  /** The picture as it is being sent. */
  get video(): VideoSettings {
    return this.#video ?? this.info.video;
  }

  /** Why the connection ended; undefined while it lives. */
  get error(): FarframeError | undefined {
    return this.#error;
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
    const detach = this.#transport?.attach(video, (shown) => {
      this.#reports.add(shown);
      const entry = this.ledger.addShown(shown);
      if (entry) this.emit("frame", entry);
    });
    // Interrupted by a later attach, or refused until a gesture: autoplay of muted video starts it then.
    video.play().catch(() => undefined);
    return () => detach?.();
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
    this.#poses.set(views);
  }

  /** Loads a model by URI. Aborting the signal cancels the load at the server. */
  async loadModel(
    uri: string,
    options: { signal?: AbortSignal; onProgress?: (progress: LoadProgress) => void } = {},
  ): Promise<LoadedModel> {
    const progressToken = `load-${++this.#progressCount}`;
    if (options.onProgress) this.#progress.set(progressToken, options.onProgress);
    try {
      const result = await this.#rpc.request(
        "scene.loadModel",
        { uri, progressToken },
        options.signal ? { signal: options.signal } : {},
      );
      return { warnings: [], ...(result as object) } as unknown as LoadedModel;
    } finally {
      this.#progress.delete(progressToken);
    }
  }

  /** Removes a model from the scene. */
  async unloadModel(modelId: number): Promise<void> {
    await this.#call("scene.unloadModel", { modelId });
  }

  /** Removes all models from the scene. */
  async clearScene(): Promise<void> {
    await this.#call("scene.clear");
  }

  /** Changes light and background; resolves with the settings as they are then. */
  async configureScene(settings: SceneSettings): Promise<SceneSettings> {
    return (await this.#call("scene.configure", settings)) as SceneSettings;
  }

  /** Changes the picture; resolves with what the server will send. Sizes are made even and kept within its limits. */
  async configureVideo(settings: Partial<VideoSettings>): Promise<VideoSettings> {
    const params = { ...settings };
    if (settings.width !== undefined) params.width = Math.min(evenSize(settings.width), this.info.maxWidth);
    if (settings.height !== undefined) params.height = Math.min(evenSize(settings.height), this.info.maxHeight);
    this.#video = (await this.#call("video.configure", params)) as VideoSettings;
    return this.#video;
  }

  /** The server's own view of the last second. */
  async serverStatistics(): Promise<ServerStatistics> {
    return (await this.#call("statistics.get")) as ServerStatistics;
  }

  /** Ends the connection and frees the session for the next device. Never rejects. */
  async close(): Promise<void> {
    if (this.#state === "closed") return;
    const transport = this.#transport;
    if (transport?.open) {
      await this.#rpc
        .request("connection.close", {}, { timeoutMilliseconds: CLOSE_GRACE_MILLISECONDS })
        .catch(() => undefined);
    }
    this.#finish(new FarframeError("DisconnectRequest", "The connection was closed."));
    await transport?.end();
  }

  #call(method: string, params: object = {}, options: RequestOptions = {}): Promise<unknown> {
    return this.#rpc.request(method, params, { timeoutMilliseconds: REQUEST_TIMEOUT_MILLISECONDS, ...options });
  }

  async #open(options: ConnectOptions): Promise<void> {
    const limit = options.timeoutMilliseconds ?? DEFAULT_TIMEOUT_MILLISECONDS;
    const deadline = AbortSignal.timeout(limit);
    const signal = AbortSignal.any([deadline, this.#disposal.signal, ...(options.signal ? [options.signal] : [])]);
    try {
      const fetcher: Fetch = options.fetch ?? ((input, init) => fetch(input, init));
      const found = await findWay(
        {
          url: options.url,
          streamUrls: options.streamUrls,
          token: options.token,
          iceServers: options.iceServers,
          way: options.way ?? "auto",
          fetch: fetcher,
          signal,
        },
        this.#events(),
      );
      this.#transport = found.transport;
      this.#reason = found.reason;
      const info = (await this.#rpc.request(
        "connection.open",
        {
          protocol: PROTOCOL_VERSION,
          client: options.client ?? "@farframe/client",
          width: evenSize(options.width),
          height: evenSize(options.height),
          maxFramesPerSecond: options.maxFramesPerSecond ?? 60,
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
    } catch (error) {
      if (this.#error) throw this.#error;
      if (options.signal?.aborted) throw cancelled("Connecting");
      if (deadline.aborted) {
        throw new FarframeError(
          this.#transport ? "ConnectionLost" : "HandshakeFailed",
          `The connection was not made within ${limit / 1000} seconds.`,
          { nextStep: nextStepOf("ConnectionLost") },
        );
      }
      throw error;
    }
    this.#heardAt = performance.now();
    this.#setState("connected");
    void this.#ping();
    const timer = setInterval(() => {
      void this.#ping();
      void this.#sample();
    }, PING_INTERVAL_MILLISECONDS);
    this.#disposal.signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  }

  /** What the transport tells. */
  #events(): TransportEvents {
    return {
      control: (text) => {
        this.#heard();
        try {
          this.#rpc.receive(text);
        } catch (error) {
          // Something is deeply wrong between the two sides; going on would hide it.
          this.#finish(toFarframeError(error, "The connection"));
        }
      },
      record: (bytes) => {
        this.#heard();
        this.#recordReceived(bytes);
      },
      disturbed: (disturbed) => {
        this.#disturbed = disturbed;
        if (disturbed && this.#state === "connected") this.#setState("interrupted");
      },
      lost: () => {
        // Before there is a transport, whoever looks for a way hears it himself.
        if (!this.#transport) return;
        this.#finish(
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
    const entry = this.ledger.addRecord(record);
    if (entry) this.emit("frame", entry);
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
      },
      { signal },
    );
  }

  #heard(): void {
    this.#heardAt = performance.now();
    if (this.#state === "interrupted" && !this.#disturbed) this.#setState("connected");
  }

  async #ping(): Promise<void> {
    const silence = performance.now() - this.#heardAt;
    if (silence > LOST_AFTER_MILLISECONDS) {
      this.#finish(
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
    const sample = await this.#transport?.sample();
    if (!sample || this.#state === "closed") return;
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
    this.#transport?.close();
    this.#setState("closed");
    this.emit("closed", error);
  }
}
