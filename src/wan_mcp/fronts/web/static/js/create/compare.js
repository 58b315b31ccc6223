// Two results side by side, in step.

import { Icon, html, useEffect, useRef } from "../core/dom.js";
import { S } from "../strings.js";
import { calm } from "./player.js";

export function Compare({ left, right, close }) {
  const videos = useRef([]);
  useEffect(() => {
    const [one, two] = videos.current;
    if (!one || !two) return undefined;
    const together = () => {
      if (Math.abs(one.currentTime - two.currentTime) > 0.25) two.currentTime = Math.min(one.currentTime, two.duration || 0);
    };
    one.addEventListener("timeupdate", together);
    return () => one.removeEventListener("timeupdate", together);
  }, [left.file.uri, right.file.uri]);
  const side = ({ job, file }, at) => html`<figure key=${file.uri}>
    ${job.kind === "video"
      ? html`<video ref=${(element) => { videos.current[at] = element; }} src=${file.url} poster=${file.poster_url} loop muted playsinline
          autoplay=${!calm()} controls=${calm()} aria-label=${job.prompt || job.what}></video>`
      : html`<img src=${file.url} alt=${job.prompt || job.what} />`}
    <figcaption class="small"><span class="clip">${job.prompt || job.what}</span><span class="mono muted">${S.stage.facts.seed} ${file.seed}</span></figcaption>
  </figure>`;
  return html`<div class="screen comparing">
    <div class="compare">${side(left, 0)}${side(right, 1)}</div>
    <button type="button" class="button tiny" onClick=${close}><${Icon} name="x" />${S.stage.compareOff}</button>
  </div>`;
}
