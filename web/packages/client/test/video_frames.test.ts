import { describe, expect, it } from "vitest";
import { followFrames } from "../src/video_frames.ts";
import { FakeVideo } from "./fake_video.ts";

function follow(video: FakeVideo): { readonly shown: number[]; readonly stop: () => void } {
  const shown: number[] = [];
  const stop = followFrames(video as unknown as HTMLVideoElement, ({ mediaTime }) => shown.push(mediaTime));
  return { shown, stop };
}

describe("followFrames", () => {
  it("tells of each frame until it is stopped", () => {
    const video = new FakeVideo();
    const { shown, stop } = follow(video);
    video.frame(1);
    video.frame(2);
    expect(shown).toEqual([1, 2]);
    stop();
    video.frame(3);
    expect(shown).toEqual([1, 2]);
  });

  it("tells of a frame that comes before its picture when that is there", () => {
    const video = new FakeVideo();
    video.readyState = 0;
    const { shown } = follow(video);
    video.frame(1);
    expect(shown).toEqual([]);
    video.loaded();
    expect(shown).toEqual([1]);
    video.loaded();
    video.frame(2);
    expect(shown).toEqual([1, 2]);
  });

  it("does not tell of an earlier frame after a later one", () => {
    const video = new FakeVideo();
    video.readyState = 1;
    const { shown } = follow(video);
    video.frame(1);
    video.frame(2);
    video.readyState = 2;
    video.frame(3);
    video.loaded();
    expect(shown).toEqual([3]);
  });

  it("forgets what came too early when it is stopped", () => {
    const video = new FakeVideo();
    video.readyState = 0;
    const { shown, stop } = follow(video);
    video.frame(1);
    stop();
    video.loaded();
    expect(shown).toEqual([]);
  });
});
