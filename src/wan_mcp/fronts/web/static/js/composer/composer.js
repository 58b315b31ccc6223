// The composer: from an idea to a job.

import { Problem, api, submissionKey } from "../core/api.js";
import { catalogue, modelOf, modelsFor, offers } from "../core/catalogue.js";
import { Icon, html, useRef, useState } from "../core/dom.js";
import { learn } from "../core/jobs.js";
import { jobAddress, replace } from "../core/routes.js";
import { useStore } from "../core/store.js";
import { ProblemNotice } from "../panels/problem.js";
import { S } from "../strings.js";
import { Advanced } from "./advanced.js";
import { CaptionChoices } from "./caption_choices.js";
import { missing, requestOf } from "./draft.js";
import { EstimateLine, useEstimate } from "./estimate.js";
import { LengthChoice, ModelChoice, PresetChoice, SizeChoice } from "./choices.js";
import { rememberPictures } from "./own_pictures.js";
import { SeedChoice } from "./seed.js";
import { applyAction, chooseKind, draft } from "./state.js";
import { Extended, Shots } from "./shots.js";
import { Wells } from "./wells.js";

const KINDS = [["video", "clapperboard"], ["image", "image"], ["caption", "message-square-text"]];

export function Composer() {
  const known = useStore(catalogue);
  const value = useStore(draft);
  if (!known) return html`<section class="composer" aria-label=${S.composer.title}></section>`;
  const model = modelOf(known, value);
  return html`<${Form} known=${known} draft=${value} model=${model} />`;
}

function Form({ known, draft: value, model }) {
  const [sending, setSending] = useState(false);
  const [problem, setProblem] = useState(null);
  const key = useRef(null);
  const estimate = useEstimate(value, model);
  const words = value.kind === "caption" ? "instruction" : "prompt";

  const submit = async () => {
    if (sending) return;
    const lacks = missing(value, model);
    if (lacks) {
      setProblem(new Problem({ error: lacks === "prompt" ? S.composer.needsPrompt : S.composer.needsPicture, code: "missing" }));
      document.getElementById(lacks === "prompt" ? "prompt" : "well-image")?.focus();
      return;
    }
    setSending(true);
    setProblem(null);
    key.current ??= submissionKey(); // kept until it is answered, so that a second try makes no second job
    try {
      const job = await api.submit(requestOf(value, model), key.current);
      key.current = null;
      rememberPictures(job.id, value);
      learn([job], { aloud: true });
      draft.set({ seed: job.seed ?? value.seed, parent: "" });
      replace(jobAddress(job.id));
      if (matchMedia("(max-width: 760px)").matches) document.getElementById("stage")?.scrollIntoView();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.code !== "unreachable") key.current = null;
      setProblem(error);
    } finally {
      setSending(false);
    }
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    }
  };

  return html`<form class="composer" aria-label=${S.composer.title} onKeyDown=${onKeyDown}
      onSubmit=${(event) => { event.preventDefault(); submit(); }}>
    <div class="composer-body">
      <${KindChoice} known=${known} kind=${value.kind} />
      <${Extended} draft=${value} model=${model} />
      ${offers(model, value.kind, "image") && !(value.extend && offers(model, value.kind, "extend")) && html`<${Wells} draft=${value} model=${model} estimate=${estimate.answer} limit=${known.image_max_bytes} />`}
      ${offers(model, value.kind, "prompt") && html`<div class="field">
        <label class="label" for="prompt">${S.composer.prompt[value.kind]}</label>
        <textarea id="prompt" class="textarea prompt" rows=${value.kind === "caption" ? 2 : 4} value=${value[words]}
          maxlength=${model.prompt_characters} placeholder=${S.composer.placeholder[value.kind]}
          onInput=${(event) => draft.set({ [words]: event.target.value })}></textarea>
      </div>`}
      <${Shots} draft=${value} model=${model} most=${known.max_shots} />
      <${ModelChoice} known=${known} draft=${value} model=${model} />
      ${value.kind === "caption"
        ? html`<${CaptionChoices} draft=${value} model=${model} />`
        : html`<${PresetChoice} draft=${value} model=${model} />
          <${SizeChoice} draft=${value} model=${model} estimate=${estimate.answer} />
          ${value.kind === "video" && html`<${LengthChoice} draft=${value} model=${model} />`}`}
      ${offers(model, value.kind, "seed") && html`<${SeedChoice} draft=${value} most=${known.max_seed} />`}
      ${value.kind !== "caption" && html`<${Advanced} known=${known} draft=${value} model=${model} />`}
    </div>
    <div class="composer-foot">
      ${problem && html`<${ProblemNotice} problem=${problem} act=${(action) => (action.do === "retry" ? submit() : applyAction(action))} />`}
      <${EstimateLine} estimate=${estimate} />
      <button type="submit" class="button primary make" disabled=${sending || modelsFor(known, value.kind).length === 0}>
        <${Icon} name=${KINDS.find(([kind]) => kind === value.kind)[1]} />
        ${sending ? S.composer.making : S.composer.make[value.kind]}
        <kbd class="shortcut">${S.composer.shortcut}</kbd>
      </button>
    </div>
  </form>`;
}

function KindChoice({ known, kind }) {
  return html`<fieldset class="segments" role="radiogroup" aria-label=${S.composer.kind}>
    ${KINDS.filter(([each]) => modelsFor(known, each).length).map(([each, icon]) => html`<label key=${each}>
      <input type="radio" name="kind" checked=${each === kind} onChange=${() => chooseKind(each)} />
      <${Icon} name=${icon} />${S.composer.kinds[each]}
    </label>`)}
  </fieldset>`;
}
