/** The frames of a video element, as they come onto the screen. */

/** From `HTMLMediaElement.HAVE_CURRENT_DATA` on the element has a picture: to look at, and to draw on a canvas. */
export const HAVE_CURRENT_DATA = 2;

/**
 * Calls `shown` with each frame that is in `video` by then, until the returned function runs.
 *
 * A browser may tell of the first frame of a new source before the element has it: whoever drew the element on a canvas
 * then would draw nothing. Such a frame is told as soon as the element has it, unless another one comes first.
 */
export function followFrames(
  video: HTMLVideoElement,
  shown: (metadata: VideoFrameCallbackMetadata) => void,
): () => void {
  let early: VideoFrameCallbackMetadata | undefined;
  let handle = 0;
  const onFrame: VideoFrameRequestCallback = (_now, metadata) => {
    handle = video.requestVideoFrameCallback(onFrame);
    const ready = video.readyState >= HAVE_CURRENT_DATA;
    early = ready ? undefined : metadata;
    if (ready) shown(metadata);
  };
  const onData = (): void => {
    const metadata = video.readyState >= HAVE_CURRENT_DATA ? early : undefined;
    early = undefined;
    if (metadata) shown(metadata);
  };
  handle = video.requestVideoFrameCallback(onFrame);
  video.addEventListener("loadeddata", onData);
  return () => {
    video.cancelVideoFrameCallback(handle);
    video.removeEventListener("loadeddata", onData);
  };
}
