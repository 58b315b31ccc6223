// Which frame of a video is the picture in a well: of a result, or of a file that was dropped.

import { Problem, api } from "../core/api.js";
import { html, useState } from "../core/dom.js";
import { S } from "../strings.js";
import { takePicture, usePicture, videoOf } from "./state.js";

export function FrameOf({ well, picture, fail }) {
  const [number, setNumber] = useState(null);
  const video = videoOf(picture.id);
  if (!picture.frame || !(video || picture.id.startsWith("wan://videos/"))) return null;
  const named = ["first", "last"].includes(picture.frame);
  const take = async (frame) => {
    fail(null);
    try {
      if (video) {
        usePicture(await takePicture(video, picture.name, frame), { well });
      } else {
        const { url } = await api.frame(picture.id, frame);
        usePicture({ ...picture, frame, url }, { well });
      }
      setNumber(null);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      fail(problem);
    }
  };
  const choose = (value) => (value === "number" ? setNumber("0") : take(value));
  const asks = number !== null || !named;
  return html`<div class="row small frame-of">
    <span class="row"><span aria-hidden="true">${S.well.frame}</span>
      <select class="select" aria-label=${S.well.frame} value=${asks ? "number" : picture.frame} onChange=${(event) => choose(event.target.value)}>
        ${Object.entries(S.well.frames).map(([value, words]) => html`<option key=${value} value=${value} selected=${value === (asks ? "number" : picture.frame)}>${words}</option>`)}
      </select></span>
    ${asks && html`<input class="input" type="number" min="0" step="1" aria-label=${S.well.frameNumber} value=${number ?? picture.frame}
      onChange=${(event) => event.target.value !== "" && take(event.target.value)} />`}
  </div>`;
}
