/** The stream over WebRTC: SRTP for pictures, data channels for the rest. The handshake is in `whep.ts`. */

import { cancelled, FarframeError, nextStepOf } from "./errors.ts";
import type { ShownFrame } from "./ledger.ts";
import type { Transport, TransportEvents, TransportSample, WayKind } from "./transport.ts";
import { followFrames } from "./video_frames.ts";
import { type Fetch, handshake, preferH264, type WhepSession } from "./whep.ts";

/** Without a path for so long, UDP does not get through. Paths are found within two or three round trips. */
const PATH_TIMEOUT_MILLISECONDS = 2200;
/**
 * The same where WebRTC or TURN was asked for: no other way waits to be tried, and a busy machine may need longer.
 * Devices that come back try again soon instead, as the line may be good again by then.
 */
const ASKED_PATH_TIMEOUT_MILLISECONDS = 10_000;
const PATH_FOUND: ReadonlySet<RTCIceConnectionState> = new Set(["connected", "completed"]);

export interface WebRtcOptions {
  /** The WHEP address. */
  url: string;
  token: string;
  lastToken?: (() => string) | undefined;
  iceServers: RTCIceServer[];
  /** Use TURN servers only. */
  relayOnly: boolean;
  /** Whether this way was asked for. */
  only: boolean;
  watch?: boolean;
  resumeSecret?: string | undefined;
  fetch: Fetch;
  signal: AbortSignal;
}

export class WebRtcTransport implements Transport {
  readonly relayed: boolean;
  readonly stream = new MediaStream();
  readonly #peer: RTCPeerConnection;
  readonly #control: RTCDataChannel;
  readonly #pose: RTCDataChannel;
  readonly #frames: RTCDataChannel;
  readonly #events: TransportEvents;
  readonly #disposal = new AbortController();
  #whep: WhepSession | undefined;
  #kind: WayKind = "webrtc";

  private constructor(options: WebRtcOptions, events: TransportEvents) {
    this.relayed = new URL(options.url, globalThis.location?.href).pathname !== "/whep";
    this.#events = events;
    const codecs = preferH264(
      typeof RTCRtpReceiver === "undefined" ? [] : (RTCRtpReceiver.getCapabilities("video")?.codecs ?? []),
    );
    this.#peer = new RTCPeerConnection({
      iceServers: options.iceServers,
      iceTransportPolicy: options.relayOnly ? "relay" : "all",
      bundlePolicy: "max-bundle",
    });
    const transceiver = this.#peer.addTransceiver("video", { direction: "recvonly" });
    transceiver.setCodecPreferences(codecs);
    if ("jitterBufferTarget" in transceiver.receiver) transceiver.receiver.jitterBufferTarget = 0;
    this.stream.addTrack(transceiver.receiver.track);

    this.#control = this.#peer.createDataChannel("control", { ordered: true });
    const unreliable = { ordered: false, maxRetransmits: 0 };
    this.#pose = this.#peer.createDataChannel("pose", unreliable);
    this.#frames = this.#peer.createDataChannel("frames", unreliable);
    this.#frames.binaryType = "arraybuffer";
    this.#listen();
  }

  /** Makes the connection, channels included. Rejects with a {@link FarframeError}, the place at the server given back. */
  static async open(options: WebRtcOptions, events: TransportEvents): Promise<WebRtcTransport> {
    const transport = new WebRtcTransport(options, events);
    try {
      transport.#whep = await handshake(transport.#peer, options.url, options.token, options.fetch, options.signal, {
        watch: options.watch ?? false,
        resumeSecret: options.resumeSecret,
        lastToken: options.lastToken,
      });
      const patient = options.only && !options.resumeSecret;
      const limit = patient ? ASKED_PATH_TIMEOUT_MILLISECONDS : PATH_TIMEOUT_MILLISECONDS;
      await transport.#pathFound(options.signal, limit);
      await transport.#channelsOpen(options.signal);
      await transport.#learnKind();
    } catch (error) {
      transport.close();
      // Before anything else is tried: a session takes one device at a time.
      await transport.end();
      throw error;
    }
    return transport;
  }

  get kind(): WayKind {
    return this.#kind;
  }

  get open(): boolean {
    return this.#control.readyState === "open";
  }

  sendControl(text: string): void {
    this.#control.send(text);
  }

  sendPose(bytes: ArrayBuffer): void {
    if (this.#pose.readyState === "open") this.#pose.send(bytes);
  }

  poseBacklog(): number {
    return this.#pose.bufferedAmount;
  }

  attach(video: HTMLVideoElement, shown: (frame: ShownFrame) => void): () => void {
    video.srcObject = this.stream;
    const stop = followFrames(video, (metadata) => {
      if (metadata.rtpTimestamp === undefined) return;
      shown({
        rtpTimestamp: metadata.rtpTimestamp,
        presentedAt: metadata.presentationTime,
        shownAt: Math.max(metadata.presentationTime, metadata.expectedDisplayTime),
        receivedAt: metadata.receiveTime,
        decodeMilliseconds: metadata.processingDuration === undefined ? undefined : metadata.processingDuration * 1000,
        width: metadata.width,
        height: metadata.height,
      });
    });
    return () => {
      stop();
      if (video.srcObject === this.stream) video.srcObject = null;
    };
  }

  async sample(): Promise<TransportSample | undefined> {
    let report: RTCStatsReport;
    try {
      report = await this.#peer.getStats();
    } catch {
      return undefined;
    }
    let inbound: RTCInboundRtpStreamStats | undefined;
    for (const stats of report.values() as Iterable<RTCStats & { kind?: string }>) {
      if (stats.type === "inbound-rtp" && stats.kind === "video") inbound = stats as RTCInboundRtpStreamStats;
    }
    return {
      bytesReceived: inbound?.bytesReceived ?? 0,
      packetsLost: inbound?.packetsLost ?? 0,
      framesDropped: inbound?.framesDropped ?? 0,
      framesDecoded: inbound?.framesDecoded ?? 0,
    };
  }

  async end(keepalive = false): Promise<void> {
    await this.#whep?.end(keepalive);
  }

  close(): void {
    this.#disposal.abort();
    this.#peer.close();
  }

  #listen(): void {
    const signal = this.#disposal.signal;
    const lost = (): void => this.#events.lost();
    this.#peer.addEventListener(
      "connectionstatechange",
      () => {
        const state = this.#peer.connectionState;
        if (state === "failed" || state === "closed") lost();
        else if (state === "disconnected") this.#events.disturbed(true);
        else if (state === "connected") this.#events.disturbed(false);
      },
      { signal },
    );
    this.#control.addEventListener("close", lost, { signal });
    this.#control.addEventListener(
      "message",
      (event: MessageEvent<unknown>) => {
        if (typeof event.data === "string") this.#events.control(event.data);
      },
      { signal },
    );
    this.#frames.addEventListener(
      "message",
      (event: MessageEvent<unknown>) => {
        if (event.data instanceof ArrayBuffer) this.#events.record(event.data);
      },
      { signal },
    );
  }

  #pathFound(signal: AbortSignal, limitMilliseconds: number): Promise<void> {
    const peer = this.#peer;
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        peer.removeEventListener("iceconnectionstatechange", onChange);
        signal.removeEventListener("abort", onAbort);
        settle();
      };
      const onChange = (): void => {
        if (PATH_FOUND.has(peer.iceConnectionState)) finish(resolve);
        else if (peer.iceConnectionState === "failed") finish(() => reject(noPath()));
      };
      const onAbort = (): void => finish(() => reject(cancelled("Connecting")));
      const timer = setTimeout(() => finish(() => reject(noPath())), limitMilliseconds);
      peer.addEventListener("iceconnectionstatechange", onChange);
      signal.addEventListener("abort", onAbort, { once: true });
      if (signal.aborted) onAbort();
      else onChange();
    });
  }

  #channelsOpen(signal: AbortSignal): Promise<void> {
    const channels = [this.#control, this.#pose, this.#frames];
    return new Promise((resolve, reject) => {
      const settled = new AbortController();
      const finish = (settle: () => void): void => {
        settled.abort();
        settle();
      };
      const check = (): void => {
        if (channels.every((channel) => channel.readyState === "open")) finish(resolve);
        else if (
          this.#peer.connectionState === "failed" ||
          channels.some(({ readyState }) => readyState === "closed")
        ) {
          // Whoever opens a transport hears of its end here: nobody else listens yet.
          finish(() => reject(noPath()));
        }
      };
      const listening = { signal: settled.signal };
      signal.addEventListener("abort", () => finish(() => reject(cancelled("Connecting"))), listening);
      this.#peer.addEventListener("connectionstatechange", check, listening);
      for (const channel of channels) {
        channel.addEventListener("open", check, listening);
        channel.addEventListener("close", check, listening);
      }
      if (signal.aborted) finish(() => reject(cancelled("Connecting")));
      else check();
    });
  }

  /** Whether the path that was found goes by way of a TURN server. */
  async #learnKind(): Promise<void> {
    const report = await this.#peer.getStats();
    const all = new Map<string, RTCStats>(report as unknown as Map<string, RTCStats>);
    for (const stats of all.values()) {
      if (stats.type !== "transport") continue;
      const pair = all.get((stats as RTCTransportStats).selectedCandidatePairId ?? "") as
        | RTCIceCandidatePairStats
        | undefined;
      const local = pair && (all.get(pair.localCandidateId) as (RTCStats & { candidateType?: string }) | undefined);
      if (local?.candidateType === "relay") this.#kind = "turn";
    }
  }
}

function noPath(): FarframeError {
  return new FarframeError("HandshakeFailed", "No network path to the render server was found for WebRTC.", {
    nextStep: nextStepOf("ConnectionLost"),
  });
}
