// Deleting results, which can be undone for some seconds: until then they are only hidden.

import { api } from "./api.js";
import { forget, hidden } from "./jobs.js";
import { toast } from "./toasts.js";
import { S } from "../strings.js";

const UNDO_S = 10;
const pending = new Map(); // id → timer

function hide(ids, gone) {
  hidden.set((before) => {
    const next = new Set(before);
    for (const id of ids) (gone ? next.add(id) : next.delete(id));
    return next;
  });
}

async function remove(id, options) {
  pending.delete(id);
  try {
    await api.remove(id, options);
    forget([id]);
  } catch (problem) {
    if (problem.code !== "unknown_job") {
      hide([id], false);
      toast(problem.message);
    }
  }
}

/** Hide jobs now, and delete them when the time to undo it is over or the page closes. */
export function deleteJobs(ids) {
  hide(ids, true);
  for (const id of ids) pending.set(id, setTimeout(() => remove(id), UNDO_S * 1000));
  const undo = () => {
    for (const id of ids) {
      clearTimeout(pending.get(id));
      pending.delete(id);
    }
    hide(ids, false);
  };
  toast(ids.length === 1 ? S.stage.removed : S.gallery.removed(ids.length), { seconds: UNDO_S, action: { label: S.undo, run: undo } });
}

addEventListener("pagehide", () => {
  for (const [id, timer] of pending) {
    clearTimeout(timer);
    remove(id, { keepalive: true });
  }
});
