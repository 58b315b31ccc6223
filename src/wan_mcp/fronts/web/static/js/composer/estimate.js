// What the job would take, asked again a moment after each change.

import { Problem, api } from "../core/api.js";
import { Icon, html, useEffect, useState } from "../core/dom.js";
import { jobs } from "../core/jobs.js";
import { useStore } from "../core/store.js";
import { S } from "../strings.js";
import { missing, requestOf } from "./draft.js";
import { act } from "../panels/problem.js";
import { applyAction } from "./state.js";

const CALM_MS = 350;

/** Return { answer, problem, thinking } for a draft; its notes are left out while there is no prompt. */
export function useEstimate(draft, model) {
  const [state, setState] = useState({ answer: null, problem: null, thinking: true });
  const unfinished = useStore(jobs, (map) => [...map.values()].filter((job) => job.state === "queued" || job.state === "running").length);
  const lacks = missing(draft, model);
  const request = requestOf(draft, model);
  if (lacks === "prompt") request.prompt = "a";
  const key = JSON.stringify(request);
  useEffect(() => {
    if (lacks === "picture") {
      setState({ answer: null, problem: null, thinking: false });
      return undefined;
    }
    const stop = new AbortController();
    setState((before) => ({ ...before, thinking: true }));
    const timer = setTimeout(async () => {
      try {
        const answer = await api.estimate(JSON.parse(key), stop.signal);
        setState({ answer: lacks ? { ...answer, notes: [] } : answer, problem: null, thinking: false });
      } catch (error) {
        if (error.name === "AbortError") return;
        if (!(error instanceof Problem)) throw error;
        setState({ answer: null, problem: error, thinking: false });
      }
    }, CALM_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [key, lacks, unfinished]);
  return state;
}

export function EstimateLine({ estimate }) {
  const { answer, problem, thinking } = estimate;
  if (problem && problem.code !== "unreachable") {
    return html`<p class="notice warn"><${Icon} name="triangle-alert" /><span>${problem.message}</span></p>`;
  }
  if (!answer) return html`<p class="estimate small muted" aria-busy=${String(thinking)}>${thinking ? S.estimate.thinking : "\u00a0"}</p>`;
  const facts = [
    answer.seconds === null ? S.estimate.unknown : S.estimate.seconds(answer.seconds),
    S.estimate.ahead(answer.jobs_ahead, answer.wait_s),
    fit(answer),
    answer.download_bytes ? S.estimate.download(answer.download_bytes, answer.download_s) : S.estimate.noDownload,
  ].filter(Boolean);
  return html`<div class="stack tight">
    <p class=${`estimate small ${answer.fits ? "" : "misfit"}`} id="estimate" aria-busy=${String(thinking)}>
      <span class=${`dot ${answer.fits ? "good" : "bad"}`}></span>${facts.join(" · ")}
    </p>
    ${answer.notes.map((note) => html`<p class="notice small" key=${note}><${Icon} name="info" /><span>${note}</span></p>`)}
    ${!answer.fits && html`<div class="notice warn">
      <${Icon} name="triangle-alert" />
      <div class="stack tight"><span>${answer.misfit}</span>
        ${answer.action && html`<button type="button" class="button tiny" onClick=${() => act(answer.action, applyAction)}>${answer.action.label}</button>`}
      </div>
    </div>`}
  </div>`;
}

function fit(answer) {
  if (!answer.fits) return S.estimate.misfit;
  const known = answer.needed_bytes !== null && answer.memory_bytes !== null;
  return known ? S.estimate.fits(answer.needed_bytes, answer.memory_bytes) : S.estimate.fitsPlain;
}
