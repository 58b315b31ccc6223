// A value that components follow.

import { useEffect, useState } from "./dom.js";

export class Store {
  #value;
  #followers = new Set();

  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  /** Replace the value, or merge an object into it; a function is given the present one. */
  set(change) {
    const next = typeof change === "function" ? change(this.#value) : change;
    if (next === this.#value) return;
    const merges = next && Object.getPrototypeOf(next) === Object.prototype && this.#value !== null;
    this.#value = merges ? { ...this.#value, ...next } : next;
    for (const follower of [...this.#followers]) follower(this.#value);
  }

  follow(follower) {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }
}

/** Return what `select` picks from a store, and render again when that changes. */
export function useStore(store, select = (value) => value) {
  const picked = select(store.value);
  const [, render] = useState(0);
  useEffect(() => {
    let seen = picked;
    const look = (value) => {
      const next = select(value);
      if (!Object.is(next, seen)) {
        seen = next;
        render((count) => count + 1);
      }
    };
    look(store.value);
    return store.follow(look);
  }, [store, picked]);
  return picked;
}
