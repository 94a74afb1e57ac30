/** The service's REST interface, as far as a device needs it: sessions, uploads, one-time links. */

import { cancelled, errorFromAnswer, FarframeError, nextStepOf, type Result } from "./errors.ts";
import { bestRegion, fetchRegions, measureRegions, type RegionMeasurement } from "./regions.ts";
import { type TokenProvider, TokenSource, withToken } from "./tokens.ts";
import type { Fetch } from "./whep.ts";

export const API_VERSION = "2021-01-01";

export type SessionSize = "Standard" | "Premium";
export type SessionStatus = "Starting" | "Ready" | "Stopped" | "Error" | "Expired";

/** A session as the service describes it. Members that the state does not have are absent. */
export interface Session {
  readonly id: string;
  readonly creationTime: string;
  readonly elapsedTimeMinutes: number;
  readonly maxLeaseTimeMinutes: number;
  readonly size: SessionSize;
  readonly status: SessionStatus;
  readonly hostname?: string;
  readonly handshakePort?: number;
  readonly arrInspectorPort?: number;
  readonly teraflops?: number;
  readonly error?: { readonly code: string; readonly message: string } | null;
}

/** What a one-time link yields. */
export interface RedeemedLink {
  readonly accessToken: string;
  readonly accountId: string;
  /** ISO 8601, or seconds since 1970. */
  readonly expiresAt: string | number;
  readonly sessionId?: string;
  readonly endpoint?: string;
  /** `Viewer` may only watch. */
  readonly role?: "Client" | "Viewer";
}

/** A file below an upload. */
export interface UploadFile {
  /** Relative, with `/`; its folders are kept, so that a `.gltf` finds its side files. */
  readonly path: string;
  readonly data: Blob;
}

export interface UploadProgress {
  readonly sentBytes: number;
  readonly totalBytes: number;
  /** 0 to 1. */
  readonly fraction: number;
}

/** A stored file. Times are ISO 8601. */
export interface StoredUpload {
  /** What {@link Connection.loadModel} takes. */
  readonly uri: string;
  readonly uploadId: string;
  readonly path: string;
  readonly bytes: number;
  readonly creationTime: string;
  /** When it will be deleted. */
  readonly expirationTime: string;
}

/** The account's stored files and how much of its quota they take. */
export interface UploadList {
  readonly uploads: readonly StoredUpload[];
  readonly usedBytes: number;
  readonly quotaBytes: number;
}

/** A token that opens one session only, for a device that holds nothing else. It is a secret. */
export interface SessionToken {
  readonly accessToken: string;
  readonly accountId: string;
  readonly sessionId: string;
  readonly role: "Client" | "Viewer";
  /** ISO 8601. */
  readonly expiresAt: string;
  readonly endpoint: string;
}

/** A link that opens the viewer once. It is a secret. */
export interface ViewerLink {
  readonly url: string;
  /** ISO 8601. */
  readonly expiresAt: string;
}

/** What was used of one kind, and what it costs; sums of microseconds are exact. */
export interface UsageLine {
  readonly accountId: string;
  readonly kind: "session" | "conversion";
  readonly size?: string;
  readonly day?: string;
  readonly intervals: number;
  readonly microseconds: number;
  readonly minutes: number;
  readonly bytes?: number;
  readonly amounts: readonly { readonly currency: string; readonly amount: string }[];
  readonly unpricedMicroseconds: number;
}

export interface UsageReport {
  readonly from: string;
  readonly to: string;
  readonly by: readonly string[];
  readonly usage: readonly UsageLine[];
  readonly totals: readonly { readonly currency: string; readonly amount: string }[];
}

/** The account's limits by name; null is none. `own` names those that an operator has set for it. */
export interface QuotaReport {
  readonly accountId: string;
  readonly quotas: Readonly<Record<string, number | null>>;
  readonly own: readonly string[];
}

export interface ManagementOptions {
  /** The service's origin; that of the page by default. */
  endpoint?: string;
  accountId: string;
  /** The access token, or who gives it: asked again when it runs out or is refused. */
  token: string | TokenProvider | TokenSource;
  fetch?: Fetch;
}

interface CallOptions {
  signal?: AbortSignal | undefined;
}

const TERMINAL: ReadonlySet<SessionStatus> = new Set<SessionStatus>(["Stopped", "Error", "Expired"]);
const SESSION_RESULTS: Readonly<Record<number, Result>> = { 409: "InProgress" };
const MAX_PAGES = 100;

const defaultFetch: Fetch = (input, init) => fetch(input, init);

/** A version 4 UUID, also where `crypto.randomUUID` is missing because the page came over plain http. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function unreachable(error: unknown, signal: AbortSignal | undefined, what: string): FarframeError {
  if (signal?.aborted) return cancelled(what);
  return new FarframeError("ConnectionLost", "The service could not be reached.", {
    nextStep: "Check that it is running and that the network works, then try again.",
    cause: error,
  });
}

/** Exchanges the code of a one-time link for a short-lived token. A code works once. */
export async function redeemLink(
  code: string,
  options: { endpoint?: string; fetch?: Fetch } = {},
): Promise<RedeemedLink> {
  const fetcher = options.fetch ?? defaultFetch;
  let answer: Response;
  try {
    answer = await fetcher(`${trimmed(options.endpoint)}/viewer-links/redeem`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ code }),
      cache: "no-store",
    });
  } catch (error) {
    throw unreachable(error, undefined, "Opening the link");
  }
  const text = await answer.text();
  if (!answer.ok) {
    const used: Result = "AuthenticationFailed";
    const results: Record<number, Result> = { 400: used, 401: used, 403: used, 404: used, 410: used, 429: "Fail" };
    throw errorFromAnswer("Opening the link", answer.status, text, results);
  }
  return parseJson(text, "the link's answer") as RedeemedLink;
}

function trimmed(endpoint: string | undefined): string {
  return (endpoint ?? globalThis.location?.origin ?? "").replace(/\/+$/, "");
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FarframeError("ProtocolError", `The service sent ${what} that is not JSON.`, { cause: error });
  }
}

export class ManagementClient {
  readonly accountId: string;
  readonly endpoint: string;
  readonly #tokens: TokenSource;
  readonly #fetch: Fetch;
  /** Where sessions are that were created in other regions. */
  readonly #endpoints = new Map<string, string>();

  constructor(options: ManagementOptions) {
    this.accountId = options.accountId;
    this.endpoint = trimmed(options.endpoint);
    this.#tokens = options.token instanceof TokenSource ? options.token : new TokenSource(options.token);
    this.#fetch = options.fetch ?? defaultFetch;
  }

  /**
   * Asks for a session. Asking again with the same id and settings is harmless. With a `region` it is leased there, and
   * later calls of this client about it go there; `best` is the region with the shortest round trip from here.
   */
  async createSession(
    settings: { id?: string; size?: SessionSize; leaseMinutes: number; region?: string },
    options: CallOptions = {},
  ): Promise<Session> {
    const id = settings.id ?? newId();
    if (settings.region !== undefined)
      this.#endpoints.set(id, (await this.inRegion(settings.region, options)).endpoint);
    const body = { maxLeaseTimeMinutes: settings.leaseMinutes, size: settings.size ?? "Standard" };
    return (await this.#json("PUT", this.#sessionPath(id), body, options)) as Session;
  }

  async getSession(id: string, options: CallOptions = {}): Promise<Session> {
    return (await this.#json("GET", this.#sessionPath(id), undefined, options)) as Session;
  }

  /** The account's sessions that are Starting or Ready. */
  async listSessions(options: CallOptions = {}): Promise<Session[]> {
    const sessions: Session[] = [];
    await this.#pages(this.#url("/sessions"), options, (page) => {
      sessions.push(...((page as { sessions?: Session[] }).sessions ?? []));
    });
    return sessions;
  }

  /** Measures the way to every region that the service knows. */
  async latency(
    options: CallOptions & { throughput?: boolean; onMeasured?: (measurement: RegionMeasurement) => void } = {},
  ): Promise<RegionMeasurement[]> {
    return measureRegions(this.endpoint, { ...options, fetch: this.#fetch });
  }

  /** A client of the service of a region, with the same account and token; `best` is the nearest region. */
  async inRegion(region: string, options: CallOptions = {}): Promise<ManagementClient> {
    let name = region;
    if (region === "best") {
      const best = bestRegion(await this.latency({ ...options, throughput: false }));
      if (!best) {
        throw new FarframeError("ConnectionLost", "No region answers.", {
          nextStep: "Check that the network works, then try again.",
        });
      }
      name = best.name;
    }
    const list = await fetchRegions(this.endpoint, { ...options, fetch: this.#fetch });
    const found = list.regions.find((each) => each.name === name);
    if (!found) {
      throw new FarframeError("InvalidId", `There is no region ${name}.`, {
        nextStep: `There are ${list.regions.map((each) => each.name).join(", ")}.`,
      });
    }
    const endpoint = name === list.region ? this.endpoint : found.endpoint;
    return new ManagementClient({ endpoint, accountId: this.accountId, token: this.#tokens, fetch: this.#fetch });
  }

  /** A token that opens this session only, for a device that shall hold nothing else. Lives 60 minutes by default. */
  async createToken(
    id: string,
    settings: { role?: "Client" | "Viewer"; minutes?: number } = {},
    options: CallOptions = {},
  ): Promise<SessionToken> {
    const url = this.#url(`/sessions/${encodeURIComponent(id)}/token`, id);
    return (await this.#json("POST", url, settings, options)) as SessionToken;
  }

  /** A link that opens the viewer once: on one session, or on a choice of the account's. */
  async createViewerLink(
    sessionId?: string,
    options: CallOptions & { role?: "Client" | "Viewer" } = {},
  ): Promise<ViewerLink> {
    const body = {
      ...(sessionId === undefined ? {} : { sessionId }),
      ...(options.role === undefined ? {} : { role: options.role }),
    };
    return (await this.#json("POST", this.#url("/viewer-links", sessionId), body, options)) as ViewerLink;
  }

  /** A link that opens the console once: the account's sessions and uploads. */
  async createConsoleLink(options: CallOptions = {}): Promise<ViewerLink> {
    return (await this.#json("POST", this.#url("/viewer-links"), { page: "console" }, options)) as ViewerLink;
  }

  /** What the account used. `from` and `to` are days or times in ISO 8601; without them, the present month up to now. */
  async usage(
    query: { from?: string; to?: string; by?: string } = {},
    options: CallOptions = {},
  ): Promise<UsageReport> {
    const words = new URLSearchParams(query).toString();
    return (await this.#json("GET", this.#url(`/usage${words && `?${words}`}`), undefined, options)) as UsageReport;
  }

  /** The account's limits. */
  async quotas(options: CallOptions = {}): Promise<QuotaReport> {
    return (await this.#json("GET", this.#url("/quotas"), undefined, options)) as QuotaReport;
  }

  /** A link into the inspector of a session that is Ready. It carries a token: open it, don't keep it. */
  async inspectorLink(id: string, options: CallOptions = {}): Promise<string> {
    const url = this.#url(`/sessions/${encodeURIComponent(id)}/inspector-link`, id);
    const { url: link } = (await this.#json("POST", url, undefined, options)) as { url?: unknown };
    if (typeof link !== "string" || !/^https?:/i.test(link)) {
      throw new FarframeError("ProtocolError", "The answer holds no link into the inspector.");
    }
    return link;
  }

  /** The account's uploaded files, oldest first, and how much of the quota they take. */
  async listUploads(options: CallOptions = {}): Promise<UploadList> {
    const list = { uploads: [] as StoredUpload[], usedBytes: 0, quotaBytes: 0 };
    await this.#pages(this.#url("/uploads"), options, (page) => {
      const { uploads, usedBytes, quotaBytes } = page as Partial<UploadList>;
      list.uploads.push(...(uploads ?? []));
      list.usedBytes = usedBytes ?? list.usedBytes;
      list.quotaBytes = quotaBytes ?? list.quotaBytes;
    });
    return list;
  }

  /** Sets the session's lease to `leaseMinutes` in all; must be longer than it is. */
  async extendSession(id: string, leaseMinutes: number, options: CallOptions = {}): Promise<Session> {
    return (await this.#json(
      "PATCH",
      this.#sessionPath(id),
      { maxLeaseTimeMinutes: leaseMinutes },
      options,
    )) as Session;
  }

  async stopSession(id: string, options: CallOptions = {}): Promise<void> {
    await this.#send("POST", this.#url(`/sessions/${encodeURIComponent(id)}/:stop`, id), undefined, options);
  }

  /** Polls until the session is Ready; rejects when it has ended instead. `onChange` gets each answer. */
  async waitUntilReady(
    id: string,
    options: CallOptions & { intervalMilliseconds?: number; onChange?: (session: Session) => void } = {},
  ): Promise<Session> {
    const interval = options.intervalMilliseconds ?? 500;
    for (;;) {
      const session = await this.getSession(id, options);
      options.onChange?.(session);
      if (session.status === "Ready") return session;
      if (TERMINAL.has(session.status)) throw endedError(session);
      await pause(interval, options.signal);
    }
  }

  /** TURN servers for a device of this session, with credentials that run out; none where the service has none. */
  async iceServers(sessionId: string, options: CallOptions = {}): Promise<RTCIceServer[]> {
    const url = this.#url(`/sessions/${encodeURIComponent(sessionId)}/ice`, sessionId);
    const { iceServers } = (await this.#json("GET", url, undefined, options)) as { iceServers?: RTCIceServer[] };
    return iceServers ?? [];
  }

  /** The handshake address of a session, relayed by the service. */
  whepUrl(sessionId: string): string {
    return this.#url(`/sessions/${encodeURIComponent(sessionId)}/whep`, sessionId);
  }

  /** The handshake address at the render server itself, or undefined while there is none. */
  static directWhepUrl(session: Session): string | undefined {
    if (!session.hostname || !session.handshakePort) return undefined;
    return `https://${session.hostname}:${session.handshakePort}/whep`;
  }

  /**
   * Uploads files beside each other; resolves with the URI of each, in order. Progress counts bytes of all files.
   * Uses XMLHttpRequest, the only way for a browser to tell how far an upload is.
   */
  async upload(
    files: readonly UploadFile[],
    options: CallOptions & { uploadId?: string; onProgress?: (progress: UploadProgress) => void } = {},
  ): Promise<string[]> {
    const uploadId = options.uploadId ?? newId();
    const totalBytes = files.reduce((sum, file) => sum + file.data.size, 0);
    const sent = files.map(() => 0);
    const report = (): void => {
      const sentBytes = sent.reduce((sum, bytes) => sum + bytes, 0);
      options.onProgress?.({ sentBytes, totalBytes, fraction: totalBytes === 0 ? 1 : sentBytes / totalBytes });
    };
    const uris: string[] = files.map(() => "");
    let next = 0;
    const abort = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, abort.signal]) : abort.signal;
    const worker = async (): Promise<void> => {
      while (next < files.length) {
        const index = next++;
        const file = files[index] as UploadFile;
        const path = file.path.split("/").map(encodeURIComponent).join("/");
        const url = this.#url(`/uploads/${encodeURIComponent(uploadId)}/${path}`);
        const answer = await this.#put(url, file, signal, (bytes) => {
          sent[index] = bytes;
          report();
        });
        sent[index] = file.data.size;
        uris[index] = answer;
        report();
      }
    };
    try {
      await Promise.all(Array.from({ length: Math.min(3, files.length) }, worker));
    } catch (error) {
      abort.abort();
      throw error;
    }
    return uris;
  }

  #put(url: string, file: UploadFile, signal: AbortSignal, onSent: (bytes: number) => void): Promise<string> {
    return withToken(this.#tokens, (token) => putFile(url, file, token, signal, onSent), signal);
  }

  async #pages(first: string, options: CallOptions, onPage: (page: object) => void): Promise<void> {
    let url: string | undefined = first;
    for (let page = 0; url !== undefined && page < MAX_PAGES; page += 1) {
      const answer = (await this.#json("GET", url, undefined, options)) as { "@nextLink"?: string | null };
      onPage(answer);
      const next: URL | undefined = answer["@nextLink"] ? new URL(answer["@nextLink"], url) : undefined;
      // The token goes nowhere but to the service that it belongs to.
      url = next && next.origin === new URL(url).origin ? next.href : undefined;
    }
  }

  #sessionPath(id: string): string {
    return this.#url(`/sessions/${encodeURIComponent(id)}`, id);
  }

  #url(path: string, sessionId?: string): string {
    const endpoint = (sessionId !== undefined && this.#endpoints.get(sessionId)) || this.endpoint;
    return `${endpoint}/accounts/${encodeURIComponent(this.accountId)}${path}`;
  }

  async #json(method: string, url: string, body: object | undefined, options: CallOptions): Promise<unknown> {
    return parseJson(await this.#send(method, url, body, options), "an answer");
  }

  #send(method: string, url: string, body: object | undefined, options: CallOptions): Promise<string> {
    return withToken(this.#tokens, (token) => this.#sendWith(token, method, url, body, options), options.signal);
  }

  async #sendWith(
    token: string,
    method: string,
    url: string,
    body: object | undefined,
    options: CallOptions,
  ): Promise<string> {
    const address = new URL(url, globalThis.location?.href);
    if (!address.searchParams.has("api-version")) address.searchParams.set("api-version", API_VERSION);
    let answer: Response;
    let text: string;
    try {
      answer = await this.#fetch(address.href, {
        method,
        headers: {
          Authorization: `Bearer ${token}`,
          Accept: "application/json",
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        },
        cache: "no-store",
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(options.signal ? { signal: options.signal } : {}),
      });
      text = await answer.text();
    } catch (error) {
      throw unreachable(error, options.signal, "The request");
    }
    if (answer.ok) return text;
    if (answer.status === 401) {
      throw new FarframeError("AuthenticationFailed", "The access token has expired or is not valid.", {
        nextStep: nextStepOf("AuthenticationFailed"),
        status: 401,
      });
    }
    throw errorFromAnswer("The request", answer.status, text, SESSION_RESULTS);
  }
}

function putFile(
  url: string,
  file: UploadFile,
  token: string,
  signal: AbortSignal,
  onSent: (bytes: number) => void,
): Promise<string> {
  const what = `Uploading ${file.path}`;
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(cancelled(what));
      return;
    }
    const request = new XMLHttpRequest();
    const onAbort = (): void => request.abort();
    signal.addEventListener("abort", onAbort, { once: true });
    request.open("PUT", url);
    request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => onSent(Math.min(event.loaded, file.data.size)));
    request.addEventListener("loadend", () => signal.removeEventListener("abort", onAbort));
    request.addEventListener("abort", () => reject(cancelled(what)));
    request.addEventListener("error", () => reject(unreachable(undefined, signal, what)));
    request.addEventListener("load", () => {
      if (request.status < 200 || request.status > 299) {
        reject(errorFromAnswer(what, request.status, request.responseText));
        return;
      }
      try {
        const { uri } = parseJson(request.responseText, "an upload's answer") as { uri?: unknown };
        if (typeof uri !== "string") throw new FarframeError("ProtocolError", "The upload's answer holds no URI.");
        resolve(uri);
      } catch (error) {
        reject(error);
      }
    });
    request.send(file.data);
  });
}

/** Why a session that has ended cannot be connected to. */
export function endedError(session: Session): FarframeError {
  switch (session.status) {
    case "Stopped":
      return new FarframeError("SessionStopped", "The session was stopped.", {
        nextStep: nextStepOf("SessionStopped"),
      });
    case "Expired":
      return new FarframeError("SessionExpired", "The session's lease has run out.", {
        nextStep: nextStepOf("SessionExpired"),
      });
    default:
      return new FarframeError("Fail", session.error?.message ?? "The session's render server could not start.", {
        nextStep: "Start a new session; the server's log tells more.",
        ...(session.error?.code ? { code: session.error.code } : {}),
      });
  }
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(cancelled("Waiting for the session"));
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(cancelled("Waiting for the session"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
