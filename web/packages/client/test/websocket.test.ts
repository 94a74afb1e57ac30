import { describe, expect, it } from "vitest";
import { codecOf, Unwrapper } from "../src/decoder.ts";
import { decodePicture, encodeAcknowledgement, encodeKeyframeRequest, streamUrl } from "../src/websocket.ts";

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
