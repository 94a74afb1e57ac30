/**
 * Access tokens that are asked for when they are needed.
 *
 * A page gets its token from somewhere: a one-time link, or its own server, which holds the account key. Tokens run out
 * while the page is open, so a page that stays gives a function in place of a text; it is called again when the token is
 * about to run out, and when it was refused.
 */

import { abortable } from "./abortable.ts";
import { FarframeError, nextStepOf } from "./errors.ts";

/** Why a token is asked for. */
export interface TokenRequest {
  /** The token that the service has just refused; undefined when there is none yet, or it is about to run out. */
  readonly refused: string | undefined;
}

/** Gives a token that is good now. */
export type TokenProvider = (request: TokenRequest) => string | Promise<string>;

/** A token that is asked for so long before it runs out is still good when it arrives. */
const MARGIN_MILLISECONDS = 30_000;

/** When a token runs out, milliseconds since 1970, as far as it can be read; it proves nothing. */
export function expiryOf(token: string): number | undefined {
  const payload = token.split(".")[1];
  if (!payload) return undefined;
  try {
    const claims = JSON.parse(atob(payload.replace(/-/g, "+").replace(/_/g, "/"))) as { exp?: unknown } | null;
    return typeof claims?.exp === "number" ? claims.exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/** The token that is good now, of a text that never changes or of a function that is asked for the next one. */
export class TokenSource {
  readonly #provide: TokenProvider | undefined;
  #token: string | undefined;
  #refused: string | undefined;
  #asking: Promise<string> | undefined;

  constructor(token: string | TokenProvider) {
    if (typeof token === "string") this.#token = token;
    else this.#provide = token;
  }

  /** The one that was used last, or nothing; for what cannot wait. */
  get last(): string {
    return this.#token ?? this.#refused ?? "";
  }

  /** A token that has not been refused. Rejects with AuthenticationFailed when there is none. */
  async get(): Promise<string> {
    const kept = this.#token;
    if (kept !== undefined && (!this.#provide || !runsOut(kept))) return kept;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  /** The service does not take `token`. Says whether asking for another one may help. */
  refuse(token: string): boolean {
    if (!this.#provide) return false;
    if (this.#token === token) {
      this.#token = undefined;
      this.#refused = token;
    }
    return true;
  }

  async #ask(): Promise<string> {
    const refused = this.#refused;
    let token: unknown;
    try {
      token = await this.#provide?.({ refused });
    } catch (error) {
      if (error instanceof FarframeError) throw error;
      throw new FarframeError("AuthenticationFailed", "The page could not get an access token.", {
        nextStep: nextStepOf("AuthenticationFailed"),
        cause: error,
      });
    }
    if (typeof token !== "string" || token === "") {
      throw new FarframeError("AuthenticationFailed", "The page has no access token.", {
        nextStep: nextStepOf("AuthenticationFailed"),
      });
    }
    if (token === this.#refused && token !== refused) {
      // It was asked for before it was refused: whoever gives tokens does not know that yet.
      return this.#ask();
    }
    if (token === refused) {
      throw new FarframeError("AuthenticationFailed", "The page's access token was refused, and it has no other.", {
        nextStep: nextStepOf("AuthenticationFailed"),
      });
    }
    this.#token = token;
    this.#refused = undefined;
    return token;
  }
}

/**
 * Calls `work` with a token, and once more with another one if that is refused. Waits for a token no longer than until
 * `signal` aborts.
 */
export async function withToken<T>(
  source: TokenSource,
  work: (token: string) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const token = await abortable(source.get(), signal, "Waiting for a token");
  try {
    return await work(token);
  } catch (error) {
    if (!(error instanceof FarframeError) || error.result !== "AuthenticationFailed" || !source.refuse(token)) {
      throw error;
    }
  }
  return work(await abortable(source.get(), signal, "Waiting for a token"));
}

function runsOut(token: string): boolean {
  const expiry = expiryOf(token);
  return expiry !== undefined && expiry - MARGIN_MILLISECONDS <= Date.now();
}
