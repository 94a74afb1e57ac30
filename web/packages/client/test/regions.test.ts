import { describe, expect, it } from "vitest";
import { bestRegion, fetchRegions, ManagementClient, measureRegion, measureRegions } from "../src/index.ts";

const HOME = "https://home.test";
const FAR = "https://far.test";
const LIST = {
  region: "home",
  regions: [
    { name: "home", endpoint: "https://home.inside" },
    { name: "far", endpoint: FAR },
  ],
};

function network(answers: (url: string, init?: RequestInit) => Response) {
  const asked: string[] = [];
  const fetcher = async (url: string, init?: RequestInit): Promise<Response> => {
    asked.push(`${init?.mode ?? "-"} ${url}`);
    const { pathname, searchParams } = new URL(url);
    if (pathname === "/regions") return Response.json(LIST);
    if (pathname === "/latency" && searchParams.has("bytes") && url.startsWith(HOME)) {
      return new Response(new Uint8Array(Number(searchParams.get("bytes"))));
    }
    return answers(url, init);
  };
  return { fetch: fetcher, asked };
}

const fine = (): Response => new Response(null, { status: 204 });
const down = (): never => {
  throw new TypeError("Failed to fetch");
};

describe("measureRegion", () => {
  it("takes the median without the first, and the payload's own time", async () => {
    const moments = [0, 1, 10, 12, 20, 21, 30, 31, 40, 42, 50, 51, 60, 69, 70, 75];
    const measured = await measureRegion(
      { name: "home", endpoint: HOME },
      { ...network(fine), now: () => moments.shift() as number },
    );
    expect(measured).toMatchObject({ outcome: "measured", roundTrip: 1 });
    expect(measured.throughput).toBeCloseTo((8 * 512 * 1024) / 0.004);
  });

  it("says when nothing can be reached", async () => {
    expect(await measureRegion({ name: "far", endpoint: FAR }, network(down))).toEqual({
      name: "far",
      endpoint: FAR,
      outcome: "unreachable",
    });
  });

  it("says when something answers that this page may not read", async () => {
    const { fetch, asked } = network((_url, init) => (init?.mode === "no-cors" ? fine() : down()));
    expect((await measureRegion({ name: "far", endpoint: FAR }, { fetch })).outcome).toBe("refused");
    expect(asked).toEqual([`cors ${FAR}/latency`, `no-cors ${FAR}/latency`]);
  });

  it("says which status it got", async () => {
    const limited = network(() => new Response("", { status: 429 }));
    expect(await measureRegion({ name: "far", endpoint: FAR }, limited)).toMatchObject({
      outcome: "failed",
      status: 429,
    });
  });

  it("rejects when it is aborted", async () => {
    await expect(
      measureRegion({ name: "far", endpoint: FAR }, { ...network(down), signal: AbortSignal.abort() }),
    ).rejects.toThrow();
  });
});

describe("regions", () => {
  it("are measured one after the other, the own one where it was asked", async () => {
    const seen: string[] = [];
    const { fetch, asked } = network((url) => (url.startsWith(FAR) ? down() : fine()));
    const measured = await measureRegions(HOME, { fetch, onMeasured: ({ name }) => seen.push(name) });
    expect(seen).toEqual(["home", "far"]);
    expect(asked.some((line) => line.includes("home.inside"))).toBe(false);
    expect(bestRegion(measured)?.name).toBe("home");
    expect(bestRegion(measured.slice(1))).toBeUndefined();
  });

  it("must be a list", async () => {
    const fetch = async (): Promise<Response> => Response.json({ regions: 7 });
    await expect(fetchRegions(HOME, { fetch })).rejects.toMatchObject({ result: "ProtocolError" });
    const refusing = async (): Promise<Response> => new Response("", { status: 503 });
    await expect(fetchRegions(HOME, { fetch: refusing })).rejects.toMatchObject({ status: 503 });
  });

  it("are chosen when a session is created, and its calls follow it", async () => {
    const session = { id: "s", status: "Ready", size: "Standard" };
    const { fetch, asked } = network((url) =>
      url.includes("/sessions/") ? Response.json(session) : url.startsWith(HOME) ? down() : fine(),
    );
    const client = new ManagementClient({ endpoint: HOME, accountId: "a", token: "t", fetch });
    await client.createSession({ id: "s", leaseMinutes: 5, region: "far" });
    await client.getSession("s");
    expect(client.whepUrl("s")).toBe(`${FAR}/accounts/a/sessions/s/whep`);
    await client.createSession({ id: "other", leaseMinutes: 5, region: "best" });
    await client.createSession({ id: "near", leaseMinutes: 5 });
    const hosts = asked.filter((line) => line.includes("/sessions/")).map((line) => new URL(line.slice(2)).origin);
    expect(hosts).toEqual([FAR, FAR, FAR, HOME]);
    expect((await client.inRegion("home")).endpoint).toBe(HOME);
    await expect(client.inRegion("mars")).rejects.toMatchObject({ result: "InvalidId" });
  });
});
