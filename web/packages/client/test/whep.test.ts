import { describe, expect, it, type Mock, vi } from "vitest";
import { type Fetch, handshake, preferH264 } from "../src/index.ts";

const codec = (mimeType: string, sdpFmtpLine?: string): RTCRtpCodec => ({
  mimeType,
  clockRate: 90_000,
  ...(sdpFmtpLine ? { sdpFmtpLine } : {}),
});

describe("preferH264", () => {
  it("offers H.264 in mode 1 and retransmission, nothing else", () => {
    const wanted = codec("video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
    const codecs = [
      codec("video/VP8"),
      codec("video/rtx"),
      codec("video/H264", "packetization-mode=0;profile-level-id=42e01f"),
      wanted,
      codec("video/AV1"),
    ];
    expect(preferH264(codecs)).toEqual([wanted, codec("video/rtx")]);
  });

  it("refuses a browser without H.264", () => {
    expect(() => preferH264([codec("video/VP8"), codec("video/rtx")])).toThrow(
      expect.objectContaining({ result: "VideoCodecNotAvailable" }),
    );
  });
});

class FakePeer extends EventTarget {
  iceGatheringState = "new";
  localDescription: { sdp: string } | null = null;
  remote: string | undefined;
  iceServers: RTCIceServer[] = [{ urls: "stun:stun.test" }];

  getConfiguration(): RTCConfiguration {
    return { iceServers: this.iceServers };
  }

  async setLocalDescription(): Promise<void> {
    this.localDescription = { sdp: "v=0 without candidates" };
    queueMicrotask(() => {
      this.localDescription = { sdp: "v=0 with candidates" };
      this.iceGatheringState = "complete";
      this.dispatchEvent(new Event("icegatheringstatechange"));
    });
  }

  async setRemoteDescription(description: { sdp: string }): Promise<void> {
    if (description.sdp === "nonsense") throw new Error("Failed to parse SessionDescription");
    this.remote = description.sdp;
  }
}

const URL_ = "https://service.test/accounts/a/sessions/s/whep";

function setUp(answer: Response): { peer: FakePeer; fetcher: Mock<Fetch>; run: () => Promise<unknown> } {
  const peer = new FakePeer();
  const fetcher = vi.fn<Fetch>(async () => answer);
  const run = () => handshake(peer as unknown as RTCPeerConnection, URL_, "secret", fetcher);
  return { peer, fetcher, run };
}

describe("handshake", () => {
  it("posts the gathered offer, applies the answer and deletes the resource", async () => {
    const { peer, fetcher } = setUp(new Response("v=0 answer", { status: 201, headers: { Location: "whep/7" } }));
    const session = await handshake(peer as unknown as RTCPeerConnection, URL_, "secret", fetcher);
    expect(fetcher.mock.calls[0]).toMatchObject([
      URL_,
      {
        method: "POST",
        body: "v=0 with candidates",
        headers: { Authorization: "Bearer secret", "Content-Type": "application/sdp" },
      },
    ]);
    expect(peer.remote).toBe("v=0 answer");
    expect(session.resource).toBe("https://service.test/accounts/a/sessions/s/whep/7");
    await session.end(true);
    expect(fetcher.mock.calls[1]).toMatchObject([
      session.resource,
      { method: "DELETE", keepalive: true, headers: { Authorization: "Bearer secret" } },
    ]);
  });

  it("does not wait for the end of gathering when there are host candidates only", async () => {
    const { peer, fetcher } = setUp(new Response("v=0 answer", { status: 201 }));
    peer.iceServers = [];
    peer.setLocalDescription = async () => {
      setTimeout(() => {
        peer.localDescription = { sdp: "v=0 with a candidate" };
        peer.dispatchEvent(new Event("icecandidate"));
      }, 1);
    };
    vi.useFakeTimers();
    try {
      const running = handshake(peer as unknown as RTCPeerConnection, URL_, "t", fetcher);
      await vi.advanceTimersByTimeAsync(25);
      await running;
    } finally {
      vi.useRealTimers();
    }
    expect(fetcher.mock.calls[0]?.[1]?.body).toBe("v=0 with a candidate");
  });

  it.each([
    [401, "AuthenticationFailed"],
    [404, "InvalidId"],
    [406, "VideoCodecNotAvailable"],
    [409, "OtherSessionConnected"],
    [503, "SessionNotReady"],
  ])("turns status %d into %s", async (status, result) => {
    await expect(setUp(new Response("", { status })).run()).rejects.toMatchObject({ result, status });
  });

  it("believes the server's own result over the status", async () => {
    const body = JSON.stringify({ error: { code: "SessionNotReady", message: "Not yet." } });
    await expect(setUp(new Response(body, { status: 409 })).run()).rejects.toMatchObject({
      result: "SessionNotReady",
      message: "Not yet.",
    });
  });

  it("ends what it cannot use", async () => {
    const { fetcher, run } = setUp(new Response("nonsense", { status: 201, headers: { Location: "/whep/9" } }));
    await expect(run()).rejects.toMatchObject({ result: "HandshakeFailed" });
    expect(fetcher.mock.calls[1]).toMatchObject(["https://service.test/whep/9", { method: "DELETE" }]);
  });

  it("reports a service that cannot be reached", async () => {
    const { peer } = setUp(new Response());
    const fetcher = vi.fn(async () => Promise.reject(new TypeError("Failed to fetch")));
    await expect(handshake(peer as unknown as RTCPeerConnection, URL_, "t", fetcher)).rejects.toMatchObject({
      result: "ConnectionLost",
    });
  });

  it("gives its place back when it is aborted with half of the answer read, before it says so", async () => {
    const { peer } = setUp(new Response());
    const abort = new AbortController();
    const asked: (string | undefined)[] = [];
    const fetcher = async (url: string, init?: RequestInit): Promise<Response> => {
      if (init?.method === "DELETE") {
        await new Promise((resolve) => setTimeout(resolve, 5));
        asked.push(url);
        return new Response();
      }
      const answer = new Response(null, { status: 201, headers: { Location: "whep/7" } });
      vi.spyOn(answer, "text").mockImplementation(async () => {
        abort.abort();
        throw abort.signal.reason;
      });
      return answer;
    };
    await expect(
      handshake(peer as unknown as RTCPeerConnection, URL_, "t", fetcher, abort.signal),
    ).rejects.toMatchObject({ result: "Cancelled" });
    expect(asked).toEqual(["https://service.test/accounts/a/sessions/s/whep/7"]);
  });

  it("stops when it is aborted", async () => {
    const { peer } = setUp(new Response());
    const abort = new AbortController();
    const fetcher = vi.fn(async (_url: string, init?: RequestInit) => {
      abort.abort();
      throw init?.signal?.reason;
    });
    await expect(
      handshake(peer as unknown as RTCPeerConnection, URL_, "t", fetcher, abort.signal),
    ).rejects.toMatchObject({ result: "Cancelled" });
  });
});
