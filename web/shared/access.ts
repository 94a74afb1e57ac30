/**
 * Who this page may speak for. A one-time link carries a code in the fragment, which never reaches a server's log. The
 * code is exchanged for a short-lived token at once, and the token lives in this tab's sessionStorage only.
 */

import { FarframeError, ManagementClient, redeemLink } from "@farframe/client";

const STORAGE_KEY = "farframe.access";

export interface Access {
  readonly accessToken: string;
  readonly accountId: string;
  /** Milliseconds since 1970; undefined when the service did not say. */
  readonly expiresAt: number | undefined;
  /** The only session that the token is for; undefined when it is for the whole account. */
  readonly sessionId: string | undefined;
  /** `Viewer` may only watch. */
  readonly role?: "Client" | "Viewer" | undefined;
}

/** Somebody came to the page without a link, or the token of the link that was used here is no longer. */
export class LinkMissingError extends FarframeError {
  constructor() {
    super("AuthenticationFailed", "This page is opened with a one-time link.", {
      nextStep: "`farframe view` prints one for a session, `farframe view --console` one for the console.",
    });
  }
}

/** Takes the fragment's parameters and removes them from the address bar. Call first of all. */
export function takeFragment(): URLSearchParams {
  const parameters = new URLSearchParams(location.hash.slice(1));
  if (location.hash) history.replaceState(history.state, "", location.pathname + location.search);
  return parameters;
}

function stored(): Access | undefined {
  try {
    const access = JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "null") as Access | null;
    if (!access || (access.expiresAt !== undefined && access.expiresAt < Date.now())) return undefined;
    return access;
  } catch {
    return undefined;
  }
}

/** Forgets the token. */
export function signOut(): void {
  sessionStorage.removeItem(STORAGE_KEY);
}

/** Redeems `code`, or takes the token that this tab has. */
export async function signIn(code: string | null): Promise<Access> {
  if (code) {
    const link = await redeemLink(code);
    const at = typeof link.expiresAt === "number" ? link.expiresAt * 1000 : Date.parse(link.expiresAt);
    const access: Access = {
      accessToken: link.accessToken,
      accountId: link.accountId,
      expiresAt: Number.isFinite(at) ? at : undefined,
      sessionId: link.sessionId ?? undefined,
      role: link.role,
    };
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify(access));
    return access;
  }
  const access = stored();
  if (!access) throw new LinkMissingError();
  return access;
}

/** The service that this page came from, in the name of `access`. */
export function managementFor(access: Access): ManagementClient {
  return new ManagementClient({ accountId: access.accountId, token: access.accessToken });
}
