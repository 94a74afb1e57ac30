/** A minimal typed event emitter: listeners are called in order; one that throws does not stop the others. */

export type Listener<T> = (value: T) => void;

export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();

  /** Calls `listener` on each event until the returned function is called or `signal` aborts. */
  on<K extends keyof Events>(name: K, listener: Listener<Events[K]>, signal?: AbortSignal): () => void {
    const off = (): void => {
      this.#listeners.get(name)?.delete(listener as Listener<never>);
      signal?.removeEventListener("abort", off);
    };
    if (signal?.aborted) return off;
    let set = this.#listeners.get(name);
    if (!set) {
      set = new Set();
      this.#listeners.set(name, set);
    }
    set.add(listener as Listener<never>);
    signal?.addEventListener("abort", off, { once: true });
    return off;
  }

  /** The next event of that name. Rejects with the signal's reason when it aborts first. */
  once<K extends keyof Events>(name: K, signal?: AbortSignal): Promise<Events[K]> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const off = this.on(name, (value) => {
        off();
        signal?.removeEventListener("abort", onAbort);
        resolve(value);
      });
      const onAbort = (): void => {
        off();
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  protected emit<K extends keyof Events>(name: K, value: Events[K]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as Listener<Events[K]>)(value);
      } catch (error) {
        // A listener's bug must reach the page's error handler and nobody else.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
