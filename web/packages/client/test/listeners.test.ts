import { afterEach, describe, expect, it, vi } from "vitest";
import { AccessUnitDecoder } from "../src/decoder.ts";
import { Emitter } from "../src/events.ts";

class Speaker extends Emitter<{ word: string }> {
  say(word: string): void {
    this.emit("word", word);
  }
}

describe("Emitter", () => {
  it("leaves nothing behind on a signal that lives longer", async () => {
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    const speaker = new Speaker();
    speaker.on("word", () => undefined, signal)();
    const heard = speaker.once("word", signal);
    speaker.say("hello");
    expect(await heard).toBe("hello");
    const kept = added.mock.calls.map(([, listener]) => listener);
    for (const [, listener] of removed.mock.calls) kept.splice(kept.indexOf(listener), 1);
    expect(kept).toEqual([]);
  });
});

class FakeDecoder {
  static readonly made: FakeDecoder[] = [];
  state = "unconfigured";
  decodeQueueSize = 0;
  readonly error: () => void;

  constructor({ error }: { error: () => void }) {
    this.error = error;
    FakeDecoder.made.push(this);
  }

  configure(): void {
    this.state = "configured";
  }

  decode(): void {}

  close(): void {
    this.state = "closed";
  }
}

describe("AccessUnitDecoder", () => {
  afterEach(() => void vi.unstubAllGlobals());

  it("goes on with the next decoder, whatever a former one complains about later", () => {
    vi.stubGlobal("VideoDecoder", FakeDecoder);
    vi.stubGlobal("EncodedVideoChunk", class {});
    const asked = vi.fn();
    const decoder = new AccessUnitDecoder(() => undefined, asked);
    const keyframe = new Uint8Array([0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0, 0, 1, 0x65]);
    decoder.decode(keyframe, 1, true, 0);
    const [former] = FakeDecoder.made as [FakeDecoder];
    // It has failed, and says so only when the next keyframe is there already.
    former.state = "closed";
    decoder.decode(keyframe, 2, true, 0);
    former.error();
    decoder.decode(new Uint8Array([0, 0, 1, 0x41]), 3, false, 0);
    expect([FakeDecoder.made.length, FakeDecoder.made[1]?.state]).toEqual([2, "configured"]);
    expect(asked).not.toHaveBeenCalled();
    (FakeDecoder.made[1] as FakeDecoder).error();
    expect(asked).toHaveBeenCalledOnce();
    expect(FakeDecoder.made[1]?.state).toBe("closed");
    decoder.close();
  });
});
