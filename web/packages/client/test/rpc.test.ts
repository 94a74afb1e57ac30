import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FarframeError, MAX_CONTROL_MESSAGE_BYTES, RpcPeer } from "../src/index.ts";

interface Sent {
  id?: number;
  method: string;
  params: Record<string, unknown>;
}

function peer(): { rpc: RpcPeer; sent: Sent[] } {
  const sent: Sent[] = [];
  return { rpc: new RpcPeer((text) => void sent.push(JSON.parse(text) as Sent)), sent };
}

const answer = (id: number | undefined, result: unknown): string => JSON.stringify({ jsonrpc: "2.0", id, result });

describe("RpcPeer", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("matches answers to requests in any order", async () => {
    const { rpc, sent } = peer();
    const first = rpc.request("a", { x: 1 });
    const second = rpc.request("b");
    rpc.receive(answer(sent[1]?.id, "two"));
    rpc.receive(answer(sent[0]?.id, "one"));
    expect(await first).toBe("one");
    expect(await second).toBe("two");
    expect(sent[0]).toMatchObject({ jsonrpc: "2.0", method: "a", params: { x: 1 } });
    expect(rpc.pendingCount).toBe(0);
  });

  it("turns an error answer into a typed error", async () => {
    const { rpc, sent } = peer();
    const request = rpc.request("scene.loadModel", { uri: "x" });
    const error = { code: -32000, message: "No such file.", data: { result: "FileNotFound", nextStep: "Look again." } };
    rpc.receive(JSON.stringify({ jsonrpc: "2.0", id: sent[0]?.id, error }));
    await expect(request).rejects.toMatchObject({
      result: "FileNotFound",
      message: "No such file.",
      nextStep: "Look again.",
      retryable: false,
    });
  });

  it("takes an unknown result for Fail", async () => {
    const { rpc, sent } = peer();
    const request = rpc.request("a");
    rpc.receive(
      JSON.stringify({ jsonrpc: "2.0", id: sent[0]?.id, error: { code: 1, message: "m", data: { result: "New" } } }),
    );
    await expect(request).rejects.toMatchObject({ result: "Fail" });
  });

  it("hands notifications to their handler and ignores unknown ones", () => {
    const { rpc } = peer();
    const handler = vi.fn();
    rpc.onNotification("scene.loadProgress", handler);
    rpc.receive(JSON.stringify({ jsonrpc: "2.0", method: "scene.loadProgress", params: { fraction: 0.5 } }));
    rpc.receive(JSON.stringify({ jsonrpc: "2.0", method: "from.theFuture", params: {} }));
    expect(handler).toHaveBeenCalledExactlyOnceWith({ fraction: 0.5 });
  });

  it("cancels at the server and settles with its answer", async () => {
    const { rpc, sent } = peer();
    const abort = new AbortController();
    const request = rpc.request("slow", {}, { signal: abort.signal });
    abort.abort();
    expect(sent[1]).toMatchObject({ method: "$/cancelRequest", params: { id: sent[0]?.id } });
    rpc.receive(answer(sent[0]?.id, "finished all the same"));
    expect(await request).toBe("finished all the same");
  });

  it("gives a cancelled request up when no answer comes", async () => {
    const { rpc } = peer();
    const abort = new AbortController();
    const request = rpc.request("slow", {}, { signal: abort.signal });
    const expectation = expect(request).rejects.toMatchObject({ result: "Cancelled" });
    abort.abort();
    await vi.advanceTimersByTimeAsync(5000);
    await expectation;
    expect(rpc.pendingCount).toBe(0);
  });

  it("sends nothing for a request that is cancelled already", async () => {
    const { rpc, sent } = peer();
    await expect(rpc.request("a", {}, { signal: AbortSignal.abort() })).rejects.toMatchObject({ result: "Cancelled" });
    expect(sent).toEqual([]);
  });

  it("times out as a lost connection", async () => {
    const { rpc } = peer();
    const expectation = expect(rpc.request("a", {}, { timeoutMilliseconds: 100 })).rejects.toMatchObject({
      result: "ConnectionLost",
      retryable: true,
    });
    await vi.advanceTimersByTimeAsync(100);
    await expectation;
  });

  it("rejects what is pending and what comes once it failed", async () => {
    const { rpc } = peer();
    const pending = rpc.request("a");
    rpc.fail(new FarframeError("SessionExpired", "The lease ran out."));
    await expect(pending).rejects.toMatchObject({ result: "SessionExpired" });
    await expect(rpc.request("b")).rejects.toMatchObject({ result: "SessionExpired" });
  });

  it("reports a closed channel as a lost connection", async () => {
    const rpc = new RpcPeer(() => {
      throw new Error("InvalidStateError");
    });
    await expect(rpc.request("a")).rejects.toMatchObject({ result: "ConnectionLost" });
    expect(rpc.pendingCount).toBe(0);
  });

  it.each(["", "no json", "[]", "null", '{"id":1,"result":{}}', '{"jsonrpc":"2.0"}', '{"jsonrpc":"2.0","id":"x"}'])(
    "refuses %j",
    (text) => {
      expect(() => peer().rpc.receive(text)).toThrow(expect.objectContaining({ result: "ProtocolError" }));
    },
  );

  it("ignores an answer to a request that it does not know", () => {
    expect(() => peer().rpc.receive(answer(99, {}))).not.toThrow();
  });

  it("refuses to send more than the limit, in bytes", async () => {
    const { rpc, sent } = peer();
    const uri = "é".repeat(MAX_CONTROL_MESSAGE_BYTES / 2);
    await expect(rpc.request("a", { uri })).rejects.toMatchObject({ result: "InvalidParam" });
    expect(sent).toEqual([]);
  });
});
