/** JSON-RPC 2.0 over the `control` channel: requests with ids, notifications both ways, cancellation. No I/O here. */

import { cancelled, FarframeError, isResult, nextStepOf } from "./errors.ts";

export const MAX_CONTROL_MESSAGE_BYTES = 256 * 1024;

/** How long a cancelled request waits for the answer that it still gets. */
const CANCEL_GRACE_MILLISECONDS = 5000;
/** Of so many requests that were given up a late answer is still waited for. */
const MAX_ABANDONED = 256;

/** What is asked all the time and changes no picture. */
const CHANGES_NOTHING: ReadonlySet<string> = new Set(["connection.ping", "statistics.get"]);

export interface RequestOptions {
  /** Aborting sends `$/cancelRequest`; the promise then settles with the server's answer, after 5 s without it. */
  signal?: AbortSignal;
  /** Rejects with `ConnectionLost` when no answer came in so many milliseconds. Default: never. */
  timeoutMilliseconds?: number;
  /** Gets the result of a request that was done after all, when the promise had been rejected already. */
  onLateResult?: (result: unknown) => void;
}

interface Pending {
  method: string;
  resolve: (value: unknown) => void;
  reject: (error: FarframeError) => void;
  settle: () => void;
  onLateResult: ((result: unknown) => void) | undefined;
}

interface ErrorObject {
  message?: unknown;
  code?: unknown;
  data?: { result?: unknown; nextStep?: unknown } | null;
}

function toError(error: ErrorObject): FarframeError {
  const result = isResult(error.data?.result) ? error.data.result : "Fail";
  const message = typeof error.message === "string" ? error.message : "The server answered with an error.";
  const nextStep = typeof error.data?.nextStep === "string" ? error.data.nextStep : "";
  return new FarframeError(result, message, { nextStep: nextStep || nextStepOf(result) });
}

export class RpcPeer {
  readonly #send: (text: string) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #abandoned = new Map<number, (result: unknown) => void>();
  readonly #handlers = new Map<string, (params: unknown) => void>();
  #nextId = 1;
  #answered = 0;
  #failure: FarframeError | undefined;

  /** `send` puts one message on the channel; it may throw when the channel is closed. */
  constructor(send: (text: string) => void) {
    this.#send = send;
  }

  /** How many requests wait for an answer. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /**
   * The server's clock when it gave the newest result of anything that may change the picture; 0 before the first one.
   * Whatever is drawn from then on shows it.
   */
  get answeredMicroseconds(): number {
    return this.#answered;
  }

  /** Calls `handler` with the parameters of each notification of that method. */
  onNotification(method: string, handler: (params: unknown) => void): void {
    this.#handlers.set(method, handler);
  }

  /** Sends a notification. */
  notify(method: string, params: object): void {
    this.#transmit({ jsonrpc: "2.0", method, params });
  }

  /** Sends a request; resolves with its result, rejects with a {@link FarframeError}. */
  request(method: string, params: object = {}, options: RequestOptions = {}): Promise<unknown> {
    const { signal, timeoutMilliseconds, onLateResult } = options;
    return new Promise((resolve, reject) => {
      if (this.#failure) {
        reject(this.#failure);
        return;
      }
      if (signal?.aborted) {
        reject(cancelled(method));
        return;
      }
      const id = this.#nextId++;
      const timers: ReturnType<typeof setTimeout>[] = [];
      const onAbort = (): void => {
        try {
          this.notify("$/cancelRequest", { id });
        } catch {
          // The channel is gone; the grace below ends the request.
        }
        timers.push(setTimeout(() => this.#abandon(id, cancelled(method)), CANCEL_GRACE_MILLISECONDS));
      };
      const settle = (): void => {
        for (const timer of timers) clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        this.#pending.delete(id);
      };
      this.#pending.set(id, { method, resolve, reject, settle, onLateResult });
      signal?.addEventListener("abort", onAbort, { once: true });
      if (timeoutMilliseconds !== undefined) {
        const error = new FarframeError("ConnectionLost", `The server did not answer ${method} in time.`, {
          nextStep: nextStepOf("ConnectionLost"),
        });
        timers.push(setTimeout(() => this.#abandon(id, error), timeoutMilliseconds));
      }
      try {
        this.#transmit({ jsonrpc: "2.0", id, method, params });
      } catch (error) {
        settle();
        reject(
          error instanceof FarframeError
            ? error
            : new FarframeError("ConnectionLost", "The control channel is closed.", {
                nextStep: nextStepOf("ConnectionLost"),
                cause: error,
              }),
        );
      }
    });
  }

  /** Takes one message from the channel. Throws `ProtocolError` for anything that is no JSON-RPC message. */
  receive(text: string): void {
    const message = parse(text);
    if (typeof message.method === "string") {
      // Requests from the server do not exist in this protocol; unknown notifications are a newer server's.
      this.#handlers.get(message.method)?.(message.params ?? {});
      return;
    }
    const id = message.id;
    const error = message.error;
    if (typeof error === "object" && error !== null) {
      const translated = toError(error as ErrorObject);
      // Without an id the server could not read what we sent: nobody else will learn of it.
      if (typeof id !== "number") throw translated;
      this.#abandoned.delete(id);
      this.#reject(id, translated);
      return;
    }
    if (typeof id !== "number" || !("result" in message)) {
      throw new FarframeError("ProtocolError", "A control message is neither a notification nor an answer.");
    }
    const pending = this.#pending.get(id);
    const late = this.#abandoned.get(id);
    this.#abandoned.delete(id);
    const answered = message.answeredMicroseconds;
    if (typeof answered === "number" && !CHANGES_NOTHING.has(pending?.method ?? "")) {
      this.#answered = Math.max(this.#answered, answered);
    }
    pending?.settle();
    pending?.resolve(message.result);
    late?.(message.result);
  }

  /** Rejects all that is pending, and all that comes, with `error`. */
  fail(error: FarframeError): void {
    this.#failure ??= error;
    this.#abandoned.clear();
    for (const id of [...this.#pending.keys()]) this.#reject(id, error);
  }

  /** Rejects all that is pending with `error`; what comes later goes over another line. */
  interrupt(error: FarframeError): void {
    this.#abandoned.clear();
    for (const id of [...this.#pending.keys()]) this.#reject(id, error);
  }

  /** Rejects a request whose answer may still come. */
  #abandon(id: number, error: FarframeError): void {
    const late = this.#pending.get(id)?.onLateResult;
    if (late && this.#abandoned.size < MAX_ABANDONED) this.#abandoned.set(id, late);
    this.#reject(id, error);
  }

  #reject(id: number, error: FarframeError): void {
    const pending = this.#pending.get(id);
    pending?.settle();
    pending?.reject(error);
  }

  #transmit(message: object): void {
    const text = JSON.stringify(message);
    if (
      text.length * 3 > MAX_CONTROL_MESSAGE_BYTES &&
      new TextEncoder().encode(text).length > MAX_CONTROL_MESSAGE_BYTES
    ) {
      throw new FarframeError("InvalidParam", `A control message is larger than ${MAX_CONTROL_MESSAGE_BYTES} bytes.`);
    }
    this.#send(text);
  }
}

function parse(text: string): Record<string, unknown> {
  let message: unknown;
  try {
    message = text.length > MAX_CONTROL_MESSAGE_BYTES ? undefined : JSON.parse(text);
  } catch {
    message = undefined;
  }
  if (typeof message !== "object" || message === null || !("jsonrpc" in message) || message.jsonrpc !== "2.0") {
    throw new FarframeError("ProtocolError", "The server sent something that is not a JSON-RPC 2.0 message.");
  }
  return message as Record<string, unknown>;
}
