/** The handshake: WHEP, without trickle. `POST` an SDP offer, `201` with the answer and `Location`, `DELETE` ends it. */

import { cancelled, errorFromAnswer, FarframeError, nextStepOf, type Result } from "./errors.ts";

/** With a STUN server that does not answer, gathering would take much longer. */
const GATHERING_TIMEOUT_MILLISECONDS = 1000;
/**
 * Without a STUN server there are host candidates only. They come in one burst, yet Chromium reports the end of
 * gathering about 110 ms later (measured): a pause of this length after a candidate is the end.
 */
const HOST_CANDIDATES_PAUSE_MILLISECONDS = 20;
const MAX_ANSWER_CHARACTERS = 64 * 1024;
/** Nobody waits longer for the service to take a goodbye: the server notices by itself within seconds. */
export const GOODBYE_MILLISECONDS = 3000;

const STATUS_RESULTS: Readonly<Record<number, Result>> = {
  400: "HandshakeFailed",
  404: "InvalidId",
  406: "VideoCodecNotAvailable",
  409: "OtherSessionConnected",
  403: "WatchingOnly",
  410: "NothingToResume",
  415: "HandshakeFailed",
  422: "VideoCodecNotAvailable",
};

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

/** A finished handshake. */
export interface WhepSession {
  /** Where the resource lives; `DELETE` ends the connection. */
  readonly resource: string;
  /** Ends the connection at the server. With `keepalive` the request outlives the page. Never rejects. */
  end(keepalive?: boolean): Promise<void>;
}

/** H.264 first, with what retransmits it, and nothing else: the server sends nothing else. */
export function preferH264(codecs: readonly RTCRtpCodec[]): RTCRtpCodec[] {
  const h264 = codecs.filter((codec) => codec.mimeType.toLowerCase() === "video/h264");
  if (h264.length === 0) {
    throw new FarframeError("VideoCodecNotAvailable", "This browser cannot receive H.264 video over WebRTC.", {
      nextStep: nextStepOf("VideoCodecNotAvailable"),
    });
  }
  // Mode 1 lets a frame span packets; the server sends nothing else.
  const mode1 = h264.filter((codec) => /packetization-mode=1/.test(codec.sdpFmtpLine ?? ""));
  const retransmission = codecs.filter((codec) => codec.mimeType.toLowerCase() === "video/rtx");
  return [...(mode1.length > 0 ? mode1 : h264), ...retransmission];
}

function gathered(peer: RTCPeerConnection, signal: AbortSignal | undefined): Promise<void> {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  const hostOnly = (peer.getConfiguration().iceServers ?? []).length === 0;
  return new Promise((resolve, reject) => {
    let pause: ReturnType<typeof setTimeout> | undefined;
    const finish = (): void => {
      clearTimeout(timer);
      clearTimeout(pause);
      peer.removeEventListener("icegatheringstatechange", onChange);
      peer.removeEventListener("icecandidate", onCandidate);
      signal?.removeEventListener("abort", onAbort);
    };
    const done = (): void => {
      finish();
      resolve();
    };
    const onChange = (): void => {
      if (peer.iceGatheringState === "complete") done();
    };
    const onCandidate = (): void => {
      clearTimeout(pause);
      if (hostOnly) pause = setTimeout(done, HOST_CANDIDATES_PAUSE_MILLISECONDS);
    };
    const onAbort = (): void => {
      finish();
      reject(cancelled("Connecting"));
    };
    const timer = setTimeout(done, GATHERING_TIMEOUT_MILLISECONDS);
    peer.addEventListener("icegatheringstatechange", onChange);
    peer.addEventListener("icecandidate", onCandidate);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** What a handshake asks for beside a connection. */
export interface HandshakeWish {
  /** Only watch what the driving device sees. */
  watch?: boolean;
  /** Gives the scene back that this device had. */
  resumeSecret?: string | undefined;
  /** The token to end the connection with; by default that of the handshake. */
  lastToken?: (() => string) | undefined;
}

function watching(url: string): string {
  return `${url}${url.includes("?") ? "&" : "?"}watch`;
}

/** Offers what `peer` has been set up for and applies the answer. */
export async function handshake(
  peer: RTCPeerConnection,
  url: string,
  token: string,
  fetcher: Fetch,
  signal?: AbortSignal,
  wish: HandshakeWish = {},
): Promise<WhepSession> {
  await peer.setLocalDescription();
  await gathered(peer, signal);
  const offer = peer.localDescription?.sdp;
  if (!offer) throw new FarframeError("HandshakeFailed", "The browser made no SDP offer.");
  const authorization = { Authorization: `Bearer ${token}` };
  let answer: Response;
  try {
    answer = await fetcher(wish.watch ? watching(url) : url, {
      method: "POST",
      headers: {
        ...authorization,
        "Content-Type": "application/sdp",
        Accept: "application/sdp, application/json",
        // In a header: addresses are written down by everybody on the way.
        ...(wish.resumeSecret ? { "Farframe-Resume": wish.resumeSecret } : {}),
      },
      body: offer,
      cache: "no-store",
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw cancelled("Connecting");
    throw new FarframeError("ConnectionLost", "The service could not be reached for the handshake.", {
      nextStep: nextStepOf("ConnectionLost"),
      cause: error,
    });
  }
  if (answer.status !== 201) {
    throw errorFromAnswer("The handshake", answer.status, await textOf(answer, signal), STATUS_RESULTS);
  }
  const location = answer.headers.get("Location");
  const resource = new URL(location ?? url, new URL(answer.url || url, globalThis.location?.href)).href;
  const session: WhepSession = {
    resource,
    async end(keepalive = false) {
      try {
        const headers = wish.lastToken ? { Authorization: `Bearer ${wish.lastToken()}` } : authorization;
        await fetcher(resource, {
          method: "DELETE",
          headers,
          keepalive,
          signal: AbortSignal.timeout(GOODBYE_MILLISECONDS),
        });
      } catch {
        // The server notices by itself within seconds.
      }
    },
  };
  // From here on there is a place at the server: it is given back, whatever happens.
  try {
    const text = await textOf(answer, signal);
    if (text.length > MAX_ANSWER_CHARACTERS) throw new FarframeError("HandshakeFailed", "The SDP answer is too long.");
    await peer.setRemoteDescription({ type: "answer", sdp: text });
  } catch (error) {
    // Before anything else is tried: a session takes one device at a time.
    await session.end();
    throw error instanceof FarframeError
      ? error
      : new FarframeError("HandshakeFailed", "The server's SDP answer cannot be used.", { cause: error });
  }
  return session;
}

async function textOf(answer: Response, signal: AbortSignal | undefined): Promise<string> {
  try {
    return await answer.text();
  } catch (error) {
    if (signal?.aborted) throw cancelled("Connecting");
    throw new FarframeError("ConnectionLost", "The service broke off in the middle of the handshake.", {
      nextStep: nextStepOf("ConnectionLost"),
      cause: error,
    });
  }
}
