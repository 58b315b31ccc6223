// What can be done with a result.

import { api } from "../core/api.js";
import { download } from "../core/save.js";
import { catalogue, modelsFor, offers } from "../core/catalogue.js";
import { copyText } from "../core/clipboard.js";
import { deleteJobs } from "../core/deletion.js";
import { Icon, html, useState } from "../core/dom.js";
import { learn } from "../core/jobs.js";
import { go, jobAddress, route } from "../core/routes.js";
import { Picker } from "../composer/picker.js";
import { chooseKind, draft, pictureOf, usePicture } from "../composer/state.js";
import { Receipt } from "../panels/receipt.js";
import { S } from "../strings.js";
import { again, remixJob, trying } from "./reuse.js";

export function Actions({ job, file, compare, comparing }) {
  const [picking, setPicking] = useState(false);
  const [receipt, setReceipt] = useState(false);
  const known = catalogue.value;
  const takes = (kind) => known && modelsFor(known, kind).some((model) => offers(model, kind, "image"));
  const use = (kind) => {
    usePicture(pictureOf(job, file), { kind });
    document.getElementById("prompt")?.focus();
  };
  const keep = () => trying(async () => learn([await api.keep(job.id, !job.kept)]));
  const remove = () => {
    deleteJobs([job.id]);
    if (route.value.job === job.id) go("#/");
  };
  const writePrompt = () => {
    if (draft.value.kind === "caption") chooseKind("video");
    draft.set({ prompt: job.caption });
  };
  return html`<div class="actions">
    <div class="row wrap">
      <${Act} icon="repeat-2" label=${S.stage.remix} run=${() => remixJob(job.id)} />
      <${Act} icon="dices" label=${S.stage.again} run=${() => again(job.id)} />
      ${job.kind === "caption" && job.caption && html`<${Act} icon="copy" label=${S.stage.copyText} run=${() => copyText(job.caption)} />
        <${Act} icon="clapperboard" label=${S.stage.usePrompt} run=${writePrompt} />`}
      ${file && job.kind === "image" && takes("video") && html`<${Act} icon="clapperboard" label=${S.stage.usePicture} run=${() => use("video")} />`}
      ${file && job.kind === "image" && takes("image") && html`<${Act} icon="layers" label=${S.stage.vary} run=${() => use("image")} />`}
      ${file && takes("caption") && html`<${Act} icon="scan-text" label=${S.stage.caption} run=${() => use("caption")} />`}
      ${file && html`<${Act} icon="columns-2" label=${S.stage.compare} pressed=${comparing} run=${() => (comparing ? compare(null) : setPicking(true))} />`}
    </div>
    <div class="row wrap">
      ${file?.formats.length > 0 && html`<${Downloads} formats=${file.formats} />`}
      <${Act} quiet icon="link" label=${S.stage.copyLink} run=${() => copyText(new URL(jobAddress(job.id), location.href).href)} />
      ${file?.path && html`<${Act} quiet icon="copy" label=${S.stage.copyPath} run=${() => copyText(file.saved_as ?? file.path)} />`}
      <${Act} quiet icon="info" label=${S.stage.receipt} run=${() => setReceipt(true)} />
      <${Act} quiet icon=${job.kept ? "bookmark-check" : "bookmark"} label=${job.kept ? S.stage.kept : S.stage.keep} pressed=${job.kept} run=${keep} />
      <${Act} quiet danger icon="trash-2" label=${S.stage.remove} run=${remove} />
    </div>
    ${picking && html`<${Picker} whole title=${S.stage.compareWith} empty=${S.stage.compareNone} without=${job.id}
      close=${() => setPicking(false)} choose=${(other) => { compare(other); setPicking(false); }} />`}
    ${receipt && html`<${Receipt} id=${job.id} close=${() => setReceipt(false)} />`}
  </div>`;
}

/** The file itself, and the formats that the server converts it to when they are asked for. */
function Downloads({ formats: [own, ...others] }) {
  const [busy, setBusy] = useState(false);
  const convert = (name) => trying(async () => {
    const format = others.find((each) => each.name === name);
    setBusy(true);
    try {
      await download(format);
    } finally {
      setBusy(false);
    }
  });
  return html`<a class="button quiet" href=${own.url} download=${own.file}><${Icon} name="download" />${S.stage.download}</a>
    <select class="select format" aria-label=${S.stage.downloadAs} disabled=${busy} value="" onChange=${(event) => { convert(event.target.value); event.target.value = ""; }}>
      <option value="">${busy ? S.stage.converting : S.stage.downloadAs}</option>
      ${others.map(({ name }) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select>`;
}

function Act({ icon, label, run, pressed, quiet = false, danger = false }) {
  return html`<button type="button" class=${`button ${quiet ? "quiet" : ""} ${danger ? "danger" : ""}`} onClick=${run}
    aria-pressed=${pressed === undefined ? undefined : String(pressed)}><${Icon} name=${icon} />${label}</button>`;
}
