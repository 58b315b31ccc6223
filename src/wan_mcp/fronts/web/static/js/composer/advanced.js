// What most jobs leave as the model has it.

import { offers } from "../core/catalogue.js";
import { Icon, IconButton, html } from "../core/dom.js";
import { capital, plain } from "../core/format.js";
import { S } from "../strings.js";
import { OF_A_MODEL, picks } from "./draft.js";
import { blank, draft as store } from "./state.js";

export function Advanced({ known, draft, model }) {
  const allowed = (name) => offers(model, draft.kind, name);
  const two = allowed("guidance_scale_2");
  const changed = OF_A_MODEL.some((name) => draft[name] && draft[name] !== false && draft[name].length !== 0)
    || draft.style !== null || draft.lora.length > 0 || draft.count > 1 || draft.check;
  return html`<details class="advanced">
    <summary><${Icon} name="sliders-horizontal" />${S.composer.advanced}<${Icon} name="chevron-down" /></summary>
    <div class="stack">
      ${allowed("style") && known.styles.length > 0 && html`<${StyleChoice} styles=${known.styles} chosen=${draft.style} />`}
      ${allowed("negative_prompt") && html`<div class="field">
        <label class="label" for="negative">${S.composer.negative}</label>
        <textarea id="negative" class="textarea" rows="2" value=${draft.negative_prompt} placeholder=${model.negative_prompt || S.composer.negativeHint}
          onInput=${(event) => store.set({ negative_prompt: event.target.value })}></textarea>
      </div>`}
      ${allowed("count") && known.max_count > 1 && html`<${Slider} name="count" label=${S.composer.count} value=${draft.count}
        range=${{ smallest: 1, largest: known.max_count, default: 1 }} step=${1} />`}
      ${allowed("check") && html`<${Tick} name="check" label=${S.composer.check} hint=${S.composer.checkHint} checked=${draft.check || picks(draft, model)}
        disabled=${picks(draft, model)} choose=${(check) => store.set({ check })} />`}
      ${allowed("pick") && draft.count > 1 && html`<${Tick} name="pick" label=${S.composer.pick} hint=${S.composer.pickHint} checked=${draft.pick !== null}
        choose=${(on) => store.set({ pick: on ? "best" : null })} />`}
      ${allowed("steps") && model.steps && html`<${Slider} name="steps" label=${S.composer.steps} value=${draft.steps} range=${model.steps} step=${1} />`}
      ${allowed("guidance_scale") && model.guidance_scale && html`<${Slider} name="guidance_scale"
        label=${two ? S.composer.guidanceOne : S.composer.guidance} value=${draft.guidance_scale} range=${model.guidance_scale} step=${0.1} />`}
      ${two && model.guidance_scale_2 && html`<${Slider} name="guidance_scale_2" label=${S.composer.guidanceTwo} value=${draft.guidance_scale_2}
        range=${model.guidance_scale_2} step=${0.1} />`}
      ${allowed("strength") && draft.image && model.strength && html`<${Slider} name="strength" label=${S.composer.strength} value=${draft.strength}
        range=${model.strength} step=${0.05} />`}
      ${allowed("turbo") && html`<${Tick} name="turbo" label=${S.composer.turbo} hint=${S.composer.turboHint} checked=${draft.turbo}
        choose=${(turbo) => store.set({ turbo })} />`}
      ${allowed("lora") && html`<${Loras} known=${known} chosen=${draft.lora} most=${model.loras} />`}
      ${changed && html`<button type="button" class="button quiet tiny" onClick=${() => store.set(blank([...OF_A_MODEL, "style", "lora", "count", "check", "pick"]))}>
        <${Icon} name="undo-2" />${S.composer.reset}
      </button>`}
    </div>
  </details>`;
}

function Tick({ name, label, hint, checked, disabled = false, choose }) {
  return html`<label class="tick">
    <input id=${name} type="checkbox" checked=${checked} disabled=${disabled} onChange=${(event) => choose(event.target.checked)} />
    <span>${label} <span class="small muted">${hint}</span></span>
  </label>`;
}

function Slider({ name, label, value, range, step }) {
  const now = value ?? range.default;
  return html`<div class="field">
    <label class="label" for=${name}><span>${label}</span><span class="value">${plain(now)}</span></label>
    <input id=${name} class="slider" type="range" min=${range.smallest} max=${range.largest} step=${step} value=${now}
      onInput=${(event) => store.set({ [name]: Number(event.target.value) })} />
  </div>`;
}

function StyleChoice({ styles, chosen }) {
  const words = styles.find((style) => style.name === chosen)?.words;
  return html`<div class="field">
    <label class="label" for="style">${S.composer.style}</label>
    <select id="style" class="select" value=${chosen ?? ""} onChange=${(event) => store.set({ style: event.target.value || null })}>
      <option value="">${S.composer.noStyle}</option>
      ${styles.map((style) => html`<option key=${style.name} value=${style.name}>${capital(style.name)}</option>`)}
    </select>
    ${words && html`<p class="small muted">${words}</p>`}
  </div>`;
}

function Loras({ known, chosen, most }) {
  const free = known.loras.filter((lora) => !chosen.some((each) => each.name === lora.name));
  const scaled = (name, scale) => store.set({ lora: chosen.map((each) => (each.name === name ? { ...each, scale } : each)) });
  return html`<div class="field">
    <span class="label">${S.composer.lora}</span>
    ${chosen.map(({ name, scale }) => html`<div class="row" key=${name}>
      <span class="grow clip">${name}</span>
      <input class="slider" type="range" min="-1" max="2" step="0.05" value=${scale} aria-label=${S.composer.loraScale(name)}
        onInput=${(event) => scaled(name, Number(event.target.value))} />
      <span class="mono small">${plain(scale)}</span>
      <${IconButton} icon="x" class="tiny quiet" label=${S.composer.removeLora(name)} onClick=${() => store.set({ lora: chosen.filter((each) => each.name !== name) })} />
    </div>`)}
    ${known.loras.length === 0 && html`<p class="small muted">${S.composer.noLoras("loras")}</p>`}
    ${free.length > 0 && chosen.length < most && html`<select class="select" aria-label=${S.composer.addLora} value=""
        onChange=${(event) => store.set({ lora: [...chosen, { name: event.target.value, scale: 1 }] })}>
      <option value="" disabled>${S.composer.addLora}</option>
      ${free.map((lora) => html`<option key=${lora.name} value=${lora.name}>${lora.name}</option>`)}
    </select>`}
  </div>`;
}
