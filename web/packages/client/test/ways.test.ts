import { beforeEach, describe, expect, it, vi } from "vitest";
import { FarframeError, type Result } from "../src/errors.ts";
import { findWay, forgetWays, type Transport, type TransportEvents, type WayOptions } from "../src/index.ts";

const events: TransportEvents = {
  control: () => undefined,
  record: () => undefined,
  disturbed: () => undefined,
  lost: () => undefined,
};

function options(change: Partial<WayOptions> = {}): WayOptions {
  return {
    url: "https://service.test/accounts/a/sessions/s/whep",
    token: "t",
    way: "auto",
    fetch: vi.fn(),
    signal: new AbortController().signal,
    ...change,
  };
}

const transport = (kind: string): Transport => ({ kind, relayed: true }) as unknown as Transport;

function openers(failures: { webrtc?: Result; websocket?: Result }) {
  const open = (kind: "webrtc" | "websocket") => {
    const result = failures[kind];
    if (result) throw new FarframeError(result, `${kind} says ${result}.`);
    return transport(kind);
  };
  return {
    webrtc: vi.fn(async () => open("webrtc")),
    websocket: vi.fn(async (_url: string) => open("websocket")),
  };
}

beforeEach(() => forgetWays());

describe("findWay", () => {
  it("takes WebRTC where it gets through", async () => {
    const made = openers({});
    const found = await findWay(options(), events, made);
    expect(found.transport.kind).toBe("webrtc");
    expect(found.reason).toBe("UDP gets through.");
    expect(made.websocket).not.toHaveBeenCalled();
  });

  it("falls back to the WebSocket beside the handshake, and says why", async () => {
    const made = openers({ webrtc: "HandshakeFailed" });
    const found = await findWay(options(), events, made);
    expect(found.transport.kind).toBe("websocket");
    expect(found.reason).toBe("WebRTC failed: webrtc says HandshakeFailed.");
    expect(made.websocket.mock.calls[0]?.[0]).toBe("wss://service.test/accounts/a/sessions/s/stream");
  });

  it("does not try again what failed a moment ago", async () => {
    const first = openers({ webrtc: "HandshakeFailed" });
    await findWay(options(), events, first);
    const second = openers({});
    const found = await findWay(options(), events, second);
    expect(found.transport.kind).toBe("websocket");
    expect(found.reason).toContain("some minutes ago");
    expect(second.webrtc).not.toHaveBeenCalled();
  });

  it("goes back to WebRTC when the WebSocket does not work any more", async () => {
    await findWay(options(), events, openers({ webrtc: "HandshakeFailed" }));
    const found = await findWay(options(), events, openers({ websocket: "HandshakeFailed" }));
    expect(found.transport.kind).toBe("webrtc");
    expect(found.reason).toContain("The WebSocket failed");
  });

  it("tries no other way against a refusal", async () => {
    for (const result of ["OtherSessionConnected", "AuthenticationFailed", "SessionNotReady"] as const) {
      const made = openers({ webrtc: result });
      await expect(findWay(options(), events, made)).rejects.toMatchObject({ result });
      expect(made.websocket).not.toHaveBeenCalled();
    }
  });

  it("tries each address of the WebSocket, and tells the first failure", async () => {
    const made = openers({ webrtc: "HandshakeFailed", websocket: "HandshakeFailed" });
    const urls = ["wss://a.test/stream", "wss://b.test/stream"];
    await expect(findWay(options({ streamUrls: urls }), events, made)).rejects.toThrow("webrtc says");
    expect(made.websocket.mock.calls.map(([url]) => url)).toEqual(urls);
  });

  it("takes the way that is asked for, and no other", async () => {
    const asked = openers({});
    const found = await findWay(options({ way: "websocket" }), events, asked);
    expect([found.transport.kind, found.reason]).toEqual(["websocket", "It was asked for."]);
    expect(asked.webrtc).not.toHaveBeenCalled();
    const failing = openers({ webrtc: "HandshakeFailed" });
    await expect(findWay(options({ way: "turn" }), events, failing)).rejects.toThrow("webrtc says");
    expect(failing.websocket).not.toHaveBeenCalled();
  });

  it("stops when it is cancelled", async () => {
    const abort = new AbortController();
    const made = openers({ webrtc: "HandshakeFailed" });
    made.webrtc.mockImplementation(async () => {
      abort.abort();
      throw new FarframeError("HandshakeFailed", "Cancelled meanwhile.");
    });
    await expect(findWay(options({ signal: abort.signal }), events, made)).rejects.toThrow("Cancelled");
    expect(made.websocket).not.toHaveBeenCalled();
  });
});
