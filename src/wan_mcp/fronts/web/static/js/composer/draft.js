// What the person has set so far, and the request that it makes. A value of null means: the model's own.

import { offers } from "../core/catalogue.js";

export const BLANK = Object.freeze({
  kind: "video",
  prompt: "",
  instruction: "",
  model: null,
  preset: null,
  image: null,
  last_image: null,
  resolution: null,
  num_frames: null,
  steps: null,
  guidance_scale: null,
  guidance_scale_2: null,
  negative_prompt: "",
  strength: null,
  turbo: false,
  style: null,
  lora: [],
  shots: [],
  extend: null,
  count: 1,
  check: false,
  pick: null,
  seed: null,
  seedLocked: false,
  caption_type: null,
  length: null,
  extra_options: [],
  parent: "",
});

const PLAIN = [
  "preset", "resolution", "num_frames", "steps", "guidance_scale", "guidance_scale_2", "strength", "style",
  "caption_type", "length",
];
/** Reset when another model is chosen: they mean something else there, or nothing. */
export const OF_A_MODEL = [
  "preset", "resolution", "num_frames", "steps", "guidance_scale", "guidance_scale_2", "strength", "turbo",
  "caption_type", "length", "extra_options", "negative_prompt",
];

/** Whether only the best of several results is kept, which includes the check of all. */
export const picks = (draft, model) => draft.pick !== null && draft.count > 1 && offers(model, draft.kind, "pick");

/** Make the parameters of POST /api/jobs; what the model does not allow is left out. */
export function requestOf(draft, model) {
  const allowed = (name) => offers(model, draft.kind, name);
  const request = { kind: draft.kind, model: model.name };
  const words = (draft.kind === "caption" ? draft.instruction : draft.prompt).trim();
  if (words && allowed("prompt")) request.prompt = words;
  for (const [name, frame] of [["image", "frame"], ["last_image", "last_image_frame"]]) {
    if (!draft[name] || !allowed(name)) continue;
    request[name] = draft[name].id;
    if (draft[name].frame && draft[name].id.startsWith("wan://videos/")) request[frame] = draft[name].frame;
  }
  for (const name of PLAIN) if (draft[name] !== null && allowed(name)) request[name] = draft[name];
  if (draft.negative_prompt && allowed("negative_prompt")) request.negative_prompt = draft.negative_prompt;
  if (draft.turbo && allowed("turbo")) request.turbo = true;
  if (draft.lora.length && allowed("lora")) request.lora = draft.lora;
  if (draft.extend && allowed("extend") && !draft.image) request.extend = draft.extend;
  const shots = draft.shots.filter(({ prompt }) => prompt.trim());
  if (shots.length && allowed("shots")) request.shots = shots;
  if (draft.count > 1 && allowed("count")) request.count = draft.count;
  if (picks(draft, model)) request.pick = "best";
  else if (draft.check && allowed("check")) request.check = true;
  if (draft.seedLocked && draft.seed !== null && allowed("seed")) request.seed = draft.seed;
  if (draft.kind === "caption" && draft.extra_options.length && allowed("extra_options")) request.extra_options = draft.extra_options;
  if (request.prompt && draft.kind === "caption") for (const name of ["caption_type", "length", "extra_options"]) delete request[name];
  if (draft.parent) request.parent = draft.parent;
  return request;
}

/** Say what is missing before it can be sent: "prompt", "picture", or null. */
export function missing(draft, model) {
  if (draft.kind !== "caption" && !draft.prompt.trim()) return "prompt";
  if (draft.kind === "caption" || model?.image_required.includes(draft.kind)) return draft.image || draft.extend ? null : "picture";
  return null;
}

/** Make a draft of a job's request, as GET /api/jobs/ID has it. */
export function draftOf(request, pictures = {}) {
  const { kind, prompt = "", image, last_image, seed = null, duration_s, ...values } = request;
  const draft = { ...BLANK, kind, seed, seedLocked: seed !== null };
  for (const [name, value] of Object.entries(values)) if (name in BLANK && value !== null) draft[name] = value;
  draft[kind === "caption" ? "instruction" : "prompt"] = prompt ?? "";
  if (image) draft.image = pictures.image ?? null;
  if (last_image) draft.last_image = pictures.last_image ?? null;
  return draft;
}
