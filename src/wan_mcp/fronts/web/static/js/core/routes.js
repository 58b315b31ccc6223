// The address of what is shown: #/, #/job/ID, #/gallery, #/models, #/connect.

import { Store } from "./store.js";

/** "#/job/abc" → { view: "create", job: "abc" }. An unknown address is the first view. */
export function parse(hash) {
  const [view, id] = hash.replace(/^#\/?/, "").split("/");
  if (view === "job" && id) return { view: "create", job: decodeURIComponent(id) };
  return { view: ["gallery", "models", "connect"].includes(view) ? view : "create", job: null };
}

export const route = new Store(parse(location.hash));
addEventListener("hashchange", () => route.set(parse(location.hash)));

export function go(hash) {
  location.hash = hash;
}

/** Show another address without a new step in the browser's history. */
export function replace(hash) {
  history.replaceState(null, "", hash);
  route.set(parse(hash));
}

export const jobAddress = (id) => `#/job/${encodeURIComponent(id)}`;
