// A video in several shots, or one that goes on from an earlier video.

import { offers } from "../core/catalogue.js";
import { Icon, IconButton, html } from "../core/dom.js";
import { S } from "../strings.js";
import { addressOf, draft as store } from "./state.js";

export function Shots({ draft, model, most }) {
  if (!offers(model, draft.kind, "shots")) return null;
  const { shots } = draft;
  const change = (at, prompt) => store.set({ shots: shots.map((shot, index) => (index === at ? { prompt } : shot)) });
  const remove = (at) => store.set({ shots: shots.filter((_, index) => index !== at) });
  return html`<div class="stack tight shots">
    ${shots.map(({ prompt }, at) => html`<div class="field" key=${at}>
      <label class="label" for=${`shot-${at}`}>${S.composer.shot(at + 2)}</label>
      <div class="row">
        <textarea id=${`shot-${at}`} class="textarea grow" rows="2" maxlength=${model.prompt_characters} value=${prompt}
          placeholder=${S.composer.shotHint} onInput=${(event) => change(at, event.target.value)}></textarea>
        <${IconButton} icon="x" class="tiny quiet" label=${S.composer.removeShot(at + 2)} onClick=${() => remove(at)} />
      </div>
    </div>`)}
    ${shots.length < most - 1 && html`<button type="button" class="button quiet tiny" id="add-shot" onClick=${() => store.set({ shots: [...shots, { prompt: "" }] })}>
      <${Icon} name="list-video" />${S.composer.addShot}</button>`}
  </div>`;
}

/** The video that this one goes on from, in place of a first picture. */
export function Extended({ draft, model }) {
  if (!draft.extend || !offers(model, draft.kind, "extend")) return null;
  return html`<div class="row notice extended">
    <img src=${addressOf(draft.extend)} alt="" />
    <span class="grow small">${S.composer.extends}</span>
    <${IconButton} icon="x" class="tiny quiet" label=${S.composer.removeExtend} onClick=${() => store.set({ extend: null })} />
  </div>`;
}
