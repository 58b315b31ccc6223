// Models: what fits, under which licence, how large; get, stop, remove.

import { api } from "../core/api.js";
import { catalogue, refreshCatalogue } from "../core/catalogue.js";
import { Icon, html, useEffect, useState } from "../core/dom.js";
import { capital } from "../core/format.js";
import { go } from "../core/routes.js";
import { Store, useStore } from "../core/store.js";
import { toast } from "../core/toasts.js";
import { draft } from "../composer/state.js";
import { trying } from "../create/reuse.js";
import { S } from "../strings.js";

const GROUPS = ["here", "fits", "too_large"];
const UNDER_WAY = ["coming", "stopping"];

const downloads = new Store({});
const disk = new Store(null);

const look = () => trying(async () => {
  const answer = await api.disk();
  disk.set(() => answer);
  downloads.set(() => Object.fromEntries(answer.downloads.map((each) => [each.model, each])));
});

/** Hear of a download's progress. */
export function onDownload(card) {
  downloads.set({ [card.model]: card });
  if (!UNDER_WAY.includes(card.state)) {
    look();
    refreshCatalogue().catch(() => {});
  }
}

export function Models() {
  const known = useStore(catalogue);
  const room = useStore(disk);
  const coming = useStore(downloads);
  useEffect(() => {
    look();
  }, []);
  if (!known) return null;
  const used = room ? Object.values(room.used_bytes).reduce((sum, each) => sum + each, 0) : 0;
  return html`<section class="page models" aria-label=${S.models.title}>
    <header class="page-head"><div><h1>${S.models.title}</h1><p>${S.models.about}</p></div>
      <div class="row wrap">
        ${known.machine && html`<span class="chip"><${Icon} name="cpu" />${S.models.machine(known.machine)}</span>`}
        ${room && html`<span class="chip"><${Icon} name="hard-drive" />${S.models.disk(used, room.disk.free_bytes)}</span>`}
      </div></header>
    ${GROUPS.map((group) => [group, known.models.filter((model) => model.group === group)]).filter(([, models]) => models.length).map(([group, models]) => html`
      <h2 class="group" key=${group}>${S.models.groups[group]} <span class="muted">${models.length}</span></h2>
      <ul class="model-cards">${models.map((model) => html`<${ModelCard} key=${model.name} model=${model} download=${coming[model.name]} />`)}</ul>`)}
    ${Object.entries(known.broken).map(([name, why]) => html`<p class="notice bad" key=${name}><${Icon} name="circle-alert" /><span>${S.models.broken}: ${name}. ${why}</span></p>`)}
  </section>`;
}

function ModelCard({ model, download }) {
  const [sure, setSure] = useState(false);
  const comes = download && UNDER_WAY.includes(download.state);
  const use = () => {
    draft.set({ kind: model.kinds.includes(draft.value.kind) ? draft.value.kind : model.kinds[0], model: model.name });
    go("#/");
  };
  const get = () => trying(async () => onDownload(await api.getModel(model.name)));
  const stop = () => trying(async () => onDownload(await api.stopModel(model.name)));
  const remove = () => trying(async () => {
    const { freed_bytes: freed } = await api.removeModel(model.name);
    setSure(false);
    toast(S.models.removed(freed));
    await Promise.all([look(), refreshCatalogue()]);
  });
  return html`<li class="panel model" data-model=${model.name}>
    <div class="row spread"><h3 class="clip">${model.title}</h3><span class="mono small">${model.embedded ? "" : S.models.size(model.disk_bytes)}</span></div>
    <p class="small muted clamp-3">${model.summary}</p>
    <div class="row wrap">
      ${model.tasks.map((task) => html`<span class="chip" key=${task}>${S.models.tasks[task] ?? task}</span>`)}
      ${model.default_for.length > 0 && html`<span class="chip good">${S.models.default(model.default_for)}</span>`}
    </div>
    ${model.misfit && html`<p class="small muted">${capital(model.misfit)}</p>`}
    <p class="small muted">${model.licence.url ? html`<a href=${model.licence.url} target="_blank" rel="noreferrer">${S.models.licence(model.licence)}</a>` : S.models.licence(model.licence)}
      ${model.licence.gated ? ` · ${S.models.gated}` : ""}${model.embedded ? ` · ${S.models.embedded}` : ""}</p>
    ${comes && html`<div class="progress"><p class="row spread small"><span>${S.models.progress(download)}</span><span class="mono">${S.models.rate(download)}</span></p>
      <div class=${`meter ${download.total_bytes ? "" : "unknown"}`} role="progressbar" aria-label=${S.models.getLabel(model)} aria-valuemin="0" aria-valuemax="100"
        aria-valuenow=${download.total_bytes ? Math.round((download.done_bytes / download.total_bytes) * 100) : undefined}>
        <span style=${download.total_bytes ? { width: `${(download.done_bytes / download.total_bytes) * 100}%` } : {}}></span></div></div>`}
    ${!comes && download?.error && html`<p class="notice bad small"><${Icon} name="circle-alert" /><span>${download.error}</span></p>`}
    ${sure && html`<p class="notice warn small"><${Icon} name="triangle-alert" /><span>${S.models.sure(model)}</span></p>`}
    <div class="row model-foot">
      ${model.group === "here" && html`<button type="button" class="button" onClick=${use} aria-label=${S.models.useLabel(model)}>${S.models.use}</button>`}
      ${model.group !== "here" && model.download_bytes > 0 && !comes && html`<button type="button" class=${`button ${model.group === "fits" ? "primary" : ""}`} onClick=${get}
        aria-label=${S.models.getLabel(model)}><${Icon} name="download" />${S.models.get(model.download_bytes)}</button>`}
      ${comes && html`<button type="button" class="button" disabled=${download.state === "stopping"} onClick=${stop} aria-label=${S.models.stopLabel(model)}><${Icon} name="circle-stop" />${S.models.stop}</button>`}
      ${model.group === "here" && !model.embedded && html`<button type="button" class="button quiet danger" onClick=${() => (sure ? remove() : setSure(true))}
        aria-label=${S.models.removeLabel(model)}><${Icon} name="trash-2" />${S.models.remove}</button>`}
    </div>
  </li>`;
}
