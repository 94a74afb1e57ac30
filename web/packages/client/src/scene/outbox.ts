/**
 * How commands reach the server: in batches, in order, a few messages under way at a time.
 *
 * A batch that is too long for one message goes in several; nothing of it is done before the last one has come. What was
 * not answered when a line broke is sent once more over the next one: whether it had been done is not known then, and
 * doing it again, or being refused for that reason, changes nothing in the end.
 */

import { FarframeError, isResult, type Result } from "../errors.ts";

/** One command, as the wire has it. */
export type Command = Readonly<Record<string, unknown>> & { readonly op: string };

/** A command that the server refused. */
export interface SceneFailure {
  readonly result: Result;
  readonly message: string;
}

interface Message {
  readonly commands: readonly Command[];
  readonly sequence: number;
  readonly batch: number;
  /** The batch goes on with the next message. */
  readonly more: boolean;
  /** It may have been done before. */
  again: boolean;
}

const COMMANDS_PER_MESSAGE = 4000;
const BYTES_PER_MESSAGE = 200_000;
const COMMANDS_PER_BATCH = 60_000;
const BYTES_PER_BATCH = 40_000_000;
const MAX_IN_FLIGHT = 16;
const KEPT_FAILURES = 1000;
/** Being refused for that is what doing something twice looks like. */
const DONE_BEFORE: ReadonlySet<Result> = new Set<Result>([
  "AlreadyExists",
  "InvalidId",
  "InvalidParentId",
  "CyclicReference",
]);
/** What a request fails with when its connection is gone. */
const ENDS: ReadonlySet<Result> = new Set<Result>([
  "ConnectionLost",
  "DisconnectRequest",
  "SessionStopped",
  "SessionExpired",
  "SessionNotReady",
  "OtherSessionConnected",
  "DeviceLost",
]);

export class Outbox {
  readonly #request: (params: object) => Promise<unknown>;
  readonly #onFailure: (failure: SceneFailure) => void;
  #outgoing: Message[] = [];
  /** Sent, and their batch not answered, in order. */
  #unanswered = new Set<Message>();
  #inFlight = 0;
  #batches = 0;
  #idle: (() => void)[] = [];
  #failures: { readonly batch: number; readonly failure: SceneFailure }[] = [];
  #error: FarframeError | undefined;
  #life = 0;

  constructor(request: (params: object) => Promise<unknown>, onFailure: (failure: SceneFailure) => void) {
    this.#request = request;
    this.#onFailure = onFailure;
  }

  /** Sends commands that take effect together, as far as one batch may hold them. */
  push(commands: readonly Command[], sequence: number): void {
    const messages: Command[][] = [];
    /** The first message of each further batch. */
    const begins = new Set<number>([0]);
    let message: Command[] = [];
    let [bytes, batchBytes, batchCommands] = [0, 0, 0];
    for (const command of commands) {
      const size = sizeOf(command);
      const full = message.length >= COMMANDS_PER_MESSAGE || bytes + size > BYTES_PER_MESSAGE;
      const fullBatch = batchCommands >= COMMANDS_PER_BATCH || batchBytes + size > BYTES_PER_BATCH;
      if (message.length > 0 && (full || fullBatch)) {
        messages.push(message);
        message = [];
        bytes = 0;
        if (fullBatch) {
          begins.add(messages.length);
          batchBytes = batchCommands = 0;
        }
      }
      message.push(command);
      bytes += size;
      batchBytes += size;
      batchCommands++;
    }
    if (message.length > 0) messages.push(message);
    messages.forEach((part, index) => {
      if (begins.has(index)) this.#batches++;
      const more = index + 1 < messages.length && !begins.has(index + 1);
      this.#outgoing.push({ commands: part, sequence, batch: this.#batches, more, again: false });
    });
    this.#pump();
  }

  /** Resolves when all that has been pushed so far has been sent, or the connection has ended. */
  async sent(): Promise<void> {
    const last = this.#batches;
    while (!this.#error && reaches(this.#outgoing, last)) await this.#change();
  }

  /**
   * Waits until the server has done all that has been pushed so far; what comes later waits for itself. Rejects with the
   * first command of it that was refused, and that nobody was told of, or with the end.
   */
  async flush(): Promise<void> {
    const last = this.#batches;
    while (!this.#error && (reaches(this.#unanswered, last) || reaches(this.#outgoing, last))) await this.#change();
    // What was refused stays for a call that can tell it: this connection may come back.
    if (this.#error) throw this.#error;
    const failures = this.#failures.filter(({ batch }) => batch <= last);
    this.#failures = this.#failures.filter(({ batch }) => batch > last);
    const first = failures[0]?.failure;
    if (!first) return;
    const others = failures.length > 1 ? ` ${failures.length - 1} more were refused.` : "";
    throw new FarframeError(first.result, first.message + others);
  }

  /** There is another line: sends what was not answered once more, in order, and goes on. */
  resumed(): void {
    this.#life++;
    this.#error = undefined;
    this.#inFlight = 0;
    for (const message of this.#unanswered) message.again = true;
    this.#outgoing = [...this.#unanswered, ...this.#outgoing];
    this.#unanswered = new Set();
    this.#pump();
  }

  /** Nothing is sent any more. */
  close(error: FarframeError): void {
    this.#error = error;
    this.#life++;
    this.#outgoing = [];
    this.#unanswered.clear();
    this.#wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #wake(): void {
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  #pump(): void {
    while (!this.#error && this.#inFlight < MAX_IN_FLIGHT) {
      const message = this.#outgoing.shift();
      if (!message) break;
      this.#unanswered.add(message);
      this.#inFlight++;
      void this.#deliver(message, this.#life);
    }
    this.#wake();
  }

  async #deliver(message: Message, life: number): Promise<void> {
    const { commands, sequence, more } = message;
    let failures: readonly SceneFailure[] = [];
    try {
      const answer = (await this.#request({ commands, sequence, ...(more && { more }) })) as {
        failures?: { result: string; message?: string }[];
      };
      failures = (answer.failures ?? []).map(({ result, message: why }) => ({
        result: isResult(result) ? result : "Fail",
        message: why || "A command was refused.",
      }));
    } catch (error) {
      if (life !== this.#life) return;
      const failure = error instanceof FarframeError ? error : new FarframeError("Fail", String(error));
      if (ENDS.has(failure.result)) {
        // Whether it was done is not known: it is kept in case the connection comes back.
        this.#error = failure;
        this.#wake();
        return;
      }
      failures = [{ result: failure.result, message: failure.message }];
    }
    if (life !== this.#life) return;
    this.#inFlight--;
    if (!more) {
      // Of a batch that breaks off in the middle the server keeps nothing: till its end, all of it may be sent again.
      for (const sent of this.#unanswered) if (sent.batch === message.batch) this.#unanswered.delete(sent);
      for (const failure of failures) {
        if (message.again && DONE_BEFORE.has(failure.result)) continue;
        if (this.#failures.length < KEPT_FAILURES) this.#failures.push({ batch: message.batch, failure });
        this.#onFailure(failure);
      }
    }
    this.#pump();
  }
}

/** Whether any message belongs to a batch up to that one. */
function reaches(messages: Iterable<Message>, batch: number): boolean {
  for (const message of messages) if (message.batch <= batch) return true;
  return false;
}

/** About how many bytes a command takes as JSON; rather more than less. */
function sizeOf(value: unknown): number {
  if (typeof value === "string") {
    // Packed numbers are long and plain; names are short and may be anything.
    return value.length > 8192 ? value.length + 2 : 3 * JSON.stringify(value).length;
  }
  if (typeof value !== "object" || value === null) return 24;
  if (Array.isArray(value)) return value.reduce((sum: number, item) => sum + sizeOf(item) + 1, 2);
  return Object.entries(value).reduce((sum, [name, item]) => sum + name.length + 4 + sizeOf(item), 2);
}
