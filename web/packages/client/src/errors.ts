/**
 * What can go wrong between a device, a render server and the service, as typed results.
 *
 * The names are the server's (`docs/protocol.md`); a name is stable and never reused with another meaning.
 */

/** Every outcome that a server or this package reports. */
export const RESULTS = [
  "Fail",
  "Cancelled",
  "InvalidParam",
  "NotSupported",
  "StringTooLong",
  "InProgress",
  "FileNotFound",
  "FileDownloadFailed",
  "FileCorrupt",
  "ExceedsMemoryLimit",
  "InvalidUri",
  "InvalidId",
  "InvalidParentId",
  "AlreadyExists",
  "CyclicReference",
  "ObjectStatic",
  "AuthenticationFailed",
  "OtherSessionConnected",
  "VideoCodecNotAvailable",
  "HandshakeFailed",
  "ProtocolError",
  "ProtocolVersionMismatch",
  "ConnectionLost",
  "DisconnectRequest",
  "DeviceLost",
  "NothingToResume",
  "WatchingOnly",
  "TooManySpectators",
  "SessionStopped",
  "SessionExpired",
  "SessionNotReady",
] as const;

/** The stable name of an outcome. */
export type Result = (typeof RESULTS)[number];

const RETRYABLE: ReadonlySet<Result> = new Set<Result>([
  "FileDownloadFailed",
  "OtherSessionConnected",
  "ConnectionLost",
  "SessionNotReady",
  "TooManySpectators",
]);

const NAMES: ReadonlySet<string> = new Set(RESULTS);

/** Whether `value` is the name of a {@link Result}. */
export function isResult(value: unknown): value is Result {
  return typeof value === "string" && NAMES.has(value);
}

/** What an error can carry beside its result and message. */
export interface FarframeErrorOptions {
  /** What the person can do next, a sentence. */
  nextStep?: string;
  /** The HTTP status, when the error came as one. */
  status?: number;
  /** The error code of the REST contract, when there was one. */
  code?: string;
  cause?: unknown;
}

/** An error with a stable {@link Result}, a sentence for a person and what to do next. */
export class FarframeError extends Error {
  readonly result: Result;
  readonly nextStep: string;
  readonly status: number | undefined;
  readonly code: string | undefined;

  constructor(result: Result, message: string, options: FarframeErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "FarframeError";
    this.result = result;
    this.nextStep = options.nextStep ?? "";
    this.status = options.status;
    this.code = options.code;
  }

  /** Whether the same call can succeed later without any change by the caller. */
  get retryable(): boolean {
    return RETRYABLE.has(this.result);
  }

  override toString(): string {
    return `${this.message} ${this.nextStep}`.trim();
  }
}

/** The error for an aborted call. */
export function cancelled(what: string): FarframeError {
  return new FarframeError("Cancelled", `${what} was cancelled.`);
}

/** Any thrown value as a {@link FarframeError}; one that is none already becomes `Fail`. */
export function toFarframeError(error: unknown, what = "The operation"): FarframeError {
  if (error instanceof FarframeError) return error;
  if (error instanceof DOMException && error.name === "AbortError") return cancelled(what);
  const detail = error instanceof Error ? error.message : String(error);
  return new FarframeError("Fail", `${what} failed: ${detail}`, { cause: error });
}

interface ErrorBody {
  code: string;
  message: string;
  nextStep: string;
}

function readBody(text: string): ErrorBody | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== "object" || parsed === null) return undefined;
    const inner: unknown = "error" in parsed ? parsed.error : parsed;
    if (typeof inner !== "object" || inner === null) return undefined;
    const record = inner as Record<string, unknown>;
    const string = (key: string): string => (typeof record[key] === "string" ? record[key] : "");
    return {
      code: string("result") || string("code"),
      message: string("message"),
      nextStep: string("nextStep"),
    };
  } catch {
    return undefined;
  }
}

function resultOfStatus(status: number): Result {
  switch (status) {
    case 400:
    case 422:
      return "InvalidParam";
    case 401:
    case 403:
      return "AuthenticationFailed";
    case 404:
      return "InvalidId";
    case 405:
    case 501:
      return "NotSupported";
    case 413:
    case 507:
      return "ExceedsMemoryLimit";
    case 429:
    case 502:
    case 503:
    case 504:
      return "SessionNotReady";
    default:
      return "Fail";
  }
}

/** Status and body of a failed HTTP answer as an error. `overrides` names results that a status means to this caller. */
export function errorFromAnswer(
  what: string,
  status: number,
  body: string,
  overrides: Readonly<Record<number, Result>> = {},
): FarframeError {
  const read = readBody(body);
  const result = isResult(read?.code) ? read.code : (overrides[status] ?? resultOfStatus(status));
  const message = read?.message || `${what} failed with HTTP status ${status}.`;
  // A message from the server says what to do next by itself.
  const nextStep = read?.message ? read.nextStep : nextStepOf(result);
  const options: FarframeErrorOptions = { nextStep, status };
  if (read?.code) options.code = read.code;
  return new FarframeError(result, message, options);
}

/** What a person can do about a result when the server did not say. */
export function nextStepOf(result: Result): string {
  switch (result) {
    case "AuthenticationFailed":
      return "Open a new link with `farframe view`.";
    case "OtherSessionConnected":
      return "Close the other device's connection, then try again.";
    case "NothingToResume":
      return "Connect again and load the models anew.";
    case "WatchingOnly":
      return "Ask for a link to drive.";
    case "TooManySpectators":
      return "Wait until one of those who watch leaves.";
    case "VideoCodecNotAvailable":
      return "Use a browser that can play H.264 over WebRTC.";
    case "ConnectionLost":
      return "Check the network, then reconnect.";
    case "SessionStopped":
    case "SessionExpired":
      return "Start a new session.";
    case "SessionNotReady":
      return "Wait a moment, then try again.";
    case "ProtocolVersionMismatch":
      return "Reload the page, or update the older side.";
    case "FileNotFound":
    case "InvalidUri":
      return "Check the address of the model.";
    case "FileCorrupt":
      return "Export the model again and check it in another program.";
    default:
      return "";
  }
}
