/**
 * The whole stream over one WebSocket, where networks let nothing but HTTPS through; `docs/protocol.md` describes the
 * messages. Pictures are decoded by WebCodecs and shown in a video element where the browser can make a track of them
 * (Chromium), else on a canvas over it.
 */

import { nowMicroseconds } from "./clock.ts";
import { AccessUnitDecoder, type DecodedPicture } from "./decoder.ts";
import { cancelled, FarframeError, isResult, nextStepOf, type Result } from "./errors.ts";
import type { ShownFrame } from "./ledger.ts";
import type { Transport, TransportEvents, TransportSample } from "./transport.ts";
import { followFrames } from "./video_frames.ts";

const SUBPROTOCOL = "farframe.1";
const TOKEN_PREFIX = "farframe.bearer.";
const FIRST_OWN_TYPE = 240;
const PICTURE_TYPE = 240;
const ACKNOWLEDGEMENT_TYPE = 241;
const KEYFRAME_REQUEST_TYPE = 242;
const RECORD_VERSION = 1;
const PICTURE_HEAD_BYTES = 12;
const CLOSE_CODE_BASE = 4000;
const KEYFRAME_INTERVAL_MILLISECONDS = 300;
const OPEN_TIMEOUT_MILLISECONDS = 8000;
/** Of so many pictures that were given to the track it is known when they came. */
const MAX_GIVEN = 240;

const CODE_RESULTS: Readonly<Record<number, Result>> = {
  401: "AuthenticationFailed",
  403: "AuthenticationFailed",
  404: "SessionNotReady",
  409: "OtherSessionConnected",
};

/** Makes a track of pictures, in Chromium. */
interface TrackGenerator extends MediaStreamTrack {
  readonly writable: WritableStream<VideoFrame>;
}
declare const MediaStreamTrackGenerator: (new (init: { kind: "video" }) => TrackGenerator) | undefined;

/** One picture of the stream. */
export interface PictureRecord {
  readonly number: number;
  readonly rtpTimestamp: number;
  readonly keyframe: boolean;
  readonly data: Uint8Array<ArrayBuffer>;
}

/** A picture record, or undefined for anything else. */
export function decodePicture(bytes: ArrayBuffer): PictureRecord | undefined {
  if (bytes.byteLength <= PICTURE_HEAD_BYTES) return undefined;
  const view = new DataView(bytes);
  if (view.getUint8(0) !== PICTURE_TYPE || view.getUint8(1) !== RECORD_VERSION) return undefined;
  return {
    number: view.getUint32(4, true),
    rtpTimestamp: view.getUint32(8, true),
    keyframe: (view.getUint8(2) & 1) !== 0,
    data: new Uint8Array(bytes, PICTURE_HEAD_BYTES),
  };
}

/** The bytes that say that a picture has arrived. */
export function encodeAcknowledgement(number: number, atMicroseconds: number): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint8(0, ACKNOWLEDGEMENT_TYPE);
  view.setUint8(1, RECORD_VERSION);
  view.setUint32(4, number, true);
  view.setBigUint64(8, BigInt(Math.max(0, Math.round(atMicroseconds))), true);
  return view.buffer;
}

/** The bytes that ask for a keyframe. */
export function encodeKeyframeRequest(): ArrayBuffer {
  return new Uint8Array([KEYFRAME_REQUEST_TYPE, RECORD_VERSION, 0, 0]).buffer;
}

/** The WebSocket's address that belongs to a WHEP address: beside it, on the same server. */
export function streamUrl(whepUrl: string): string {
  const url = new URL(whepUrl, globalThis.location?.href);
  url.protocol = url.protocol === "http:" ? "ws:" : "wss:";
  url.pathname = url.pathname.replace(/whep$/, "stream");
  url.search = "";
  return url.href;
}

export interface WebSocketOptions {
  /** `wss://`, see {@link streamUrl}. */
  url: string;
  token: string;
  /** Further subprotocols that say what is wanted. */
  names?: readonly string[];
  signal: AbortSignal;
}

export class WebSocketTransport implements Transport {
  readonly kind = "websocket";
  readonly relayed: boolean;
  readonly stream = new MediaStream();
  readonly #socket: WebSocket;
  readonly #events: TransportEvents;
  readonly #decoder: AccessUnitDecoder;
  #generator: TrackGenerator | undefined;
  #writer: WritableStreamDefaultWriter<VideoFrame> | undefined;
  #canvas: HTMLCanvasElement | undefined;
  #onShown: ((frame: ShownFrame) => void) | undefined;
  #pending: DecodedPicture | undefined;
  /** What was given to the track and not seen in the element yet, oldest first, by the time stamps in microseconds. */
  readonly #given = new Map<number, Omit<DecodedPicture, "frame">>();
  #bytesReceived = 0;
  #framesDecoded = 0;
  #framesDropped = 0;
  #keyframeAskedAt = Number.NEGATIVE_INFINITY;
  #attached: ((error?: FarframeError) => void) | undefined;
  #refusal: FarframeError | undefined;
  #closed = false;

  private constructor(options: WebSocketOptions, events: TransportEvents) {
    this.#events = events;
    this.relayed = new URL(options.url).pathname !== "/stream";
    this.#decoder = new AccessUnitDecoder(
      (picture) => this.#picture(picture),
      () => this.#askForKeyframe(),
    );
    if (typeof MediaStreamTrackGenerator !== "undefined") {
      this.#generator = new MediaStreamTrackGenerator({ kind: "video" });
      this.#writer = this.#generator.writable.getWriter();
      this.stream.addTrack(this.#generator);
    }
    // The token stands among the subprotocols: addresses end up in logs, and a page can set no headers.
    this.#socket = new WebSocket(options.url, [SUBPROTOCOL, TOKEN_PREFIX + options.token, ...(options.names ?? [])]);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.addEventListener("message", (event: MessageEvent<unknown>) => this.#received(event.data));
    this.#socket.addEventListener("close", (event) => this.#ended(event.code));
  }

  /** Opens the socket and waits for a place. Rejects with a {@link FarframeError}, leaving nothing behind. */
  static async open(options: WebSocketOptions, events: TransportEvents): Promise<WebSocketTransport> {
    const transport = new WebSocketTransport(options, events);
    try {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => transport.#attached?.(noAnswer()), OPEN_TIMEOUT_MILLISECONDS);
        const onAbort = (): void => transport.#attached?.(cancelled("Connecting"));
        transport.#attached = (error) => {
          transport.#attached = undefined;
          clearTimeout(timer);
          options.signal.removeEventListener("abort", onAbort);
          if (error) reject(error);
          else resolve();
        };
        options.signal.addEventListener("abort", onAbort, { once: true });
        if (options.signal.aborted) onAbort();
      });
    } catch (error) {
      transport.close();
      throw error;
    }
    return transport;
  }

  get open(): boolean {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  sendControl(text: string): void {
    this.#socket.send(text);
  }

  sendPose(bytes: ArrayBuffer): void {
    if (this.open) this.#socket.send(bytes);
  }

  poseBacklog(): number {
    return this.#socket.bufferedAmount;
  }

  attach(video: HTMLVideoElement, shown: (frame: ShownFrame) => void): () => void {
    this.#onShown = shown;
    if (this.#generator) return this.#attachTrack(video, shown);
    return this.#attachCanvas(video, shown);
  }

  #attachTrack(video: HTMLVideoElement, shown: (frame: ShownFrame) => void): () => void {
    video.srcObject = this.stream;
    const stop = followFrames(video, (metadata) => {
      const times = this.#seen(metadata.mediaTime);
      if (times) this.#tell(times, Math.max(metadata.presentationTime, metadata.expectedDisplayTime), metadata);
    });
    return () => {
      stop();
      if (video.srcObject === this.stream) video.srcObject = null;
      if (this.#onShown === shown) this.#onShown = undefined;
    };
  }

  /**
   * What is in the element now, by the media time in seconds; undefined for what was told already. The picture that was
   * given last may not be there yet: it can come between another one's way to the screen and the word of that.
   */
  #seen(mediaTime: number): Omit<DecodedPicture, "frame"> | undefined {
    const timestamp = Math.round(mediaTime * 1e6);
    const times = this.#given.get(timestamp);
    for (const each of this.#given.keys()) if (each <= timestamp) this.#given.delete(each);
    return times;
  }

  #attachCanvas(video: HTMLVideoElement, shown: (frame: ShownFrame) => void): () => void {
    const canvas = document.createElement("canvas");
    const style = getComputedStyle(video);
    Object.assign(canvas.style, {
      position: "absolute",
      left: `${video.offsetLeft}px`,
      top: `${video.offsetTop}px`,
      width: "100%",
      height: "100%",
      objectFit: style.objectFit,
      pointerEvents: "none",
    });
    video.after(canvas);
    this.#canvas = canvas;
    return () => {
      canvas.remove();
      if (this.#canvas === canvas) this.#canvas = undefined;
      if (this.#onShown === shown) this.#onShown = undefined;
    };
  }

  async sample(): Promise<TransportSample> {
    return {
      bytesReceived: this.#bytesReceived,
      packetsLost: 0,
      framesDropped: this.#framesDropped,
      framesDecoded: this.#framesDecoded,
    };
  }

  async end(): Promise<void> {
    // A socket that closes in order frees the place by itself.
    if (this.#socket.readyState <= WebSocket.OPEN) this.#socket.close(1000);
  }

  close(): void {
    this.#closed = true;
    if (this.#socket.readyState <= WebSocket.OPEN) this.#socket.close(1000);
    this.#decoder.close();
    this.#pending?.frame.close();
    this.#pending = undefined;
    this.#writer?.close().catch(() => undefined);
    this.#generator?.stop();
    this.#canvas?.remove();
  }

  #received(data: unknown): void {
    if (this.#closed) return;
    if (typeof data === "string") {
      if (this.#attached) this.#firstWords(data);
      else this.#events.control(data);
      return;
    }
    if (!(data instanceof ArrayBuffer) || data.byteLength === 0) return;
    this.#bytesReceived += data.byteLength;
    if (new DataView(data).getUint8(0) < FIRST_OWN_TYPE) {
      this.#events.record(data);
      return;
    }
    const picture = decodePicture(data);
    if (!picture) return;
    const receivedAt = performance.now();
    this.#socket.send(encodeAcknowledgement(picture.number, nowMicroseconds()));
    this.#decoder.decode(picture.data, picture.rtpTimestamp, picture.keyframe, receivedAt);
  }

  /** The server says first that a place is given, or why not. */
  #firstWords(text: string): void {
    let method: unknown;
    let params: { reason?: unknown; message?: unknown } = {};
    try {
      ({ method, params = {} } = JSON.parse(text) as { method?: unknown; params?: typeof params });
    } catch {
      return;
    }
    if (method === "session.ending") {
      const result = isResult(params.reason) ? params.reason : "Fail";
      const message = typeof params.message === "string" ? params.message : "The stream was refused.";
      this.#refusal = new FarframeError(result, message, { nextStep: nextStepOf(result) });
      return; // the close code follows
    }
    this.#attached?.();
    if (method !== "connection.attached") this.#events.control(text);
  }

  #ended(code: number): void {
    if (this.#attached) {
      const result = CODE_RESULTS[code - CLOSE_CODE_BASE];
      const refused =
        this.#refusal ??
        (result === undefined
          ? noAnswer()
          : new FarframeError(result, "The stream was refused.", { nextStep: nextStepOf(result) }));
      this.#attached(refused);
    } else if (!this.#closed) {
      this.#events.lost();
    }
  }

  #askForKeyframe(): void {
    const now = performance.now();
    if (now - this.#keyframeAskedAt < KEYFRAME_INTERVAL_MILLISECONDS || !this.open) return;
    this.#keyframeAskedAt = now;
    this.#socket.send(encodeKeyframeRequest());
  }

  #picture(picture: DecodedPicture): void {
    this.#framesDecoded += 1;
    if (this.#writer) {
      const { frame, ...times } = picture;
      if ((this.#writer.desiredSize ?? 0) <= 0) {
        this.#framesDropped += 1;
        frame.close();
        return;
      }
      this.#given.set(frame.timestamp, times);
      while (this.#given.size > MAX_GIVEN) this.#given.delete(this.#given.keys().next().value as number);
      this.#writer.write(frame).catch(() => frame.close());
      return;
    }
    // Only the newest picture of a refresh is drawn.
    if (this.#pending) {
      this.#framesDropped += 1;
      this.#pending.frame.close();
    } else {
      requestAnimationFrame(() => this.#draw());
    }
    this.#pending = picture;
  }

  #draw(): void {
    const picture = this.#pending;
    this.#pending = undefined;
    if (!picture || this.#closed) {
      picture?.frame.close();
      return;
    }
    const { frame, ...times } = picture;
    const canvas = this.#canvas;
    if (canvas) {
      if (canvas.width !== frame.displayWidth) canvas.width = frame.displayWidth;
      if (canvas.height !== frame.displayHeight) canvas.height = frame.displayHeight;
      canvas.getContext("2d")?.drawImage(frame, 0, 0);
      this.#tell(times, performance.now(), { width: frame.displayWidth, height: frame.displayHeight });
    }
    frame.close();
  }

  #tell(
    times: Omit<DecodedPicture, "frame">,
    shownAt: number,
    size: { readonly width: number; readonly height: number },
  ): void {
    this.#onShown?.({
      rtpTimestamp: times.rtpTimestamp,
      shownAt,
      receivedAt: times.receivedAt,
      decodeMilliseconds: times.decodedAt - times.receivedAt,
      width: size.width,
      height: size.height,
    });
  }
}

function noAnswer(): FarframeError {
  return new FarframeError("HandshakeFailed", "No WebSocket to the render server could be opened.", {
    nextStep: nextStepOf("ConnectionLost"),
  });
}
