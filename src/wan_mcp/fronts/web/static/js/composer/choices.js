// Model, quality, size and length.

import { modelsFor, offers } from "../core/catalogue.js";
import { html } from "../core/dom.js";
import { capital } from "../core/format.js";
import { drawn, frameCounts, nearestFrames, ratio, seconds } from "../core/sizes.js";
import { S } from "../strings.js";
import { chooseModel, draft as store } from "./state.js";

const GROUPS = ["here", "fits", "too_large"];

export function ModelChoice({ known, draft, model }) {
  const able = modelsFor(known, draft.kind);
  const grouped = GROUPS.map((group) => [group, able.filter((each) => each.group === group)]);
  return html`<div class="field">
    <label class="label" for="model">${S.composer.model}</label>
    <select id="model" class="select" value=${model.name} onChange=${(event) => chooseModel(event.target.value)}>
      ${grouped.filter(([, models]) => models.length).map(([group, models]) => html`<optgroup key=${group} label=${S.composer.modelGroups[group]}>
        ${models.map((each) => html`<option key=${each.name} value=${each.name} selected=${each.name === model.name}>${S.composer.modelOption(each)}</option>`)}
      </optgroup>`)}
    </select>
    <p class="small muted clamp" title=${model.summary}>${model.misfit ? capital(model.misfit) : model.summary}</p>
  </div>`;
}

export function PresetChoice({ draft, model }) {
  if (!offers(model, draft.kind, "preset") || !model.presets.length) return null;
  const chosen = draft.preset ?? (model.presets.some((each) => each.name === "standard") ? "standard" : null);
  return html`<fieldset class="field">
    <legend class="label">${S.composer.quality}</legend>
    <div class="segments" role="radiogroup" aria-label=${S.composer.quality}>
      ${model.presets.map((preset) => html`<label key=${preset.name} class="two-lines">
        <input type="radio" name="preset" checked=${preset.name === chosen} onChange=${() => store.set({ preset: preset.name })} />
        <span>${capital(preset.name)}</span><span class="small muted">${S.composer.presetSeconds(preset.seconds)}</span>
      </label>`)}
    </div>
  </fieldset>`;
}

export function SizeChoice({ draft, model, estimate }) {
  if (!offers(model, draft.kind, "resolution") || !model.sizes) return null;
  const { named } = model.sizes;
  const auto = draft.image ? S.composer.sizeAutoMore : S.composer.sizeDefault(model.sizes.default);
  const now = estimate?.width ? `${estimate.width} × ${estimate.height}` : "";
  return html`<fieldset class="field">
    <legend class="label wide"><span>${S.composer.size}</span><span class="value">${now}</span></legend>
    <div class="sizes" role="radiogroup" aria-label=${S.composer.size}>
      <${Size} name=${S.composer.sizeAuto} more=${auto} checked=${draft.resolution === null} choose=${() => store.set({ resolution: null })} />
      ${named.map((size) => html`<${Size} key=${size.name} name=${size.name} size=${size} more=${`${size.width} × ${size.height}`}
        checked=${draft.resolution === size.name} choose=${() => store.set({ resolution: size.name })} />`)}
    </div>
  </fieldset>`;
}

function Size({ name, size, more, checked, choose }) {
  const box = size && drawn(size);
  return html`<label class="size" title=${more}>
    <input type="radio" name="size" checked=${checked} onChange=${choose} aria-label=${`${name}, ${more}`} />
    <svg viewBox="0 0 22 22" aria-hidden="true">
      ${box ? html`<rect ...${box} rx="1.5" />` : html`<path class="auto" d="M2 8V4a2 2 0 0 1 2-2h4M14 2h4a2 2 0 0 1 2 2v4M20 14v4a2 2 0 0 1-2 2h-4M8 20H4a2 2 0 0 1-2-2v-4" />`}
    </svg>
    <span class="small">${name}</span>
    ${size && html`<span class="ratio muted">${ratio(size)}</span>`}
  </label>`;
}

export function LengthChoice({ draft, model }) {
  const rule = model.frames;
  if (!rule || !offers(model, draft.kind, "num_frames")) return null;
  const counts = frameCounts(rule);
  if (counts.length < 2) return null;
  const frames = nearestFrames(rule, draft.num_frames ?? rule.default);
  const words = S.composer.lengthValue(seconds(rule, frames), frames);
  return html`<div class="field">
    <label class="label" for="length"><span>${S.composer.length}</span><span class="value">${words}</span></label>
    <input id="length" class="slider" type="range" min="0" max=${counts.length - 1} step="1" value=${counts.indexOf(frames)}
      aria-valuetext=${words} onInput=${(event) => store.set({ num_frames: counts[Number(event.target.value)] })} />
  </div>`;
}
