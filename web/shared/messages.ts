/** What went wrong, as a person reads it. */

import { type FarframeError, nextStepOf, type Result } from "@farframe/client";
import { LinkMissingError } from "./access.ts";

const TITLES: Partial<Record<Result, string>> = {
  AuthenticationFailed: "This link is not valid any more",
  OtherSessionConnected: "Another device is connected",
  SessionStopped: "The session was stopped",
  SessionExpired: "The lease has run out",
  SessionNotReady: "The session is not ready",
  InvalidId: "There is no such session",
  ConnectionLost: "Connection lost",
  HandshakeFailed: "The connection could not be made",
  VideoCodecNotAvailable: "This browser cannot play the video",
  ProtocolVersionMismatch: "Page and server do not fit together",
  ProtocolError: "The server said something unexpected",
  DeviceLost: "The render server's graphics device failed",
  FileNotFound: "Model not found",
  FileDownloadFailed: "The model could not be fetched",
  FileCorrupt: "The model is broken",
  ExceedsMemoryLimit: "The model is too large",
  InvalidUri: "This address cannot be used",
  DisconnectRequest: "You left the session",
  Cancelled: "Cancelled",
};

/** What the page offers after an error. */
export type Remedy = "reconnect" | "sessions" | "none";

export interface Explanation {
  readonly title: string;
  /** Sentences; `code` in backquotes. */
  readonly text: string;
  readonly remedy: Remedy;
}

/** Title, sentences and remedy for an error. */
export function explain(error: FarframeError): Explanation {
  if (error.status === 403) return { title: "Not allowed", text: error.message, remedy: "sessions" };
  if (error instanceof LinkMissingError) {
    return { title: "A link opens this page", text: `${error.message} ${error.nextStep}`, remedy: "none" };
  }
  const nextStep = error.nextStep || (error.status === undefined ? nextStepOf(error.result) : "");
  return {
    title: TITLES[error.result] ?? "Something went wrong",
    text: `${error.message} ${nextStep}`.trim(),
    remedy: remedyFor(error.result),
  };
}

function remedyFor(result: Result): Remedy {
  switch (result) {
    case "AuthenticationFailed":
    case "VideoCodecNotAvailable":
    case "ProtocolVersionMismatch":
      return "none";
    case "SessionStopped":
    case "SessionExpired":
    case "InvalidId":
      return "sessions";
    default:
      return "reconnect";
  }
}
