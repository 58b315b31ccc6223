// All jobs that the page knows, newest first: unfinished ones as the server sends them, and those it has asked for.

import { api } from "./api.js";
import { announce } from "./announcer.js";
import { Store } from "./store.js";
import { S } from "../strings.js";

export const ENDED = ["succeeded", "failed", "cancelled"];
export const ended = (job) => ENDED.includes(job.state);
export const active = (job) => !ended(job);

export const jobs = new Store(new Map());
/** Ids that are hidden while a deletion can be undone. */
export const hidden = new Store(new Set());
/** How many jobs have succeeded while the page looked on. */
export const successes = new Store(0);

/** Put cards into the map, and say aloud what has changed. */
export function learn(cards, { aloud = false } = {}) {
  let succeeded = 0;
  jobs.set((known) => {
    const next = new Map(known);
    for (const card of cards) {
      const before = next.get(card.id);
      if (aloud) {
        tell(before, card);
        succeeded += card.state === "succeeded" && before?.state !== "succeeded";
      }
      next.set(card.id, { ...before, ...card });
    }
    return next;
  });
  if (succeeded) successes.set((count) => count + succeeded);
}

export function forget(ids) {
  jobs.set((known) => {
    const next = new Map(known);
    for (const id of ids) next.delete(id);
    return next;
  });
}

/** A snapshot holds every unfinished job: those we thought unfinished and that it lacks have ended meanwhile. */
export function reconcile(cards) {
  const present = new Set(cards.map((card) => card.id));
  const missing = [...jobs.value.values()].filter((job) => active(job) && !present.has(job.id));
  learn(cards, { aloud: true });
  for (const job of missing) refresh(job.id);
}

export async function refresh(id) {
  try {
    const card = await api.job(id);
    learn([card], { aloud: true });
    return card;
  } catch (problem) {
    if (problem.code === "unknown_job") forget([id]);
    throw problem;
  }
}

export const handlers = {
  snapshot: (data) => reconcile(data.jobs),
  jobs: (data) => {
    learn(data.jobs, { aloud: true });
    if (data.deleted?.length) forget(data.deleted);
  },
};

/** Newest first; those that are being deleted are left out. */
export function inOrder(map, gone = hidden.value) {
  return [...map.values()].filter((job) => !gone.has(job.id)).sort((a, b) => b.created_at - a.created_at);
}

function tell(before, after) {
  if (before && before.state === after.state && before.stage === after.stage) return;
  if (!before && ended(after)) return;
  announce(S.heard(after));
}
