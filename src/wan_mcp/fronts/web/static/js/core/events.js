// The stream of changed jobs. A browser reconnects by itself; this one also survives a long absence of the server.

import { Store } from "./store.js";

const SLOWEST_RETRY_MS = 5000;

/** connecting | connected | reconnecting */
export const connection = new Store("connecting");

/**
 * Follow /api/events until the page closes.
 * @param {Object<string, function(Object)>} handlers by the names of events
 */
export function followEvents(handlers) {
  let source = null;
  let failures = 0;
  let timer = null;

  const open = () => {
    clearTimeout(timer);
    source = new EventSource("/api/events");
    source.onopen = () => {
      failures = 0;
      connection.set("connected");
    };
    source.onerror = () => {
      connection.set("reconnecting");
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself, and resumes
      failures += 1;
      timer = setTimeout(open, Math.min(SLOWEST_RETRY_MS, 250 * 2 ** failures));
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
  };
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && open());
  addEventListener("online", () => source?.readyState === EventSource.CLOSED && open());
  open();
}
