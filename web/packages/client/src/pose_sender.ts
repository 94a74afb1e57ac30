/**
 * Sends the newest pose: at most once per animation frame, and only when it changed.
 *
 * The `pose` channel may lose messages. While the device moves the next pose replaces a lost one; the last pose of a
 * movement has no successor, so it is sent again, the same bytes, until a frame drawn for it comes back.
 *
 * While nothing comes back, poses are sent farther and farther apart. SCTP takes what was sent into the silence for being
 * on its way until its timer runs out, and from then on lets one packet's worth be so until the timer, now twice as
 * long, runs out again. Poses at their usual pace use that up at once, and when the line is back the next one waits
 * for the timer: up to 3 s in Chromium. Spaced by a fixed part of the silence they never do, and the first that finds a
 * line passes at once.
 */

import { nowMicroseconds } from "./clock.ts";
import { isNewer } from "./ledger.ts";
import { encodePose, type View } from "./records.ts";

const RESEND_AFTER_MILLISECONDS = [150, 300, 600, 1200] as const;
/** Poses wait no longer than that much unsent data: a newer one is worth more. */
const MAX_BUFFERED_BYTES = 4096;
/** Nothing need come back for so long: a long line, and a picture that takes a while to draw. */
const SILENT_MILLISECONDS = 250;
/** From then on this part of the silence lies between two poses, but no more than the most. */
const SILENCE_PART = 1 / 6;
const MAX_SPACING_MILLISECONDS = 300;

/** The channel, and the browser's clocks, as far as they matter here. */
export interface PoseSenderEnvironment {
  send(bytes: ArrayBuffer): void;
  bufferedBytes(): number;
  requestFrame(callback: () => void): void;
  setTimer(callback: () => void, milliseconds: number): ReturnType<typeof setTimeout>;
  clearTimer(timer: ReturnType<typeof setTimeout>): void;
}

/** A view of its own: the page may go on with its object. */
function copyOf(view: View): View {
  return {
    ...view,
    position: [...view.position],
    orientation: [...view.orientation],
    fieldOfView: { ...view.fieldOfView },
  };
}

function sameView(a: View, b: View): boolean {
  return (
    a.position.every((value, index) => value === b.position[index]) &&
    a.orientation.every((value, index) => value === b.orientation[index]) &&
    a.near === b.near &&
    a.far === b.far &&
    (a.orthographic ?? false) === (b.orthographic ?? false) &&
    a.fieldOfView.left === b.fieldOfView.left &&
    a.fieldOfView.right === b.fieldOfView.right &&
    a.fieldOfView.up === b.fieldOfView.up &&
    a.fieldOfView.down === b.fieldOfView.down
  );
}

export class PoseSender {
  /** Whether the server is asked to draw for where the views will be, see {@link PoseRecord.predict}. */
  predict = false;

  readonly #environment: PoseSenderEnvironment;
  #newest: { views: readonly View[]; timeMicroseconds: number } | undefined;
  #sent: readonly View[] | undefined;
  #sentBytes: ArrayBuffer | undefined;
  #poseId = 0;
  #scheduled = false;
  #stopped = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the first pose was sent since a frame came; microseconds as of {@link nowMicroseconds}. */
  #unheardSince: number | undefined;
  #lastSent = 0;

  constructor(environment: PoseSenderEnvironment) {
    this.#environment = environment;
  }

  /** The id of the last pose that was sent; 0 before the first. */
  get poseId(): number {
    return this.#poseId;
  }

  /** Whether a newer pose waits to be sent. */
  get waits(): boolean {
    return this.#newest !== undefined;
  }

  /** Where the device is now: one or two views. */
  set(views: readonly View[]): void {
    if (this.#stopped) return;
    const known = this.#newest?.views ?? this.#sent;
    if (known && known.length === views.length && known.every((view, index) => sameView(view, views[index] as View))) {
      return;
    }
    this.#newest = { views: views.map(copyOf), timeMicroseconds: nowMicroseconds() };
    this.#schedule();
  }

  /** A frame drawn for that pose came back. */
  acknowledge(poseId: number): void {
    this.#unheardSince = undefined;
    if (!isNewer(this.#poseId, poseId)) this.#clearTimer();
    // Given up into a line that was gone: it is back.
    else if (this.#sentBytes && !this.#timer && !this.#stopped) this.#resendLater(0);
  }

  /** Sends the last pose again: the line that carried it is another one now. */
  repeat(): void {
    if (this.#stopped || !this.#sentBytes) return;
    this.#environment.send(this.#sentBytes);
    this.#resendLater(0);
  }

  /** Ends all sending. */
  stop(): void {
    this.#stopped = true;
    this.#newest = undefined;
    this.#clearTimer();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#environment.requestFrame(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const newest = this.#newest;
    if (!newest || this.#stopped) return;
    if (this.#environment.bufferedBytes() > MAX_BUFFERED_BYTES || this.#heldBack()) {
      this.#schedule();
      return;
    }
    this.#newest = undefined;
    this.#poseId = (this.#poseId + 1) >>> 0;
    this.#sent = newest.views;
    this.#sentBytes = encodePose({
      poseId: this.#poseId,
      clientTimeMicroseconds: newest.timeMicroseconds,
      views: newest.views,
      predict: this.predict,
    });
    this.#environment.send(this.#sentBytes);
    this.#resendLater(0);
  }

  /** Whether the newest pose is kept for a moment, because nothing has come back for long. Otherwise it counts as sent. */
  #heldBack(): boolean {
    const now = nowMicroseconds();
    this.#unheardSince ??= now;
    const silence = (now - this.#unheardSince) / 1000 - SILENT_MILLISECONDS;
    const spacing = Math.min(silence * SILENCE_PART, MAX_SPACING_MILLISECONDS);
    if (silence > 0 && (now - this.#lastSent) / 1000 < spacing) return true;
    this.#lastSent = now;
    return false;
  }

  #resendLater(attempt: number): void {
    this.#clearTimer();
    const delay = RESEND_AFTER_MILLISECONDS[attempt];
    if (delay === undefined) return;
    this.#timer = this.#environment.setTimer(() => {
      if (this.#stopped || !this.#sentBytes) return;
      this.#environment.send(this.#sentBytes);
      this.#resendLater(attempt + 1);
    }, delay);
  }

  #clearTimer(): void {
    if (this.#timer !== undefined) this.#environment.clearTimer(this.#timer);
    this.#timer = undefined;
  }
}
