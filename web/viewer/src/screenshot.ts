/** The picture as a PNG: waits until the server has sent the one of full quality for where the camera is. */

import type { Connection, LedgerEntry } from "@farframe/client";

const PATIENCE_MILLISECONDS = 8000;

/** Whether the newest picture shows all that was asked for, in full quality. What only repeats it does not count. */
function showsStill(connection: Connection): boolean {
  return isStill(
    connection.ledger.entries.findLast((entry) => !entry.record.keepAlive),
    connection,
  );
}

function isStill(entry: LedgerEntry | undefined, connection: Connection): boolean {
  return entry?.record.still === true && entry.record.poseId === connection.poseId;
}

/** Resolves when the still picture is on the screen; with false when there was none in time. */
export function waitForStill(connection: Connection, milliseconds = PATIENCE_MILLISECONDS): Promise<boolean> {
  if (showsStill(connection)) return Promise.resolve(true);
  return new Promise((resolve) => {
    const end = (still: boolean): void => {
      clearTimeout(timer);
      off();
      resolve(still);
    };
    const off = connection.on("frame", (entry) => {
      if (isStill(entry, connection)) end(true);
    });
    const timer = setTimeout(() => end(false), milliseconds);
  });
}

/** The pixels of a video as a PNG. */
export async function pictureOf(video: HTMLVideoElement): Promise<Blob> {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The browser made no picture."))), "image/png");
  });
}
