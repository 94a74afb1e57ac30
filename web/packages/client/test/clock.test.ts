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
  for (let ping = 1; ping <= 16; ping += 1) clock.add(ping, ping + 500 + 50, ping + 100);
  expect(clock.offsetMicroseconds).toBe(500);
});
