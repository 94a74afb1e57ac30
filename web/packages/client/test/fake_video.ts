/** As much of a video element as the frames of a stream need; the test is the browser. */
export class FakeVideo extends EventTarget {
  readyState = 4;
  srcObject: unknown = null;
  #callback: VideoFrameRequestCallback | undefined;

  /** Whether anybody wants to hear of the next frame. */
  get waits(): boolean {
    return this.#callback !== undefined;
  }

  requestVideoFrameCallback(callback: VideoFrameRequestCallback): number {
    this.#callback = callback;
    return 1;
  }

  cancelVideoFrameCallback(): void {
    this.#callback = undefined;
  }

  /** The browser says that it shows the frame of that time, in seconds. */
  frame(mediaTime: number): void {
    const callback = this.#callback;
    this.#callback = undefined;
    callback?.(0, { mediaTime, presentationTime: 0, expectedDisplayTime: 0 } as VideoFrameCallbackMetadata);
  }

  /** The element has its first picture, and says so. */
  loaded(): void {
    this.readyState = 4;
    this.dispatchEvent(new Event("loadeddata"));
  }
}
