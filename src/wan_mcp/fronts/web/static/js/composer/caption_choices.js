// What a captioner can be asked for.

import { offers } from "../core/catalogue.js";
import { html } from "../core/dom.js";
import { capital } from "../core/format.js";
import { S } from "../strings.js";
import { draft as store } from "./state.js";

export function CaptionChoices({ draft, model }) {
  const { caption } = model;
  if (!caption || draft.instruction.trim()) return null; // an own instruction stands for all of these
  const allowed = (name) => offers(model, "caption", name);
  return html`
    ${allowed("caption_type") && html`<${Pick} id="caption_type" label=${S.composer.captionType} values=${caption.types} chosen=${draft.caption_type} />`}
    ${allowed("length") && caption.lengths.length > 0 && html`<${Pick} id="length" label=${S.composer.captionLength} values=${caption.lengths} chosen=${draft.length} />`}
    ${allowed("length") && caption.words && html`<${Words} bounds=${caption.words} chosen=${draft.length} />`}
    ${allowed("extra_options") && html`<${Options} options=${caption.options} chosen=${draft.extra_options} />`}
  `;
}

function Pick({ id, label, values, chosen }) {
  return html`<div class="field">
    <label class="label" for=${id}>${label}</label>
    <select id=${id} class="select" value=${chosen ?? values[0]} onChange=${(event) => store.set({ [id]: event.target.value })}>
      ${values.map((value) => html`<option key=${value} value=${value} selected=${value === (chosen ?? values[0])}>${capital(value)}</option>`)}
    </select>
  </div>`;
}

/** A number of words, in place of a named length. */
function Words({ bounds, chosen }) {
  const number = /^\d+$/.test(chosen ?? "") ? chosen : "";
  return html`<div class="field">
    <label class="label" for="words">${S.composer.captionWords(bounds)}</label>
    <input id="words" class="input" type="number" min=${bounds[0]} max=${bounds[1]} value=${number}
      onInput=${(event) => store.set({ length: event.target.value || null })} />
  </div>`;
}

function Options({ options, chosen }) {
  const name = (option) => option.replace(/=.*$/, "");
  const others = (option) => chosen.filter((each) => name(each) !== name(option));
  return html`<fieldset class="field">
    <legend class="label">${S.composer.captionOptions}</legend>
    <div class="stack tight">
      ${options.map((option) => {
        const present = chosen.find((each) => name(each) === name(option));
        if (!option.includes("=")) {
          return html`<label class="tick" key=${option}>
            <input type="checkbox" checked=${present !== undefined}
              onChange=${(event) => store.set({ extra_options: event.target.checked ? [...chosen, option] : others(option) })} />
            <span>${capital(option.replaceAll("_", " "))}</span>
          </label>`;
        }
        return html`<label class="row" key=${option}>
          <span class="small muted">${capital(name(option))}</span>
          <input class="input grow" aria-label=${S.composer.captionName(name(option))} value=${present?.split("=")[1] ?? ""}
            onInput=${(event) => store.set({ extra_options: event.target.value ? [...others(option), `${name(option)}=${event.target.value}`] : others(option) })} />
        </label>`;
      })}
    </div>
  </fieldset>`;
}
