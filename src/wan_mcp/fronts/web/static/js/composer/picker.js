// A dialog with the newest results, one of which becomes a picture in a well.

import { api } from "../core/api.js";
import { Icon, IconButton, html, useEffect, useRef, useState } from "../core/dom.js";
import { S } from "../strings.js";
import { pictureOf } from "./state.js";

/** @param {function({job, file})} choose is given what a well holds; with `whole`, the job and its file */
export function Picker({ title = S.well.pickTitle, empty = S.well.pickEmpty, choose, close, whole = false, without = null }) {
  const dialog = useRef(null);
  const [found, setFound] = useState(null);
  useEffect(() => {
    dialog.current.showModal();
    const query = new URLSearchParams({ state: "succeeded", limit: "60" });
    api.jobs(query).then((page) => {
      const files = page.jobs.filter((job) => job.id !== without).flatMap((job) => job.results.map((file) => ({ job, file })));
      setFound(files.filter(({ file }) => file.url));
    });
  }, []);
  return html`<dialog ref=${dialog} class="dialog panel" aria-label=${title} onClose=${close}
      onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
    <div class="row spread"><h2>${title}</h2><${IconButton} icon="x" class="quiet" label=${S.close} onClick=${() => dialog.current.close()} /></div>
    ${found?.length === 0 && html`<p class="muted">${empty}</p>`}
    <div class="picker-grid">
      ${found?.map(({ job, file }) => html`<button type="button" key=${file.uri} class="pick" title=${job.prompt}
          onClick=${() => choose(whole ? { job, file } : pictureOf(job, file))}>
        <img loading="lazy" src=${file.poster_url ?? file.url} alt=${job.prompt || job.what} />
        ${job.kind === "video" && html`<${Icon} name="play" />`}
      </button>`)}
    </div>
  </dialog>`;
}
