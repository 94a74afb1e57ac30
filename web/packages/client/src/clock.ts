/**
 * Aligning the server's clock with ours, as NTP does: the sample with the shortest round trip is the best one.
 *
 * Two clocks also drift apart, by some ten microseconds a second. How fast is taken from the best samples of the oldest and
 * of the newest third of the latest minute, and carries the best sample's offset to now.
 */

const KEPT_SAMPLES = 64;
/** Two samples that lie closer together than this say nothing about drift. */
const MIN_DRIFT_SPAN_MICROSECONDS = 10_000_000;
/** No quartz is worse; what looks like more is jitter of the network. */
const MAX_DRIFT = 200e-6;

interface Sample {
  roundTripMicroseconds: number;
  offsetMicroseconds: number;
  atMicroseconds: number;
}

function bestOf(samples: readonly Sample[]): Sample | undefined {
  let best: Sample | undefined;
  for (const sample of samples) {
    if (!best || sample.roundTripMicroseconds < best.roundTripMicroseconds) best = sample;
  }
  return best;
}

export class ClockAlignment {
  readonly #samples: Sample[] = [];
  #best: Sample | undefined;
  #drift = 0;

  /** Takes one ping: our clock when it left, the server's in its answer, our clock when that came; microseconds. */
  add(sentMicroseconds: number, serverMicroseconds: number, receivedMicroseconds: number): void {
    const roundTripMicroseconds = Math.max(0, receivedMicroseconds - sentMicroseconds);
    this.#samples.push({
      roundTripMicroseconds,
      offsetMicroseconds: serverMicroseconds - (sentMicroseconds + roundTripMicroseconds / 2),
      atMicroseconds: receivedMicroseconds,
    });
    if (this.#samples.length > KEPT_SAMPLES) this.#samples.shift();
    this.#best = bestOf(this.#samples);
    this.#drift = this.#findDrift();
  }

  #findDrift(): number {
    const third = Math.floor(this.#samples.length / 3);
    const older = bestOf(this.#samples.slice(0, third));
    const newer = bestOf(this.#samples.slice(this.#samples.length - third));
    if (!older || !newer) return 0;
    const span = newer.atMicroseconds - older.atMicroseconds;
    if (span < MIN_DRIFT_SPAN_MICROSECONDS) return 0;
    return Math.max(-MAX_DRIFT, Math.min(MAX_DRIFT, (newer.offsetMicroseconds - older.offsetMicroseconds) / span));
  }

  /** Server clock minus ours in microseconds, or undefined before the first ping. Off by half the round trip at most. */
  get offsetMicroseconds(): number | undefined {
    const latest = this.#samples.at(-1);
    if (!this.#best || !latest) return undefined;
    return this.#best.offsetMicroseconds + this.#drift * (latest.atMicroseconds - this.#best.atMicroseconds);
  }

  /** The last round trip in microseconds, or undefined before the first ping. */
  get roundTripMicroseconds(): number | undefined {
    return this.#samples.at(-1)?.roundTripMicroseconds;
  }

  /** The shortest of the latest round trips in microseconds: half of it is how far the offset may be off. */
  get bestRoundTripMicroseconds(): number | undefined {
    return this.#best?.roundTripMicroseconds;
  }
}

/** This device's clock: microseconds since the page began. */
export function nowMicroseconds(): number {
  return Math.round(performance.now() * 1000);
}
