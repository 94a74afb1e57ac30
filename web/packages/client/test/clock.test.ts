import { expect, it } from "vitest";
import { ClockAlignment } from "../src/index.ts";

it("knows nothing before the first ping", () => {
  const clock = new ClockAlignment();
  expect(clock.offsetMicroseconds).toBeUndefined();
  expect(clock.roundTripMicroseconds).toBeUndefined();
});

it("believes the shortest round trip and reports the last", () => {
  const clock = new ClockAlignment();
  clock.add(0, 1_000_900, 20_000);
  clock.add(100_000, 1_101_000, 102_000);
  clock.add(200_000, 1_240_000, 250_000);
  expect(clock.offsetMicroseconds).toBe(1_000_000);
  expect(clock.roundTripMicroseconds).toBe(50_000);
});

it("forgets old samples, so that a drifting clock is followed", () => {
  const clock = new ClockAlignment();
  clock.add(0, 0, 10);
  for (let ping = 1; ping <= 64; ping += 1) clock.add(ping, ping + 500 + 50, ping + 100);
  expect(clock.offsetMicroseconds).toBe(500);
});

it("follows a clock that drifts between its best samples", () => {
  const clock = new ClockAlignment();
  const drift = 100e-6;
  for (let second = 0; second < 120; second += 1) {
    const sent = second * 1_000_000;
    const late = second % 7 === 0 ? 0 : 3000;
    clock.add(sent, 5_000_000 + (sent + 500) * (1 + drift) + late / 2, sent + 1000 + late);
  }
  const truth = 5_000_000 + 119_000_500 * drift;
  expect(Math.abs((clock.offsetMicroseconds ?? 0) - truth)).toBeLessThan(200);
  expect(clock.bestRoundTripMicroseconds).toBe(1000);
});
