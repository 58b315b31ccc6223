// The engines and the disk, looked at from time to time while the page is seen.

import { api } from "./api.js";
import { useEffect } from "./dom.js";
import { successes } from "./jobs.js";
import { Store, useStore } from "./store.js";

const EVERY_MS = 8000;

/** The engines' cards, one for each device; empty until they are known. */
export const engines = new Store([]);
/** Bytes free where results are kept, or null. */
export const homeFree = new Store(null);

export async function lookAtEngine() {
  try {
    const answer = await api.engines();
    engines.set(() => answer.engines);
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

/** Look at the engines now, when `moment` changes, and every few seconds; at the disk after each result. */
export function useEngine(moment) {
  useEffect(() => {
    lookAtEngine();
    const timer = setInterval(() => document.visibilityState === "visible" && lookAtEngine(), EVERY_MS);
    return () => clearInterval(timer);
  }, [moment]);
  const made = useStore(successes);
  useEffect(() => {
    lookAtDisk();
  }, [made]);
}
