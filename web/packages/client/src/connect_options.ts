/** What a connection is asked for, and what it tells. */

import { FarframeError } from "./errors.ts";
import type { LedgerEntry, LedgerSummary } from "./ledger.ts";
import {
  type ConnectionInfo,
  RENDER_MODE_CHOICES,
  type RenderModeChoice,
  type SessionEnding,
  type VideoSettings,
} from "./messages.ts";
import type { FrameRecord } from "./records.ts";
import type { TokenProvider, TokenSource } from "./tokens.ts";
import type { WayChoice } from "./transport.ts";
import type { Fetch } from "./whep.ts";

export type ConnectionState = "connecting" | "connected" | "interrupted" | "closed";

export interface ConnectOptions {
  /** The WHEP address: relayed by the service or direct, see `ManagementClient.whepUrl`. */
  url: string;
  /** Addresses of the stream's WebSocket, for where UDP does not get through; by default the one beside `url`. */
  streamUrls?: readonly string[];
  /** Which way the stream takes; `auto` by default. */
  way?: WayChoice;
  /** The account's access token, or who gives it: asked again when it runs out or is refused. */
  token: string | TokenProvider | TokenSource;
  /** The picture wanted, pixels; made even. */
  width: number;
  height: number;
  maxFramesPerSecond?: number;
  /** Names this client in the server's log. */
  client?: string;
  /** Only watch what the driving device sees: a token of the role Viewer is enough. */
  watch?: boolean;
  /** One of Azure Remote Rendering's; both draw alike here. Not for who watches. */
  renderMode?: RenderModeChoice;
  /** Whether a connection that is lost is made anew; true by default. */
  reconnect?: boolean;
  /** STUN or TURN servers, see `ManagementClient.iceServers`; none by default. */
  iceServers?: RTCIceServer[];
  /** Aborting ends the attempt; once there is a connection it changes nothing, `close()` of the connection ends that. */
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
  /** Another frame is on the screen, and its record is known. One whose record comes when the next is shown is left out. */
  frame: LedgerEntry;
  /** The server's record of a frame arrived. */
  record: FrameRecord;
  /** Once a second while connected. */
  statistics: ConnectionStatistics;
  /** The connection is back, with the scene that it had; `info.scene` says what is in it. */
  resumed: ConnectionInfo;
  /** (Watching) A device drives, or none does any more. */
  driver: boolean;
  /** (Watching) The driving device's picture has another size or rate now. */
  video: VideoSettings;
  /** The server is about to end the connection; `closed` follows. */
  ending: SessionEnding;
  /** The connection has ended, and why: `DisconnectRequest` after `close()` of the connection. */
  closed: FarframeError;
}

/** Sizes on the wire are even and at least 16 pixels. */
export function evenSize(pixels: number): number {
  return Math.max(16, 2 * Math.round(pixels / 2));
}

/** Throws InvalidParam for a render mode that there is not, and for one of who watches. */
export function checkRenderMode({ renderMode, watch }: ConnectOptions): void {
  if (renderMode === undefined) return;
  if (!RENDER_MODE_CHOICES.includes(renderMode)) {
    throw new FarframeError("InvalidParam", `There is no render mode ${JSON.stringify(renderMode)}.`, {
      nextStep: `Use one of ${RENDER_MODE_CHOICES.join(", ")}.`,
    });
  }
  if (watch) {
    throw new FarframeError("InvalidParam", "A device that only watches has no render mode.", {
      nextStep: "Leave renderMode out.",
    });
  }
}
