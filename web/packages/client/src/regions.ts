/**
 * Which region is the nearest: measured from here, since no map knows a network. What a page may know of a request that
 * failed is little, and nothing more than that is told.
 */

import { cancelled, FarframeError } from "./errors.ts";
import type { Fetch } from "./whep.ts";

/** Round trips a region; the median counts. */
export const ROUNDS = 7;
export const PAYLOAD_BYTES = 512 * 1024;
export const TIMEOUT_MILLISECONDS = 10_000;
const MAX_REGIONS = 64;

/** A region and its service's URL. */
export interface Region {
  readonly name: string;
  readonly endpoint: string;
  /** The roots to trust there, in PEM, where it has an authority of its own. */
  readonly caCertificates?: string;
}

export interface RegionList {
  /** The region of the service that was asked. */
  readonly region: string;
  readonly regions: readonly Region[];
}

/**
 * How it went.
 *
 * | | |
 * | --- | --- |
 * | `measured` | it did |
 * | `silent` | no answer came in time |
 * | `unreachable` | no connection: nothing is there, or the browser does not trust the certificate; pages are not told which |
 * | `refused` | something answers, and does not let pages of this origin see it |
 * | `failed` | it answered with `status` |
 */
export type RegionOutcome = "measured" | "silent" | "unreachable" | "refused" | "failed";

export interface RegionMeasurement {
  readonly name: string;
  readonly endpoint: string;
  readonly outcome: RegionOutcome;
  /** Milliseconds: the median on a connection that was open. */
  readonly roundTrip?: number;
  /** Bits a second, towards here. */
  readonly throughput?: number;
  readonly status?: number;
}

export interface MeasureOptions {
  fetch?: Fetch;
  signal?: AbortSignal | undefined;
  /** False leaves the throughput out, which is quicker. */
  throughput?: boolean;
  now?: () => number;
}

const defaultFetch: Fetch = (input, init) => fetch(input, init);

/** The regions that the service at `endpoint` knows, its own first. */
export async function fetchRegions(
  endpoint: string,
  options: { fetch?: Fetch; signal?: AbortSignal | undefined } = {},
): Promise<RegionList> {
  const base = endpoint.replace(/\/+$/, "");
  let list: Partial<RegionList>;
  try {
    const answer = await (options.fetch ?? defaultFetch)(`${base}/regions`, {
      cache: "no-store",
      credentials: "omit",
      ...(options.signal ? { signal: options.signal } : {}),
    });
    if (!answer.ok) {
      throw new FarframeError("Fail", `The service answered with status ${answer.status} when asked for its regions.`, {
        nextStep: "Try again in a moment.",
        status: answer.status,
      });
    }
    list = (await answer.json()) as Partial<RegionList>;
  } catch (error) {
    if (error instanceof FarframeError) throw error;
    if (options.signal?.aborted) throw cancelled("Asking for the regions");
    throw new FarframeError("ConnectionLost", "The service did not tell its regions.", {
      nextStep: "Check that it is running and that the network works, then try again.",
      cause: error,
    });
  }
  const regions = (Array.isArray(list.regions) ? list.regions : []).filter(
    ({ name, endpoint: url }) => typeof name === "string" && typeof url === "string",
  );
  if (typeof list.region !== "string") throw new FarframeError("ProtocolError", "The answer holds no regions.");
  return { region: list.region, regions: regions.slice(0, MAX_REGIONS) };
}

/** Measures the way to one region. Rejects only when it was aborted. */
export async function measureRegion(
  region: Pick<Region, "name" | "endpoint">,
  options: MeasureOptions = {},
): Promise<RegionMeasurement> {
  const { name, endpoint } = region;
  const fetcher = options.fetch ?? defaultFetch;
  const now = options.now ?? (() => performance.now());
  const url = `${endpoint.replace(/\/+$/, "")}/latency`;
  const clock = new AbortController();
  const timer = setTimeout(() => clock.abort(), TIMEOUT_MILLISECONDS);
  const signal = options.signal ? AbortSignal.any([options.signal, clock.signal]) : clock.signal;
  const ask = async (address: string, mode: RequestMode = "cors"): Promise<number> => {
    const answer = await fetcher(address, {
      mode,
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
      signal,
    });
    const { byteLength } = await answer.arrayBuffer();
    if (mode === "cors" && !answer.ok) throw new StatusError(answer.status);
    return byteLength;
  };
  try {
    await ask(url); // opens the connection
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const begun = now();
      await ask(url);
      times.push(now() - begun);
    }
    const roundTrip = times.sort((a, b) => a - b)[ROUNDS >> 1] as number;
    if (options.throughput === false) return { name, endpoint, outcome: "measured", roundTrip };
    const begun = now();
    const size = await ask(`${url}?bytes=${PAYLOAD_BYTES}`);
    // The request's own way there and back is not the payload's. Clocks of pages are coarse, and never run in zero.
    const seconds = Math.max(now() - begun - roundTrip, 0.05) / 1000;
    return { name, endpoint, outcome: "measured", roundTrip, throughput: (8 * size) / seconds };
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof StatusError) return { name, endpoint, outcome: "failed", status: error.status };
    if (clock.signal.aborted) return { name, endpoint, outcome: "silent" };
    try {
      await ask(url, "no-cors");
      return { name, endpoint, outcome: "refused" };
    } catch {
      options.signal?.throwIfAborted();
      return { name, endpoint, outcome: clock.signal.aborted ? "silent" : "unreachable" };
    }
  } finally {
    clearTimeout(timer);
  }
}

/** The region with the shortest round trip, if any was measured: a picture is late before it is coarse. */
export function bestRegion(measured: readonly RegionMeasurement[]): RegionMeasurement | undefined {
  return measured.reduce<RegionMeasurement | undefined>((best, each) => {
    if (each.roundTrip === undefined) return best;
    return best?.roundTrip !== undefined && best.roundTrip <= each.roundTrip ? best : each;
  }, undefined);
}

/** All regions that the service knows, measured one after the other so that none disturbs another. */
export async function measureRegions(
  endpoint: string,
  options: MeasureOptions & { onMeasured?: (measurement: RegionMeasurement) => void } = {},
): Promise<RegionMeasurement[]> {
  const list = await fetchRegions(endpoint, options);
  const measured: RegionMeasurement[] = [];
  for (const region of list.regions) {
    // The service's own region is measured the way by which it is known to answer.
    const near = region.name === list.region ? { name: region.name, endpoint } : region;
    const measurement = await measureRegion(near, options);
    measured.push(measurement);
    options.onMeasured?.(measurement);
  }
  return measured;
}

class StatusError extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`status ${status}`);
    this.status = status;
  }
}
