/** JSON lines over HTTP that never end: read with a token, reconnect after a break. */

import { errorFromAnswer, FarframeError, toFarframeError } from "@farframe/client";

const RETRY_MILLISECONDS = 2000;
const MAX_LINE_CHARACTERS = 64 * 1024;

/** Cuts a stream of text into JSON lines. Lines that are no JSON objects are dropped. */
export class LineParser {
  #rest = "";

  /** The whole objects that `text` completes. */
  push(text: string): Record<string, unknown>[] {
    const parts = (this.#rest + text).split("\n");
    this.#rest = parts.pop() ?? "";
    if (this.#rest.length > MAX_LINE_CHARACTERS) this.#rest = "";
    return parts.flatMap((line) => {
      try {
        const value: unknown = JSON.parse(line);
        return typeof value === "object" && value !== null ? [value as Record<string, unknown>] : [];
      } catch {
        return [];
      }
    });
  }
}

export interface LinesEvents {
  /** The stream (re)started: what was kept comes again. */
  onStart(): void;
  onLines(lines: Record<string, unknown>[]): void;
  /** Undefined when the stream is well. */
  onProblem(error: FarframeError | undefined): void;
}

/** Follows the stream at `path` until the token is refused. */
export async function follow(path: string, token: string, events: LinesEvents): Promise<void> {
  for (;;) {
    try {
      const answer = await fetch(path, {
        headers: { Authorization: `Bearer ${token}`, Accept: "application/x-ndjson" },
        cache: "no-store",
      });
      if (!answer.ok || !answer.body) throw errorFromAnswer("The stream", answer.status, await answer.text());
      events.onStart();
      events.onProblem(undefined);
      const parser = new LineParser();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
        const lines = parser.push(chunk.value);
        if (lines.length > 0) events.onLines(lines);
      }
      events.onProblem(ended());
    } catch (thrown) {
      const error = thrown instanceof FarframeError ? thrown : toFarframeError(ended());
      events.onProblem(error);
      if (error.result === "AuthenticationFailed") return;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
  }
}

function ended(): FarframeError {
  return new FarframeError("ConnectionLost", "The render server does not answer.", {
    nextStep: "It ends with its session; this page keeps trying.",
  });
}
