import { describe, expect, it } from "vitest";
import { expiryOf, FarframeError, ManagementClient, type TokenRequest, TokenSource } from "../src/index.ts";

const encode = (claims: object): string => btoa(JSON.stringify(claims)).replace(/=+$/, "");
const tokenUntil = (seconds: number): string => `${encode({ alg: "RS256" })}.${encode({ exp: seconds })}.x`;
const refusal = (result: string): object => expect.objectContaining({ result });

describe("expiryOf", () => {
  it("reads when a token runs out, and nothing of what is none", () => {
    expect(expiryOf(tokenUntil(1234))).toBe(1_234_000);
    for (const text of ["", "abc", "a.b.c", `a.${btoa("null")}.c`, `a.${btoa('{"exp":"x"}')}.c`]) {
      expect(expiryOf(text)).toBeUndefined();
    }
  });
});

describe("TokenSource", () => {
  it("asks once for all who wait, and keeps what it got", async () => {
    let asked = 0;
    const source = new TokenSource(async () => `token ${++asked}`);
    expect(await Promise.all([source.get(), source.get()])).toEqual(["token 1", "token 1"]);
    expect(await source.get()).toBe("token 1");
    expect(source.last).toBe("token 1");
  });

  it("asks again before a token runs out", async () => {
    const now = Date.now() / 1000;
    const tokens = [tokenUntil(now + 5), tokenUntil(now + 3600)];
    const source = new TokenSource(() => tokens.shift() ?? "none");
    expect(expiryOf(await source.get())).toBeLessThan((now + 6) * 1000);
    expect(expiryOf(await source.get())).toBeGreaterThan((now + 60) * 1000);
    expect(tokens).toHaveLength(0);
    await source.get();
  });

  it("tells what was refused, and does not take the same again", async () => {
    const asked: TokenRequest[] = [];
    const tokens = ["a", "a"];
    const source = new TokenSource((request) => {
      asked.push(request);
      return tokens.shift() ?? "b";
    });
    expect(source.refuse(await source.get())).toBe(true);
    await expect(source.get()).rejects.toEqual(refusal("AuthenticationFailed"));
    expect(await source.get()).toBe("b");
    expect(asked.map(({ refused }) => refused)).toEqual([undefined, "a", "a"]);
    source.refuse("a");
    expect(await source.get()).toBe("b");
  });

  it("asks once more where what it was given is refused by then", async () => {
    const asked: TokenRequest[] = [];
    const { promise, resolve } = Promise.withResolvers<string>();
    const soon = tokenUntil(Date.now() / 1000 + 5);
    const source = new TokenSource((request) => {
      asked.push(request);
      if (asked.length === 1) return soon;
      return asked.length === 2 ? promise : "new";
    });
    await source.get();
    // It is about to run out and being renewed, when the service refuses it.
    const renewed = source.get();
    source.refuse(soon);
    resolve(soon);
    expect(await renewed).toBe("new");
    expect(asked.map(({ refused }) => refused)).toEqual([undefined, undefined, soon]);
  });

  it("says so when the page has none", async () => {
    const failing = new TokenSource(() => Promise.reject(new Error("no network")));
    await expect(failing.get()).rejects.toEqual(refusal("AuthenticationFailed"));
    await expect(new TokenSource(() => "").get()).rejects.toEqual(refusal("AuthenticationFailed"));
    const own = new TokenSource(() => Promise.reject(new FarframeError("Cancelled", "Not now.")));
    await expect(own.get()).rejects.toEqual(refusal("Cancelled"));
  });

  it("has nothing else to give where the token is a text", async () => {
    const source = new TokenSource("text");
    expect(source.refuse("text")).toBe(false);
    expect(await source.get()).toBe("text");
  });
});

describe("ManagementClient with a token provider", () => {
  it("asks for another token when one is refused, once", async () => {
    const used: string[] = [];
    const tokens = ["old", "new"];
    const management = new ManagementClient({
      endpoint: "https://service",
      accountId: "a",
      token: () => tokens.shift() ?? "newest",
      fetch: async (_input, init) => {
        const sent = new Headers(init?.headers).get("Authorization") ?? "";
        used.push(sent);
        return sent === "Bearer old" ? new Response("", { status: 401 }) : Response.json({ id: "s", status: "Ready" });
      },
    });
    expect((await management.getSession("s")).id).toBe("s");
    await management.getSession("s");
    expect(used).toEqual(["Bearer old", "Bearer new", "Bearer new"]);
  });

  it("rejects when the next one is refused, too", async () => {
    let asked = 0;
    const management = new ManagementClient({
      endpoint: "https://service",
      accountId: "a",
      token: () => `token ${++asked}`,
      fetch: async () => new Response("", { status: 401 }),
    });
    await expect(management.getSession("s")).rejects.toEqual(refusal("AuthenticationFailed"));
    expect(asked).toBe(2);
  });
});
