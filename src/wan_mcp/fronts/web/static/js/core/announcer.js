// What a screen reader says: one polite line, renewed when something changes.

import { html } from "./dom.js";
import { Store, useStore } from "./store.js";

const line = new Store("");
let timer = null;

/** Say a sentence; of several within a moment, the last. */
export function announce(sentence) {
  clearTimeout(timer);
  timer = setTimeout(() => line.set(sentence), 150);
}

export function Announcer() {
  const words = useStore(line);
  return html`<p class="unseen" role="status" aria-live="polite" id="heard">${words}</p>`;
}
