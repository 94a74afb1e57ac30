/** Objects whose members are set one by one (`material.roughness = 0.2`) or together (`material.set({ … })`). */

import { type Checks, invalid } from "./checks.ts";

export abstract class Editable<V extends object> {
  #values: V;
  readonly #defaults: V;
  readonly #checks: Checks<V>;

  protected constructor(defaults: V, checks: Checks<V>) {
    this.#values = defaults;
    this.#defaults = defaults;
    this.#checks = checks;
  }

  /** All members as they are now. */
  get values(): Readonly<V> {
    return this.#values;
  }

  /** Changes some members together: all of them, or none if one is out of range. Throws InvalidParam, InvalidId. */
  set(changes: Partial<V>): void {
    const names = Object.keys(changes) as (keyof V)[];
    const made: Partial<V> = {};
    for (const name of names) {
      const check = this.#checks[name];
      if (!check) throw invalid(`There is no member ${String(name)}.`);
      made[name] = check(String(name), changes[name]);
    }
    const next = { ...this.#values, ...made };
    this.judge(next);
    this.#values = next;
    if (names.length > 0) this.changed(names);
  }

  /** Throws if members that are each right do not go together, or there is nothing to change any more. */
  protected judge(_next: V): void {}

  /** Sends what was changed. */
  protected abstract changed(names: readonly (keyof V)[]): void;

  /** Takes over what the server holds; what is not told is as it began. @internal */
  adopt(values: Partial<V>): void {
    this.#values = { ...this.#defaults, ...values };
  }
}

/** Gives a prototype an accessor for each member. */
export function giveMembers<V extends object>(prototype: Editable<V>, names: readonly (keyof V)[]): void {
  for (const name of names) {
    Object.defineProperty(prototype, name, {
      configurable: true,
      enumerable: true,
      get(this: Editable<V>) {
        return this.values[name];
      },
      set(this: Editable<V>, value: V[typeof name]) {
        this.set({ [name]: value } as unknown as Partial<V>);
      },
    });
  }
}

/** A group of members that tells somebody else of its changes. */
export class Group<V extends object> extends Editable<V> {
  readonly #onChange: (changes: Partial<V>) => void;
  readonly #judge: (next: V) => void;

  constructor(defaults: V, checks: Checks<V>, onChange: (changes: Partial<V>) => void, judge = (_next: V): void => {}) {
    super(defaults, checks);
    this.#onChange = onChange;
    this.#judge = judge;
    giveMembers<V>(this, Object.keys(checks) as (keyof V)[]);
  }

  protected override judge(next: V): void {
    this.#judge(next);
  }

  protected override changed(names: readonly (keyof V)[]): void {
    const changes: Partial<V> = {};
    for (const name of names) changes[name] = this.values[name];
    this.#onChange(changes);
  }
}
