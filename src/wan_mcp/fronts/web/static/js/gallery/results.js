// The results that match a search, read page by page as they come into sight, and kept fresh by events.

import { Problem, api } from "../core/api.js";
import { useEffect, useRef, useState } from "../core/dom.js";
import { hidden, jobs, learn, successes } from "../core/jobs.js";
import { useStore } from "../core/store.js";

const PAGE = 100;
const CALM_MS = 200;

/** The Unix time at which a day like "2026-11-27" begins here, or one that is `later` days after it. */
function midnight(day, later = 0) {
  const [year, month, date] = day.split("-").map(Number);
  return Math.max(0, new Date(year, month - 1, date + later).getTime() / 1000);
}

/** Make the query of GET /api/jobs. */
export function queryOf({ q, kind, state, kept, model, from = "", to = "" }) {
  const query = new URLSearchParams({ limit: String(PAGE) });
  if (q.trim()) query.set("q", q.trim());
  if (kind) query.set("kind", kind);
  if (state) query.set("state", state);
  if (kept) query.set("kept", "true");
  if (model) query.set("model", model);
  if (from) query.set("since", String(midnight(from)));
  if (to) query.set("until", String(midnight(to, 1)));
  return query;
}

/** Return { found, more, loading, problem, next }; `next` reads one more page. */
export function useResults(filters) {
  const query = queryOf(filters).toString();
  const [state, setState] = useState({ ids: [], before: null, loading: true, problem: null });
  const known = useStore(jobs);
  const gone = useStore(hidden);
  const asked = useRef(""); // the page that is being read, or was read last
  const finished = useStore(successes);

  const read = async (before, ids) => {
    const ask = new URLSearchParams(query);
    if (before) ask.set("before", before);
    try {
      const page = await api.jobs(ask);
      learn(page.jobs);
      return { ids: [...ids, ...page.jobs.map((job) => job.id)], before: page.before, loading: false, problem: null };
    } catch (problem) {
      asked.current = ""; // it may be asked for again
      if (!(problem instanceof Problem)) throw problem;
      return { ids, before, loading: false, problem };
    }
  };
  useEffect(() => {
    let stale = false;
    const timer = setTimeout(async () => {
      const fresh = await read(null, []);
      if (stale) return;
      // A job that has just ended changes the first page only: older ones stay.
      setState((now) => (now.query === query ? { ...fresh, query, ids: [...new Set([...fresh.ids, ...now.ids])], before: now.ids.length > fresh.ids.length ? now.before : fresh.before } : { ...fresh, query }));
    }, CALM_MS);
    return () => {
      stale = true;
      clearTimeout(timer);
    };
  }, [query, finished]);

  const next = async () => {
    const page = `${query} ${state.before}`;
    if (!state.before || asked.current === page) return;
    asked.current = page;
    const grown = await read(state.before, state.ids);
    setState((now) => (now.query === query ? { ...grown, query } : now));
  };
  const found = state.ids.filter((id) => known.has(id) && !gone.has(id)).map((id) => known.get(id));
  return { found, more: Boolean(state.before), loading: state.loading, problem: state.problem, next };
}
