/** What a {@link Connection} needs of whatever carries its stream: WebRTC (`webrtc.ts`) or one WebSocket (`websocket.ts`). */

import type { ShownFrame } from "./ledger.ts";

/** `turn` is WebRTC by way of a TURN server. */
export type WayKind = "webrtc" | "turn" | "websocket";

/** `auto` takes the best that gets through; the others ask for one. */
export type WayChoice = "auto" | WayKind;

/** By which way the stream travels. */
export interface Way {
  readonly kind: WayKind;
  /** Whether the service passes on the handshake, or for a WebSocket the whole stream. */
  readonly relayed: boolean;
  /** A sentence for people: why this way. */
  readonly reason: string;
  /** The shortest round trip that was measured so far. */
  readonly roundTripMilliseconds: number | undefined;
}

/** What a transport tells its connection. */
export interface TransportEvents {
  /** A message of the control channel. */
  control(text: string): void;
  /** A frame's record. */
  record(bytes: ArrayBuffer): void;
  /** It hangs, or goes on again. */
  disturbed(disturbed: boolean): void;
  /** It has ended by itself. */
  lost(): void;
}

/** Counts since the beginning. */
export interface TransportSample {
  readonly bytesReceived: number;
  readonly packetsLost: number;
  readonly framesDropped: number;
  readonly framesDecoded: number;
}

export interface Transport {
  readonly kind: WayKind;
  readonly relayed: boolean;
  /** The pictures, as a stream that a video element shows. */
  readonly stream: MediaStream;
  /** Whether control messages can be sent. */
  readonly open: boolean;
  sendControl(text: string): void;
  /** Sends a record of the pose channel; nothing if the transport is not open. */
  sendPose(bytes: ArrayBuffer): void;
  /** Bytes of poses that wait. */
  poseBacklog(): number;
  /** Shows the pictures in `video` and tells of each one; the returned function ends that. */
  attach(video: HTMLVideoElement, shown: (frame: ShownFrame) => void): () => void;
  sample(): Promise<TransportSample | undefined>;
  /** Frees the place at the server; with `keepalive` that outlives the page. Never rejects. */
  end(keepalive?: boolean): Promise<void>;
  /** Closes everything here. */
  close(): void;
}
