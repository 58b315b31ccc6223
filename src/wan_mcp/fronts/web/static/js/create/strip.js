// A strip of a video's frames; one of them can become a picture in the composer.

import { Problem } from "../core/api.js";
import { catalogue, modelsFor, offers } from "../core/catalogue.js";
import { Icon, html, useEffect, useState } from "../core/dom.js";
import { toast } from "../core/toasts.js";
import { chooseKind, draft, takeFrame, usePicture } from "../composer/state.js";
import { S } from "../strings.js";
import { thumbnails } from "./frames.js";

const SHOWN = 9;

export function Strip({ job, file }) {
  const [frames, setFrames] = useState([]);
  const [chosen, setChosen] = useState(null);
  useEffect(() => {
    let stopped = false;
    const made = [];
    (async () => {
      for await (const frame of thumbnails(file, SHOWN)) {
        made.push(frame);
        if (stopped) break;
        setFrames([...made]);
      }
      if (stopped) for (const { url } of made) URL.revokeObjectURL(url);
    })().catch(() => setFrames([])); // this browser cannot decode it: no strip
    return () => {
      stopped = true;
      for (const { url } of made) URL.revokeObjectURL(url);
    };
  }, [file.uri]);

  const use = async (well) => {
    try {
      const picture = await takeFrame(file, chosen, `${job.prompt ?? job.what} (${S.stage.stripFrame(chosen + 1)})`);
      usePicture(picture, { well, kind: "video" });
      toast(S.stage.frameTaken);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      toast(problem.message);
    }
  };
  const extend = () => {
    if (draft.value.kind !== "video") chooseKind("video");
    draft.set({ extend: file.uri, image: null, last_image: null });
    toast(S.stage.extended);
    document.getElementById("prompt")?.focus();
  };
  const known = catalogue.value;
  const able = (name) => known && modelsFor(known, "video").some((model) => offers(model, "video", name));
  return html`<div class="strip" aria-label=${S.stage.strip} role="group">
    <div class="strip-frames">
      ${frames.map(({ index, url }) => html`<button type="button" key=${index} class="strip-frame" aria-pressed=${String(chosen === index)}
          aria-label=${S.stage.stripFrame(index + 1)} onClick=${() => setChosen(chosen === index ? null : index)}>
        <img src=${url} alt="" /></button>`)}
    </div>
    ${frames.length > 0 && chosen === null && html`<p class="small muted">${S.stage.stripHint}</p>`}
    ${chosen !== null && html`<div class="row wrap">
      ${able("extend") && chosen === file.frames - 1 && html`<button type="button" class="button tiny" onClick=${extend}><${Icon} name="list-video" />${S.stage.extend}</button>`}
      ${able("image") && html`<button type="button" class="button tiny" onClick=${() => use("image")}><${Icon} name="image-plus" />${S.stage.useFirst}</button>`}
      ${able("last_image") && html`<button type="button" class="button tiny" onClick=${() => use("last_image")}><${Icon} name="image-plus" />${S.stage.useLast}</button>`}
    </div>`}
  </div>`;
}
