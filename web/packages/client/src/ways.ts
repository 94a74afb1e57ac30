/**
 * Which way to a render server: WebRTC where UDP gets through, one WebSocket where only HTTPS does.
 *
 * A session takes one device at a time, so ways are tried one after the other, and one that was given up is taken back at
 * the server before the next begins. What the server *refuses* no other way would change; only what did not get through is
 * tried another way. What worked is remembered for some minutes: a device that comes back does not wait for what failed.
 */

import { type FarframeError, toFarframeError } from "./errors.ts";
import type { Transport, TransportEvents, WayChoice } from "./transport.ts";
import { WebRtcTransport } from "./webrtc.ts";
import { streamUrl, WebSocketTransport } from "./websocket.ts";
import type { Fetch } from "./whep.ts";

const REMEMBERED_MILLISECONDS = 600_000;

export interface WayOptions {
  /** The WHEP address. */
  url: string;
  /** Addresses of the stream's WebSocket, the best first. */
  streamUrls?: readonly string[] | undefined;
  token: string;
  /** What is good later, when the connection ends; by default the same. */
  lastToken?: () => string;
  iceServers?: RTCIceServer[] | undefined;
  way: WayChoice;
  /** Only watch what the driving device sees. */
  watch?: boolean;
  /** Gives the scene back that this device had; never part of an address. */
  resumeSecret?: string | undefined;
  fetch: Fetch;
  signal: AbortSignal;
}

export interface FoundWay {
  readonly transport: Transport;
  readonly reason: string;
}

/** Opens a transport one way; exchanged by tests. */
export interface WayOpeners {
  webrtc(options: WayOptions, events: TransportEvents): Promise<Transport>;
  websocket(url: string, options: WayOptions, events: TransportEvents): Promise<Transport>;
}

const OPENERS: WayOpeners = {
  webrtc: (options, events) =>
    WebRtcTransport.open(
      {
        ...options,
        iceServers: options.iceServers ?? [],
        relayOnly: options.way === "turn",
        only: options.way !== "auto",
      },
      events,
    ),
  websocket: (url, options, events) =>
    WebSocketTransport.open({ ...options, url, names: subprotocolsFor(options) }, events),
};

/** What a handshake over a WebSocket asks for beside a connection. */
function subprotocolsFor(options: WayOptions): string[] {
  const names: string[] = [];
  if (options.watch) names.push("farframe.watch");
  if (options.resumeSecret) names.push(`farframe.resume.${options.resumeSecret}`);
  return names;
}

const remembered = new Map<string, { kind: "webrtc" | "websocket"; at: number }>();

/** Forgets what worked; for tests, and for pages whose network has changed. */
export function forgetWays(): void {
  remembered.clear();
}

function anotherWayMayHelp(error: FarframeError): boolean {
  return ["HandshakeFailed", "VideoCodecNotAvailable", "NotSupported"].includes(error.result);
}

/** Connects by the best way there is, or by the one that is asked for. Rejects with the first way's {@link FarframeError}. */
export async function findWay(
  options: WayOptions,
  events: TransportEvents,
  openers: WayOpeners = OPENERS,
): Promise<FoundWay> {
  const place = new URL(options.url, globalThis.location?.href).origin;
  const known = remembered.get(place);
  const memory =
    options.way === "auto" && known && performance.now() - known.at < REMEMBERED_MILLISECONDS ? known : undefined;
  const order: ("webrtc" | "websocket")[] =
    options.way === "auto" ? ["webrtc", "websocket"] : [options.way === "websocket" ? "websocket" : "webrtc"];
  if (memory?.kind === "websocket") order.reverse();
  let failure: FarframeError | undefined;
  for (const kind of order) {
    try {
      const transport =
        kind === "webrtc" ? await openers.webrtc(options, events) : await openSocket(options, events, openers);
      if (options.way === "auto" && memory?.kind !== kind) remembered.set(place, { kind, at: performance.now() });
      return { transport, reason: reasonOf(kind, options.way, memory?.kind, failure) };
    } catch (error) {
      const problem = toFarframeError(error, "Connecting");
      if (options.signal.aborted || !anotherWayMayHelp(problem)) throw problem;
      failure ??= problem;
    }
  }
  throw failure;
}

async function openSocket(options: WayOptions, events: TransportEvents, openers: WayOpeners): Promise<Transport> {
  let failure: unknown;
  for (const url of options.streamUrls ?? [streamUrl(options.url)]) {
    try {
      return await openers.websocket(url, options, events);
    } catch (error) {
      const problem = toFarframeError(error, "Connecting");
      if (options.signal.aborted || !anotherWayMayHelp(problem)) throw problem;
      failure ??= problem;
    }
  }
  throw failure;
}

function reasonOf(
  kind: "webrtc" | "websocket",
  way: WayChoice,
  memory: string | undefined,
  failure: FarframeError | undefined,
): string {
  if (way !== "auto") return "It was asked for.";
  if (failure) return `${kind === "webrtc" ? "The WebSocket" : "WebRTC"} failed: ${failure.message}`;
  if (kind === "websocket" && memory === kind) return "WebRTC did not get through here some minutes ago.";
  return "UDP gets through.";
}
