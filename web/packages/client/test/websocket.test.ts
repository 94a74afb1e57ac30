import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { codecOf, Unwrapper } from "../src/decoder.ts";
import {
  decodePicture,
  encodeAcknowledgement,
  encodeKeyframeRequest,
  streamUrl,
  WebSocketTransport,
} from "../src/websocket.ts";
import { FakeVideo } from "./fake_video.ts";

describe("the messages of the WebSocket", () => {
  it("reads pictures", () => {
    const bytes = new Uint8Array([240, 1, 1, 0, 7, 0, 0, 0, 0xb8, 0x0b, 0, 0, 1, 2, 3]);
    expect(decodePicture(bytes.buffer)).toEqual({
      number: 7,
      rtpTimestamp: 3000,
      keyframe: true,
      data: new Uint8Array([1, 2, 3]),
    });
    bytes[2] = 0;
    expect(decodePicture(bytes.buffer)?.keyframe).toBe(false);
  });

  it("takes nothing else for a picture", () => {
    for (const bytes of [[], [240], [240, 1, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0], [241, 1, ...new Array(20).fill(0)]]) {
      expect(decodePicture(new Uint8Array(bytes).buffer)).toBeUndefined();
    }
    expect(decodePicture(new Uint8Array([240, 2, ...new Array(20).fill(0)]).buffer)).toBeUndefined();
  });

  it("acknowledges with the time of arrival", () => {
    const bytes = new Uint8Array(encodeAcknowledgement(258, 0x0102030405));
    expect([...bytes]).toEqual([241, 1, 0, 0, 2, 1, 0, 0, 5, 4, 3, 2, 1, 0, 0, 0]);
    expect([...new Uint8Array(encodeKeyframeRequest())]).toEqual([242, 1, 0, 0]);
  });
});

describe("streamUrl", () => {
  it("lies beside the handshake", () => {
    expect(streamUrl("https://service.test:8443/accounts/a/sessions/s/whep?watch")).toBe(
      "wss://service.test:8443/accounts/a/sessions/s/stream",
    );
    expect(streamUrl("http://127.0.0.1:8080/whep")).toBe("ws://127.0.0.1:8080/stream");
  });
});

describe("codecOf", () => {
  it("finds the profile and level in the parameter set", () => {
    const unit = new Uint8Array([0, 0, 0, 1, 0x09, 0x10, 0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xd9, 0, 0, 1, 0x65, 1]);
    expect(codecOf(unit)).toBe("avc1.42c01f");
    expect(codecOf(new Uint8Array([0, 0, 1, 0x65, 1, 2, 3, 4, 5, 6]))).toBeUndefined();
    expect(codecOf(new Uint8Array([0, 0, 1, 0x67]))).toBeUndefined();
  });
});

describe("Unwrapper", () => {
  it("counts on over the end of 32 bits, and back", () => {
    const unwrapper = new Unwrapper();
    expect(unwrapper.unwrap(2 ** 32 - 10)).toBe(2 ** 32 - 10);
    expect(unwrapper.unwrap(5)).toBe(2 ** 32 + 5);
    expect(unwrapper.unwrap(2 ** 32 - 1)).toBe(2 ** 32 - 1);
    expect(unwrapper.unwrap(3000)).toBe(2 ** 32 + 3000);
  });
});

describe("the pictures in the element", () => {
  const decoders: FakeDecoder[] = [];
  const sockets: FakeSocket[] = [];

  class FakeSocket extends EventTarget {
    static readonly OPEN = 1;
    readonly readyState = 1;
    readonly bufferedAmount = 0;
    binaryType = "";

    constructor() {
      super();
      sockets.push(this);
    }

    send(): void {}

    close(): void {}

    say(data: unknown): void {
      this.dispatchEvent(Object.assign(new Event("message"), { data }));
    }

    /** The server sends a keyframe. */
    picture(rtpTimestamp: number): void {
      const parameters = [0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0];
      const data = new DataView(new ArrayBuffer(12 + parameters.length));
      new Uint8Array(data.buffer).set([240, 1, 1]);
      new Uint8Array(data.buffer).set(parameters, 12);
      data.setUint32(8, rtpTimestamp, true);
      this.say(data.buffer);
    }
  }

  /** Decodes when the test says so. */
  class FakeDecoder {
    state = "unconfigured";
    readonly decodeQueueSize = 0;
    readonly #output: (frame: unknown) => void;
    readonly #waiting: number[] = [];

    constructor({ output }: { output: (frame: unknown) => void }) {
      this.#output = output;
      decoders.push(this);
    }

    configure(): void {
      this.state = "configured";
    }

    decode({ timestamp }: { timestamp: number }): void {
      this.#waiting.push(timestamp);
    }

    close(): void {
      this.state = "closed";
    }

    /** The next picture comes out; gives its time stamp in microseconds. */
    next(): number {
      const timestamp = this.#waiting.shift() as number;
      this.#output({ timestamp, close: () => undefined });
      return timestamp;
    }
  }

  class FakeGenerator {
    readonly writable = new WritableStream({}, { highWaterMark: 10 });

    stop(): void {}
  }

  beforeEach(() => {
    vi.stubGlobal("WebSocket", FakeSocket);
    vi.stubGlobal("VideoDecoder", FakeDecoder);
    vi.stubGlobal(
      "EncodedVideoChunk",
      class {
        readonly timestamp: number;

        constructor({ timestamp }: { timestamp: number }) {
          this.timestamp = timestamp;
        }
      },
    );
    vi.stubGlobal("MediaStreamTrackGenerator", FakeGenerator);
    vi.stubGlobal(
      "MediaStream",
      class {
        addTrack(): void {}
      },
    );
  });

  afterEach(() => {
    vi.unstubAllGlobals();
    decoders.length = sockets.length = 0;
  });

  it("are told of as they get there, not as they are given", async () => {
    const opened = WebSocketTransport.open(
      { url: "ws://127.0.0.1:8080/stream", token: "t", signal: new AbortController().signal },
      { control: () => undefined, record: () => undefined, disturbed: () => undefined, lost: () => undefined },
    );
    const socket = sockets[0] as FakeSocket;
    socket.say(JSON.stringify({ jsonrpc: "2.0", method: "connection.attached", params: {} }));
    const transport = await opened;
    const video = new FakeVideo();
    const shown: number[] = [];
    const detach = transport.attach(video as unknown as HTMLVideoElement, ({ rtpTimestamp }) => {
      shown.push(rtpTimestamp);
    });

    for (const rtpTimestamp of [3000, 6001, 9000, 12_000]) socket.picture(rtpTimestamp);
    const decoder = decoders[0] as FakeDecoder;
    const first = decoder.next();
    // The first is on the screen, and the second comes out of the decoder before the browser says so.
    const second = decoder.next();
    video.frame(first / 1e6);
    expect(shown).toEqual([3000]);
    video.frame(second / 1e6);
    expect(shown).toEqual([3000, 6001]);
    // The browser says it again, as it may; and it leaves one out.
    video.frame(second / 1e6);
    decoder.next();
    const fourth = decoder.next();
    video.frame(fourth / 1e6);
    expect(shown).toEqual([3000, 6001, 12_000]);
    detach();
    expect(video.waits).toBe(false);
    transport.close();
  });
});
