// Activity: one card a job, the newest on top, of all clients.

import { Problem, api } from "../core/api.js";
import { Icon, IconButton, html, useEffect, useState } from "../core/dom.js";
import { active, hidden, inOrder, jobs, learn } from "../core/jobs.js";
import { capital } from "../core/format.js";
import { jobAddress, route } from "../core/routes.js";
import { useStore } from "../core/store.js";
import { toast } from "../core/toasts.js";
import { act } from "../panels/problem.js";
import { S } from "../strings.js";
import { usePreview } from "./preview.js";
import { helpWith, trying } from "./reuse.js";

const ENDED_SHOWN = 12;
const DRAGGED = "application/x-wan-job";

export function Activity() {
  const map = useStore(jobs);
  const gone = useStore(hidden);
  const { job: shown } = useStore(route);
  const all = inOrder(map, gone);
  let rest = ENDED_SHOWN;
  const cards = all.filter((job) => active(job) || (rest -= 1) >= 0);
  const line = waitingLine(all);
  return html`<section class="activity" aria-label=${S.activity.title}>
    <header class="row spread section-head"><h2>${S.activity.title}</h2><a class="small" href="#/gallery">${S.activity.more}</a></header>
    ${cards.length === 0 && html`<p class="muted small section-pad">${S.activity.none}</p>`}
    <ul class="cards">${cards.map((job) => html`<${Card} key=${job.id} job=${job} shown=${job.id === shown} line=${line} />`)}</ul>
  </section>`;
}

/** The waiting jobs that this page may move, its owner's, in the order in which they are served. */
function waitingLine(all) {
  const mine = all.filter((job) => job.state === "queued" && job.owner === document.body.dataset.owner);
  return mine.sort((a, b) => (a.queue_position ?? 0) - (b.queue_position ?? 0));
}

async function move(job, before) {
  await trying(async () => learn([await api.move(job.id, before)]));
}

function Card({ job, shown, line }) {
  const busy = active(job);
  const cancel = async () => {
    try {
      learn([await api.cancel(job.id)]);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      toast(problem.message);
    }
  };
  const place = line.findIndex((each) => each.id === job.id);
  const movable = place >= 0 && line.length > 1;
  const [over, setOver] = useState(false);
  const drag = movable ? {
    draggable: true,
    onDragStart: (event) => event.dataTransfer.setData(DRAGGED, job.id),
    onDragOver: (event) => { if (event.dataTransfer.types.includes(DRAGGED)) { event.preventDefault(); setOver(true); } },
    onDragLeave: () => setOver(false),
    onDrop: (event) => {
      event.preventDefault();
      setOver(false);
      const dragged = line.find((each) => each.id === event.dataTransfer.getData(DRAGGED));
      if (dragged && dragged.id !== job.id) move(dragged, job.id);
    },
  } : {};
  return html`<li class=${`card ${job.state} ${shown ? "shown" : ""} ${over ? "over" : ""}`} data-job=${job.id} ...${drag}>
    <a class="card-link" href=${jobAddress(job.id)} aria-label=${S.activity.show(job)} aria-current=${shown ? "true" : "false"}>
      <${Thumb} job=${job} />
      <span class="card-text">
        <span class="clamp">${job.prompt || job.caption || capital(job.what)}</span>
        <span class="small muted clip">${S.activity.byWhom(job.client, job.finished_at ?? job.created_at)}</span>
        ${job.state === "cancelled" && html`<span class="small muted">${S.states.cancelled}</span>`}
        ${job.state === "failed" && html`<span class="small bad-text clamp">${job.problem.error}</span>`}
      </span>
    </a>
    ${busy && html`<${Progress} job=${job} />`}
    ${movable && html`<div class="card-move">
      <${IconButton} icon="arrow-up" class="tiny quiet" label=${S.activity.earlier} disabled=${place === 0} onClick=${() => move(job, line[place - 1].id)} />
      <${IconButton} icon="arrow-down" class="tiny quiet" label=${S.activity.later} disabled=${place === line.length - 1} onClick=${() => move(job, line[place + 2]?.id ?? null)} />
    </div>`}
    ${job.problem?.action && html`<button type="button" class="button tiny card-help" onClick=${() => act(job.problem.action, helpWith(job))}>${job.problem.action.label}</button>`}
    ${busy && html`<${IconButton} icon="x" class="tiny quiet card-cancel" label=${S.activity.cancel} disabled=${job.cancel_requested} onClick=${cancel} />`}
  </li>`;
}

function Thumb({ job }) {
  const preview = usePreview(job);
  const file = job.results[0];
  const picture = preview ?? file?.poster_url ?? (file && job.kind === "image" ? file.url : null) ?? job.images[0];
  if (picture) return html`<img class="thumb" src=${picture} alt="" loading="lazy" />`;
  const icon = { video: "clapperboard", image: "image", caption: "message-square-text" }[job.kind];
  return html`<span class="thumb none"><${Icon} name=${icon} /></span>`;
}

/** Stage, step, percent and time left; the time runs down between two reports. */
export function Progress({ job }) {
  const left = useTimeLeft(job);
  const unknown = job.state === "running" && job.fraction === 0;
  const detail = [
    job.items > 1 && job.state === "running" ? S.activity.item(job.item, job.items) : "",
    job.step !== null && job.steps ? S.activity.step(job.step, job.steps) : "",
    job.detail,
    job.state === "queued" && job.queue_position ? S.place(job.queue_position) : "",
    left !== null ? S.left(left) : "",
  ].filter(Boolean).join(" · ");
  const stage = job.cancel_requested ? S.activity.cancelling : job.state === "queued" ? S.states.queued : capital(job.stage ?? S.states.running);
  return html`<div class="progress">
    <p class="row spread small"><span class="stage-name">${stage}</span>
      ${job.state === "running" && html`<span class="mono">${S.activity.percent(job.fraction)}</span>`}</p>
    <div class=${`meter ${unknown ? "unknown" : ""}`} role="progressbar" aria-label=${S.activity.progress(job)}
        aria-valuemin="0" aria-valuemax="100" aria-valuenow=${unknown ? undefined : Math.round(job.fraction * 100)}>
      <span style=${unknown ? {} : { width: `${job.fraction * 100}%` }}></span>
    </div>
    ${(detail || job.hindrance) && html`<p class="small muted">${job.hindrance ?? detail}</p>`}
    ${job.crashes > 0 && html`<p class="small muted">${S.activity.retried}</p>`}
  </div>`;
}

function useTimeLeft(job) {
  const [, tick] = useState(0);
  const runs = job.state === "running" && job.eta_s !== null;
  useEffect(() => {
    if (!runs) return undefined;
    const timer = setInterval(() => tick((count) => count + 1), 1000);
    return () => clearInterval(timer);
  }, [runs]);
  if (job.eta_s === null) return null;
  if (!runs || job.at === null) return job.eta_s;
  return Math.max(0, Math.round(job.eta_s - Math.max(0, Date.now() / 1000 - job.at)));
}
