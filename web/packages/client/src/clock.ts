/** Aligning the server's clock with ours, as NTP does: the sample with the shortest round trip is the best one. */

const KEPT_SAMPLES = 16;

interface Sample {
  roundTripMicroseconds: number;
  offsetMicroseconds: number;
}

export class ClockAlignment {
  readonly #samples: Sample[] = [];

  /** Takes one ping: our clock when it left, the server's in its answer, our clock when that came; microseconds. */
  add(sentMicroseconds: number, serverMicroseconds: number, receivedMicroseconds: number): void {
    const roundTripMicroseconds = Math.max(0, receivedMicroseconds - sentMicroseconds);
    this.#samples.push({
      roundTripMicroseconds,
      offsetMicroseconds: serverMicroseconds - (sentMicroseconds + roundTripMicroseconds / 2),
    });
    if (this.#samples.length > KEPT_SAMPLES) this.#samples.shift();
  }

  /** Server clock minus ours in microseconds, or undefined before the first ping. Off by half the round trip at most. */
  get offsetMicroseconds(): number | undefined {
    let best: Sample | undefined;
    for (const sample of this.#samples) {
      if (!best || sample.roundTripMicroseconds < best.roundTripMicroseconds) best = sample;
    }
    return best?.offsetMicroseconds;
  }

  /** The last round trip in microseconds, or undefined before the first ping. */
  get roundTripMicroseconds(): number | undefined {
    return this.#samples.at(-1)?.roundTripMicroseconds;
  }
}

/** This device's clock: microseconds since the page began. */
export function nowMicroseconds(): number {
  return Math.round(performance.now() * 1000);
}
