import { describe, expect, it, vi } from "vitest";
import { ManagementClient, newId, redeemLink, type Session } from "../src/index.ts";

const READY: Session = {
  id: "s 1",
  creationTime: "2024-05-01T08:00:00.1234567+00:00",
  elapsedTimeMinutes: 0,
  maxLeaseTimeMinutes: 10,
  size: "Standard",
  status: "Ready",
  hostname: "render.test",
  handshakePort: 50051,
};

function setUp(...answers: Response[]) {
  const fetcher = vi.fn(
    async (_url: string, _init?: RequestInit) => answers.shift() ?? new Response("", { status: 500 }),
  );
  const client = new ManagementClient({
    endpoint: "https://service.test/",
    accountId: "acc",
    token: "t",
    fetch: fetcher,
  });
  return { client, fetcher };
}

const json = (body: unknown, status = 200): Response => new Response(JSON.stringify(body), { status });

describe("ManagementClient", () => {
  it("creates a session with the contract's body", async () => {
    const { client, fetcher } = setUp(json(READY, 201));
    await client.createSession({ id: "s1", size: "Premium", leaseMinutes: 5 });
    const [url, init] = fetcher.mock.calls[0] ?? [];
    expect(url).toBe("https://service.test/accounts/acc/sessions/s1?api-version=2021-01-01");
    expect(init).toMatchObject({ method: "PUT", body: '{"maxLeaseTimeMinutes":5,"size":"Premium"}' });
    expect(init?.headers).toMatchObject({ Authorization: "Bearer t", "Content-Type": "application/json" });
  });

  it("stops with the colon in a segment of its own and encodes ids", async () => {
    const { client, fetcher } = setUp(new Response(null, { status: 204 }));
    await client.stopSession("s 1");
    expect(fetcher.mock.calls[0]?.[0]).toBe(
      "https://service.test/accounts/acc/sessions/s%201/:stop?api-version=2021-01-01",
    );
  });

  it("walks the pages of a list, on its own origin only", async () => {
    const { client, fetcher } = setUp(
      json({ sessions: [READY], "@nextLink": "https://service.test/next?api-version=2021-01-01&skiptoken=x" }),
      json({ sessions: [READY], "@nextLink": "https://elsewhere.test/steal" }),
    );
    expect(await client.listSessions()).toHaveLength(2);
    expect(fetcher).toHaveBeenCalledTimes(2);
    expect(fetcher.mock.calls[1]?.[0]).toBe("https://service.test/next?api-version=2021-01-01&skiptoken=x");
  });

  it("waits until a session is ready", async () => {
    const { client } = setUp(json({ ...READY, status: "Starting" }), json(READY));
    const seen: string[] = [];
    const session = await client.waitUntilReady("s1", {
      intervalMilliseconds: 1,
      onChange: ({ status }) => seen.push(status),
    });
    expect(session.status).toBe("Ready");
    expect(seen).toEqual(["Starting", "Ready"]);
  });

  it.each([
    ["Stopped", "SessionStopped"],
    ["Expired", "SessionExpired"],
    ["Error", "Fail"],
  ])("does not wait for a session that is %s", async (status, result) => {
    const { client } = setUp(json({ ...READY, status, error: { code: "ServerLost", message: "It died." } }));
    await expect(client.waitUntilReady("s1")).rejects.toMatchObject({ result });
  });

  it("stops waiting when it is aborted", async () => {
    const abort = new AbortController();
    const { client } = setUp(json({ ...READY, status: "Starting" }));
    const waiting = client.waitUntilReady("s1", {
      signal: abort.signal,
      intervalMilliseconds: 60_000,
      onChange: () => queueMicrotask(() => abort.abort()),
    });
    await expect(waiting).rejects.toMatchObject({ result: "Cancelled" });
  });

  it("tells what to do about an expired token", async () => {
    const { client } = setUp(new Response("", { status: 401 }));
    await expect(client.listSessions()).rejects.toMatchObject({
      result: "AuthenticationFailed",
      nextStep: expect.stringContaining("farframe view"),
    });
  });

  it("refuses an answer that is not JSON", async () => {
    const { client } = setUp(new Response("<html>"));
    await expect(client.getSession("s1")).rejects.toMatchObject({ result: "ProtocolError" });
  });

  it("gets a link into the inspector, and no other kind of link", async () => {
    const { client, fetcher } = setUp(
      json({ url: "https://render.test:50052/#token=x", expiresAt: "2030" }, 201),
      json({ url: "javascript:alert(1)" }, 201),
    );
    expect(await client.inspectorLink("s1")).toBe("https://render.test:50052/#token=x");
    expect(fetcher.mock.calls[0]?.[1]?.method).toBe("POST");
    await expect(client.inspectorLink("s1")).rejects.toMatchObject({ result: "ProtocolError" });
  });

  it("makes a token for a device, with what is asked for and nothing else", async () => {
    const answer = { accessToken: "x", accountId: "acc", sessionId: "s1", role: "Viewer", expiresAt: "2030" };
    const { client, fetcher } = setUp(json(answer, 201), json(answer, 201));
    expect(await client.createToken("s1", { role: "Viewer", minutes: 5 })).toEqual(answer);
    await client.createToken("s1");
    const [url, init] = fetcher.mock.calls[0] ?? [];
    expect(url).toBe("https://service.test/accounts/acc/sessions/s1/token?api-version=2021-01-01");
    expect(init).toMatchObject({ method: "POST", body: '{"role":"Viewer","minutes":5}' });
    expect(fetcher.mock.calls[1]?.[1]?.body).toBe("{}");
  });

  it("asks for links, usage and quotas", async () => {
    const { client, fetcher } = setUp(json({ url: "u" }, 201), json({ usage: [] }), json({ quotas: {} }));
    await client.createViewerLink("s1");
    await client.usage({ from: "2026-10-01", by: "day" });
    await client.quotas();
    expect(fetcher.mock.calls.map(([url, init]) => `${init?.method} ${new URL(url).pathname}`)).toEqual([
      "POST /accounts/acc/viewer-links",
      "GET /accounts/acc/usage",
      "GET /accounts/acc/quotas",
    ]);
    expect(fetcher.mock.calls[0]?.[1]?.body).toBe('{"sessionId":"s1"}');
    expect(new URL(fetcher.mock.calls[1]?.[0] ?? "").searchParams.get("from")).toBe("2026-10-01");
  });

  it("lists uploads over all pages", async () => {
    const file = { uri: "upload://1/a.glb", uploadId: "1", path: "a.glb", bytes: 5 };
    const { client } = setUp(
      json({ uploads: [file], usedBytes: 10, quotaBytes: 100, "@nextLink": "/accounts/acc/uploads?skiptoken=x" }),
      json({ uploads: [file], usedBytes: 10, quotaBytes: 100 }),
    );
    expect(await client.listUploads()).toEqual({ uploads: [file, file], usedBytes: 10, quotaBytes: 100 });
  });

  it("knows both handshake addresses", () => {
    const { client } = setUp();
    expect(client.whepUrl("s1")).toBe("https://service.test/accounts/acc/sessions/s1/whep");
    expect(ManagementClient.directWhepUrl(READY)).toBe("https://render.test:50051/whep");
    const { handshakePort: _, ...starting } = READY;
    expect(ManagementClient.directWhepUrl(starting)).toBeUndefined();
  });
});

describe("redeemLink", () => {
  it("exchanges a code", async () => {
    const fetcher = vi.fn(async () => json({ accessToken: "t", accountId: "a", expiresAt: "2030-01-01T00:00:00Z" }));
    expect(await redeemLink("CODE", { endpoint: "https://service.test", fetch: fetcher })).toMatchObject({
      accessToken: "t",
    });
    expect(fetcher.mock.calls[0]).toMatchObject([
      "https://service.test/viewer-links/redeem",
      { method: "POST", body: '{"code":"CODE"}' },
    ]);
  });

  it("passes on what the service says about a dead link", async () => {
    const body = { error: { code: "LinkUsed", message: "This link has been used already. Ask for a new one." } };
    const fetcher = vi.fn(async () => json(body, 410));
    await expect(redeemLink("C", { endpoint: "https://service.test", fetch: fetcher })).rejects.toMatchObject({
      result: "AuthenticationFailed",
      code: "LinkUsed",
      message: body.error.message,
      nextStep: "",
    });
  });

  it.each([400, 401, 404, 410])("says that a link is used up on status %d", async (status) => {
    const fetcher = vi.fn(async () => new Response("", { status }));
    await expect(redeemLink("C", { endpoint: "https://service.test", fetch: fetcher })).rejects.toMatchObject({
      result: "AuthenticationFailed",
      nextStep: expect.stringContaining("farframe view"),
    });
  });
});

it("makes version 4 UUIDs", () => {
  expect(newId()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(newId()).not.toBe(newId());
});
