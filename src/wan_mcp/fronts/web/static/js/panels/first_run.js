// What a new studio offers: shapes at once, and the three models that suit this machine.

import { Icon, html } from "../core/dom.js";
import { go } from "../core/routes.js";
import { api } from "../core/api.js";
import { trying } from "../create/reuse.js";
import { chooseKind, draft } from "../composer/state.js";
import { S } from "../strings.js";

/** The largest that fits of each kind, videos first: what uses the machine best. Pure. */
export function suited(models, count = 3) {
  const able = models.filter((model) => model.group === "fits" && !model.licence.gated);
  const best = ["video", "image", "caption"].flatMap((kind) => {
    const ofKind = able.filter((model) => model.kinds[0] === kind || model.kinds.includes(kind));
    return ofKind.sort((a, b) => b.disk_bytes - a.disk_bytes).slice(0, kind === "video" ? 2 : 1);
  });
  return [...new Set(best)].slice(0, count);
}

export function FirstRun({ known }) {
  const models = suited(known.models);
  const play = (prompt) => {
    if (draft.value.kind !== "video") chooseKind("video");
    draft.set({ prompt });
    document.getElementById("prompt")?.focus();
  };
  const get = (model) => trying(async () => {
    await api.getModel(model.name);
    go("#/models");
  });
  return html`<div class="first-run">
    <h1>${S.firstRun.title}</h1>
    <p class="muted">${S.firstRun.about}</p>
    <button type="button" class="offer shapes" onClick=${() => play(S.firstRun.example)}>
      <${Icon} name="shapes" size="huge" /><span><strong>${S.firstRun.shapes}</strong><span class="small muted">${S.firstRun.shapesMore}</span></span>
    </button>
    <ul class="offers">
      ${models.map((model, at) => html`<li class="panel offer" key=${model.name}>
        ${at === 0 && known.machine && html`<span class="chip good">${S.firstRun.best(known.machine.name)}</span>`}
        <strong>${model.title}</strong>
        <p class="small muted clamp-3">${model.summary}</p>
        <button type="button" class="button" onClick=${() => get(model)} aria-label=${S.models.getLabel(model)}><${Icon} name="download" />${S.models.get(model.download_bytes)}</button>
      </li>`)}
    </ul>
    ${models.length === 0 && html`<p class="small muted">${S.firstRun.none}</p>`}
    <h2>${S.firstRun.examples}</h2>
    <ul class="examples">${S.examples.video.map((prompt) => html`<li key=${prompt}><button type="button" class="button" onClick=${() => play(prompt)}>${prompt}</button></li>`)}</ul>
  </div>`;
}
