// Requests to the server. Every failure is a `Problem` with a sentence and, mostly, one button.

import { S } from "../strings.js";

export class Problem extends Error {
  constructor({ error, code, action = null }, status = 0) {
    super(error);
    this.code = code;
    this.action = action;
    this.status = status;
  }
}

/** Problems that are not about one request but about the whole page; the page sets this. */
export const onSignedOut = { call: () => {} };

async function send(method, path, { body, json, headers = {}, ...rest } = {}) {
  const own = method === "GET" ? {} : { "X-Wan-Mcp": "page" }; // which no page of another origin can send
  const request = { method, headers: { Accept: "application/json", ...own, ...headers }, ...rest };
  if (json !== undefined) {
    request.body = JSON.stringify(json);
    request.headers["Content-Type"] = "application/json";
  } else if (body !== undefined) {
    request.body = body;
  }
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ error: S.errors.unreachable, code: "unreachable", action: { do: "retry", label: S.retry } });
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  if (response.status === 401) onSignedOut.call();
  const type = response.headers.get("content-type") ?? "";
  const answer = type.includes("json") ? await response.json() : { error: (await response.text()).trim() };
  throw new Problem({ error: answer.error || S.errors.unknown(response.status), code: answer.code ?? "refused", action: answer.action }, response.status);
}

/** A key that makes a submission happen once, however often it is sent. */
export function submissionKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const job = (id) => `/api/jobs/${encodeURIComponent(id)}`;
const model = (name) => `/api/models/${encodeURIComponent(name)}`;

export const api = {
  catalogue: () => send("GET", "/api/catalogue"),
  estimate: (request, signal) => send("POST", "/api/estimate", { json: request, signal }),
  submit: (request, key) => send("POST", "/api/jobs", { json: request, headers: { "Idempotency-Key": key } }),
  upload: (blob, frame) => send("POST", frame ? `/api/inputs?frame=${encodeURIComponent(frame)}` : "/api/inputs", { body: blob, headers: { "Content-Type": blob.type || "application/octet-stream" } }),
  frame: (address, frame) => send("POST", `/api/inputs?image=${encodeURIComponent(address)}&frame=${encodeURIComponent(frame)}`),
  jobs: (query, signal) => send("GET", `/api/jobs?${query}`, { signal }),
  job: (id) => send("GET", job(id)),
  keep: (id, kept) => send("PATCH", job(id), { json: { kept } }),
  move: (id, before) => send("POST", `${job(id)}/move`, { json: { before } }),
  cancel: (id) => send("POST", `${job(id)}/cancel`),
  remove: (id, options = {}) => send("DELETE", job(id), options),
  disk: () => send("GET", "/api/models"),
  getModel: (name) => send("POST", `${model(name)}/get`),
  stopModel: (name) => send("POST", `${model(name)}/stop`),
  removeModel: (name) => send("DELETE", model(name)),
  engines: () => send("GET", "/api/engines"),
  freeMemory: () => send("POST", "/api/engines/free"),
  connections: () => send("GET", "/api/connect"),
  testServer: () => send("GET", "/api/connect/test"),
  phoneLinks: () => send("POST", "/api/phone"),
  session: () => send("GET", "/api/session"),
  signOut: () => send("POST", "/api/sign-out"),
};
