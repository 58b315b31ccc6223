// The engine and the disk, looked at from time to time while the page is seen.

import { api } from "./api.js";
import { useEffect } from "./dom.js";
import { Store } from "./store.js";

const EVERY_MS = 8000;

/** The engine's card, or null until it is known. */
export const engine = new Store(null);
/** Bytes free where results are kept, or null. */
export const homeFree = new Store(null);

export async function lookAtEngine() {
  try {
    const { engines } = await api.engines();
    engine.set(() => engines[0] ?? null);
  } catch {
    // the banner says that the server is away
  }
}

async function lookAtDisk() {
  try {
    homeFree.set((await api.disk()).disk.home_free_bytes);
  } catch {
    // likewise
  }
}

/** Look now, when `moment` changes, and every few seconds. */
export function useEngine(moment) {
  useEffect(() => {
    lookAtEngine();
    const timer = setInterval(() => document.visibilityState === "visible" && lookAtEngine(), EVERY_MS);
    return () => clearInterval(timer);
  }, [moment]);
  useEffect(() => {
    lookAtDisk();
  }, []);
}
