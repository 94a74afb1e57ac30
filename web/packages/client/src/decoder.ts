/** H.264 access units in, pictures out, by WebCodecs: what a peer connection does by itself. */

import { FarframeError, nextStepOf } from "./errors.ts";

/** A decoder that is so far behind starts anew at a keyframe. */
const MAX_WAITING = 30;
const NAL_SEQUENCE_PARAMETERS = 7;

/** A picture that was decoded; whoever gets it closes `frame`. Milliseconds on `performance.now()`'s clock. */
export interface DecodedPicture {
  readonly frame: VideoFrame;
  readonly rtpTimestamp: number;
  readonly receivedAt: number;
  readonly decodedAt: number;
}

/** The codec's name for WebCodecs from a keyframe (Annex B), as RFC 6381 builds it; undefined without an SPS. */
export function codecOf(accessUnit: Uint8Array): string | undefined {
  for (let at = 0; at + 7 < accessUnit.length; at += 1) {
    if (accessUnit[at] !== 0 || accessUnit[at + 1] !== 0 || accessUnit[at + 2] !== 1) continue;
    if (((accessUnit[at + 3] ?? 0) & 0x1f) !== NAL_SEQUENCE_PARAMETERS) continue;
    const bytes = accessUnit.subarray(at + 4, at + 7);
    return `avc1.${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  }
  return undefined;
}

/** Counts a 32-bit time stamp that wraps around on without end. */
export class Unwrapper {
  #last: number | undefined;
  #base = 0;

  unwrap(timestamp: number): number {
    if (this.#last !== undefined) {
      const step = (timestamp - this.#last) | 0;
      if (step >= 0 && timestamp < this.#last) this.#base += 2 ** 32;
      if (step < 0 && timestamp > this.#last) this.#base -= 2 ** 32;
    }
    this.#last = timestamp;
    return this.#base + timestamp;
  }
}

export class AccessUnitDecoder {
  readonly #onPicture: (picture: DecodedPicture) => void;
  readonly #onKeyframeNeeded: () => void;
  readonly #unwrapper = new Unwrapper();
  readonly #waiting = new Map<number, { rtpTimestamp: number; receivedAt: number }>();
  #decoder: VideoDecoder | undefined;
  #codec: string | undefined;
  #needsKeyframe = true;
  #closed = false;

  constructor(onPicture: (picture: DecodedPicture) => void, onKeyframeNeeded: () => void) {
    if (typeof VideoDecoder === "undefined") {
      throw new FarframeError("VideoCodecNotAvailable", "This browser cannot decode video outside of WebRTC.", {
        nextStep: nextStepOf("VideoCodecNotAvailable"),
      });
    }
    this.#onPicture = onPicture;
    this.#onKeyframeNeeded = onKeyframeNeeded;
  }

  /** Takes the next access unit. What cannot be decoded is dropped, and a keyframe asked for. */
  decode(data: Uint8Array<ArrayBuffer>, rtpTimestamp: number, keyframe: boolean, receivedAt: number): void {
    if (this.#closed) return;
    if (keyframe) this.#configure(data);
    const decoder = this.#decoder;
    if (decoder?.state !== "configured" || (this.#needsKeyframe && !keyframe)) {
      this.#onKeyframeNeeded();
      return;
    }
    if (decoder.decodeQueueSize > MAX_WAITING) {
      this.#needsKeyframe = true;
      this.#onKeyframeNeeded();
      return;
    }
    this.#needsKeyframe = false;
    const timestamp = Math.round((this.#unwrapper.unwrap(rtpTimestamp) * 100) / 9);
    this.#waiting.set(timestamp, { rtpTimestamp, receivedAt });
    try {
      decoder.decode(new EncodedVideoChunk({ type: keyframe ? "key" : "delta", timestamp, data }));
    } catch {
      this.#failed();
    }
  }

  close(): void {
    this.#closed = true;
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = undefined;
    this.#waiting.clear();
  }

  #configure(keyframe: Uint8Array): void {
    const codec = codecOf(keyframe);
    if (codec === undefined) return;
    if (this.#decoder?.state === "configured" && codec === this.#codec) return;
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#waiting.clear();
    const decoder: VideoDecoder = new VideoDecoder({
      output: (frame) => this.#decoded(frame),
      // What a former one still has to complain about concerns nobody.
      error: () => {
        if (this.#decoder === decoder) this.#failed();
      },
    });
    this.#decoder = decoder;
    this.#codec = codec;
    try {
      decoder.configure({ codec, optimizeForLatency: true });
    } catch {
      this.#failed();
    }
  }

  #decoded(frame: VideoFrame): void {
    const known = this.#waiting.get(frame.timestamp);
    if (!known || this.#closed) {
      frame.close();
      return;
    }
    for (const timestamp of this.#waiting.keys()) {
      if (timestamp <= frame.timestamp) this.#waiting.delete(timestamp);
    }
    this.#onPicture({ frame, ...known, decodedAt: performance.now() });
  }

  #failed(): void {
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = undefined;
    this.#needsKeyframe = true;
    this.#waiting.clear();
    if (!this.#closed) this.#onKeyframeNeeded();
  }
}
