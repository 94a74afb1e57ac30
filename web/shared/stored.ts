/** Small things that the browser keeps for a person. What is there may be anything: look before you trust it. */

/** What was kept under `key`, or undefined; also where the browser keeps nothing. */
export function recall(key: string): unknown {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}

/** Keeps `value` under `key`. Whether it could: storage may be full, or forbidden. */
export function keep(key: string, value: unknown): boolean {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
