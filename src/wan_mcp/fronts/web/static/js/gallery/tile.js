// One result in the gallery. A video plays while the pointer or the focus is on it.

import { Icon, html, useState } from "../core/dom.js";
import { jobAddress } from "../core/routes.js";
import { calm } from "../create/player.js";
import { S } from "../strings.js";

export function Tile({ job, height, selecting, selected, toggle }) {
  const [over, setOver] = useState(false);
  const file = job.results[0];
  const plays = over && job.kind === "video" && file && !calm();
  const still = file?.poster_url ?? (job.kind === "image" ? file?.url : null) ?? job.images[0];
  const picture = html`<span class="tile-picture" style=${{ height: `${height}px` }}>
    ${plays ? html`<video src=${file.url} poster=${still} autoplay muted loop playsinline></video>`
      : still ? html`<img src=${still} alt="" loading="lazy" decoding="async" />` : html`<${Icon} name=${job.state === "failed" ? "circle-alert" : "clapperboard"} size="large" />`}
    ${job.kind === "video" && !plays && html`<span class="badge"><${Icon} name="play" /></span>`}
    ${job.kept && html`<span class="badge right"><${Icon} name="bookmark-check" /></span>`}
    ${job.kind === "caption" && job.caption && html`<span class="tile-caption small">${job.caption}</span>`}
  </span>
  <span class="tile-text small"><span class="clip">${job.prompt || job.caption || job.what}</span>
    <span class="muted clip">${job.state === "succeeded" ? S.when(job.created_at) : S.states[job.state]}${job.results.length > 1 ? ` · ×${job.results.length}` : ""}</span></span>`;
  const hover = { onPointerEnter: () => setOver(true), onPointerLeave: () => setOver(false), onFocus: () => setOver(true), onBlur: () => setOver(false) };
  return html`<li class=${`tile ${selected ? "selected" : ""}`} data-job=${job.id}>
    ${selecting
      ? html`<button type="button" role="checkbox" aria-checked=${String(Boolean(selected))} aria-label=${S.gallery.open(job)} onClick=${() => toggle(job.id)} ...${hover}>
          ${picture}<span class="badge right check">${selected && html`<${Icon} name="check" />`}</span></button>`
      : html`<a href=${jobAddress(job.id)} aria-label=${S.gallery.open(job)} ...${hover}>${picture}</a>`}
  </li>`;
}
