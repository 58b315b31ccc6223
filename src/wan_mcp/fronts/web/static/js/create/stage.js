// The stage: one job, large, and everything that can be done with it.

import { api } from "../core/api.js";
import { catalogue, hasRealModel } from "../core/catalogue.js";
import { Icon, html, useEffect, useState } from "../core/dom.js";
import { capital, duration } from "../core/format.js";
import { active, hidden, inOrder, jobs, learn } from "../core/jobs.js";
import { route } from "../core/routes.js";
import { useStore } from "../core/store.js";
import { ProblemNotice } from "../panels/problem.js";
import { FirstRun } from "../panels/first_run.js";
import { S } from "../strings.js";
import { Actions } from "./actions.js";
import { Progress } from "./activity.js";
import { Compare } from "./compare.js";
import { Player } from "./player.js";
import { usePreview } from "./preview.js";
import { Strip } from "./strip.js";
import { helpWith, remixJob } from "./reuse.js";

export function Stage() {
  const { job: asked } = useStore(route);
  const map = useStore(jobs);
  const gone = useStore(hidden);
  const [lost, setLost] = useState(null);
  const job = asked ? map.get(asked) : inOrder(map, gone).find((each) => active(each) || each.state === "succeeded");

  useEffect(() => {
    if (!asked || map.has(asked)) return;
    api.job(asked).then((card) => learn([card]), (problem) => setLost(asked));
  }, [asked]);

  if (job) return html`<section class="stage" id="stage" aria-label=${S.stage.title}><${Shown} key=${job.id} job=${job} /></section>`;
  return html`<section class="stage" id="stage" aria-label=${S.stage.title}>
    ${asked && lost === asked ? html`<div class="empty"><${Icon} name="search" size="huge" /><p>${S.stage.notHere}</p></div>` : !asked && html`<${Nothing} />`}
  </section>`;
}

function Nothing() {
  const known = useStore(catalogue);
  if (known && !hasRealModel(known)) return html`<${FirstRun} known=${known} />`;
  return html`<div class="empty"><${Icon} name="clapperboard" size="huge" /><h2>${S.stage.emptyTitle}</h2><p>${S.stage.empty}</p></div>`;
}

function Shown({ job }) {
  const [index, setIndex] = useState(0);
  const [other, setOther] = useState(null);
  const file = job.results[Math.min(index, job.results.length - 1)];
  return html`
    ${active(job) && html`<${Running} job=${job} />`}
    ${job.state === "failed" && html`<div class="stage-message"><${ProblemNotice} problem=${job.problem} act=${helpWith(job)} /></div>`}
    ${job.state === "cancelled" && html`<div class="empty"><${Icon} name="circle-stop" size="huge" /><h2>${S.stage.cancelled}</h2>
      <button type="button" class="button" onClick=${() => remixJob(job.id)}><${Icon} name="repeat-2" />${S.stage.remix}</button></div>`}
    ${job.kind === "caption" && job.caption !== null && html`<${CaptionText} job=${job} />`}
    ${file && (other
      ? html`<${Compare} left=${{ job, file }} right=${other} close=${() => setOther(null)} />`
      : html`<${Player} key=${file.uri} job=${job} file=${file} />`)}
    ${job.results.length > 1 && html`<div class="row results" role="radiogroup" aria-label=${S.stage.title}>
      ${job.results.map((each, at) => html`<button type="button" role="radio" aria-checked=${String(at === index)} key=${each.uri} class="result"
          aria-label=${S.stage.result(at + 1, job.results.length)} onClick=${() => setIndex(at)}>
        <img src=${each.poster_url ?? each.url} alt="" /></button>`)}
    </div>`}
    ${file && job.kind === "video" && html`<${Strip} key=${`strip ${file.uri}`} job=${job} file=${file} />`}
    <${About} job=${job} file=${file} />
    ${!active(job) && html`<${Actions} job=${job} file=${file} compare=${setOther} comparing=${other !== null} />`}
  `;
}

function Running({ job }) {
  const preview = usePreview(job);
  const ratio = job.width ? { aspectRatio: `${job.width} / ${job.height}` } : {};
  return html`<div class="screen waiting">
    ${preview
      ? html`<figure class="previewing"><img src=${preview} alt=${S.stage.preview} /><figcaption class="chip">${S.stage.previewing}</figcaption></figure>`
      : html`<div class="blank" style=${ratio}>${job.images[0] ? html`<img src=${job.images[0]} alt="" />` : html`<${Icon} name="sparkles" size="huge" />`}</div>`}
    <div class="screen-progress"><${Progress} job=${job} />
      ${job.state === "queued" && html`<p class="small muted">${S.stage.waiting}</p>`}</div>
  </div>`;
}

function CaptionText({ job }) {
  return html`<div class="caption-result">
    ${job.images[0] && html`<img src=${job.images[0]} alt="" />`}
    <blockquote>${job.caption}</blockquote>
  </div>`;
}

function About({ job, file }) {
  const took = job.finished_at && job.started_at ? job.finished_at - job.started_at : null;
  const facts = [
    [S.stage.facts.model, job.model],
    [S.stage.facts.size, job.width ? `${job.width} × ${job.height}${file?.frames ? `, ${file.frames} frames` : ""}` : null],
    [S.stage.facts.seed, file?.seed ?? job.seed],
    [S.stage.facts.took, took === null || active(job) ? null : duration(took)],
    [S.stage.facts.from, capital(S.asked(job.client))],
    [S.stage.facts.made, S.when(job.created_at)],
    [S.stage.facts.saved, file?.saved_as ?? null],
    [S.stage.facts.expires, job.expires_at && !job.kept ? S.on(job.expires_at) : null],
  ].filter(([, value]) => value !== null && value !== undefined);
  return html`<div class="about">
    ${job.prompt && html`<h1 class="prompt-shown">${job.prompt}</h1>`}
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="mono">${value}</dd></div>`)}</dl>
    ${job.notes.map((note) => html`<p class="notice small" key=${note}><${Icon} name="info" /><span>${note}</span></p>`)}
  </div>`;
}
