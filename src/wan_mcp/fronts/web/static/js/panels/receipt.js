// A drawer with everything that makes a result again.

import { api } from "../core/api.js";
import { copyText } from "../core/clipboard.js";
import { Icon, IconButton, html, useEffect, useRef, useState } from "../core/dom.js";
import { again, trying } from "../create/reuse.js";
import { S } from "../strings.js";

export function Receipt({ id, close }) {
  const dialog = useRef(null);
  const [job, setJob] = useState(null);
  useEffect(() => {
    dialog.current.showModal();
    trying(async () => setJob(await api.job(id)));
  }, [id]);
  const reproduce = () => {
    dialog.current.close();
    again(id, { sameSeed: true });
  };
  return html`<dialog ref=${dialog} class="dialog drawer panel" aria-label=${S.receipt.title} onClose=${close}
      onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
    <div class="row spread"><h2>${S.receipt.title}</h2><${IconButton} icon="x" class="quiet" label=${S.close} onClick=${() => dialog.current.close()} /></div>
    <p class="small muted">${S.receipt.about}</p>
    ${job && html`<dl class="receipt">${rows(job.receipt).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="mono">${value}</dd></div>`)}</dl>
      ${job.notes.map((note) => html`<p class="notice small" key=${note}><${Icon} name="info" /><span>${note}</span></p>`)}
      <div class="row wrap">
        <button type="button" class="button primary" onClick=${reproduce}><${Icon} name="refresh-cw" />${S.stage.reproduce}</button>
        <button type="button" class="button" onClick=${() => copyText(JSON.stringify(job.receipt, null, 2))}><${Icon} name="copy" />${S.copy}</button>
      </div>`}
  </dialog>`;
}

/** Flatten the receipt: { shape: { width: 8 } } → [["shape.width", "8"]]. */
export function rows(value, prefix = "") {
  return Object.entries(value).flatMap(([name, each]) => {
    const path = prefix ? `${prefix}.${name}` : name;
    if (each && typeof each === "object" && !Array.isArray(each)) return rows(each, path);
    if (Array.isArray(each) && each.some((item) => typeof item === "object")) return each.flatMap((item, at) => rows(item, `${path}.${at + 1}`));
    const text = Array.isArray(each) ? each.join("\n") : String(each);
    return text === "" ? [] : [[path, text]];
  });
}
