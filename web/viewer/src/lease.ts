/** How long the session lives on, and the button that makes it longer. */

import type { ManagementClient, Session } from "@farframe/client";
import { byId } from "../../shared/dom.ts";

const POLL_MILLISECONDS = 15_000;
const EXTENSION_MINUTES = 10;
const MAX_LEASE_MINUTES = 1440;

export interface LeaseOptions {
  /** Whoever watches cannot extend. */
  readonly watching: boolean;
  onProblem(thrown: unknown): void;
}

/** Shows the lease of a session until the returned controller aborts. */
export function watchLease(management: ManagementClient, id: string, options: LeaseOptions): AbortController {
  const abort = new AbortController();
  const extend = byId<HTMLButtonElement>("extend");
  const show = (session: Session): void => {
    const left = Math.max(0, session.maxLeaseTimeMinutes - session.elapsedTimeMinutes);
    byId("lease").textContent = `${left} min left`;
    byId("lease").hidden = false;
    extend.hidden = options.watching || session.maxLeaseTimeMinutes >= MAX_LEASE_MINUTES;
  };
  const poll = async (): Promise<void> => {
    try {
      const session = await management.getSession(id, { signal: abort.signal });
      if (!abort.signal.aborted) show(session);
    } catch {
      // The picture matters more than its lease; the next poll tells again.
    }
  };
  extend.addEventListener(
    "click",
    async () => {
      extend.disabled = true;
      try {
        const { maxLeaseTimeMinutes } = await management.getSession(id);
        const minutes = Math.min(MAX_LEASE_MINUTES, maxLeaseTimeMinutes + EXTENSION_MINUTES);
        const session = await management.extendSession(id, minutes);
        if (!abort.signal.aborted) show(session);
      } catch (thrown) {
        if (!abort.signal.aborted) options.onProblem(thrown);
      } finally {
        extend.disabled = false;
      }
    },
    { signal: abort.signal },
  );
  void poll();
  const timer = setInterval(() => void poll(), POLL_MILLISECONDS);
  abort.signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  return abort;
}
