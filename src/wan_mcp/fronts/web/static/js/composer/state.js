// The draft of the composer: kept over reloads, and changed by other sections (Remix, Use as first picture).

import { api } from "../core/api.js";
import { go } from "../core/routes.js";
import { Store } from "../core/store.js";
import { BLANK, OF_A_MODEL, draftOf } from "./draft.js";
import { ownPictures } from "./own_pictures.js";

const KEY = "wan-draft";

export const draft = new Store(restored());

function restored() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    const known = Object.entries(kept).filter(([name]) => name in BLANK);
    return { ...BLANK, ...Object.fromEntries(known) };
  } catch {
    return { ...BLANK };
  }
}

draft.follow((value) => {
  try {
    localStorage.setItem(KEY, JSON.stringify(value));
  } catch {
    // storage is off or full: the draft lasts until the page closes
  }
});

export function chooseKind(kind) {
  draft.set({ kind, model: null, ...blank(OF_A_MODEL) });
}

export function chooseModel(name) {
  draft.set({ model: name, ...blank(OF_A_MODEL) });
}

export function blank(names) {
  return Object.fromEntries(names.map((name) => [name, BLANK[name]]));
}

/** Put a picture that the server has into a well. */
export function usePicture(picture, { well = "image", kind = null } = {}) {
  if (kind && draft.value.kind !== kind) chooseKind(kind);
  draft.set({ [well]: picture });
}

const videos = new Map();

/** The video that a picture is a frame of, if it was sent since the page was opened. */
export const videoOf = (id) => videos.get(id);

/** Send a picture, or a frame of a video, to the server, and return what a well holds of it. */
export async function takePicture(blob, name, frame = blob.type.startsWith("video/") ? "first" : null) {
  const answer = await api.upload(blob, frame);
  if (frame) videos.set(answer.id, blob);
  return { id: answer.id, url: answer.url, width: answer.width, height: answer.height, name, notes: answer.notes, frame };
}

/** Have the server take a frame of a video, and return what a well holds of it. */
export async function takeFrame(file, index, name) {
  const answer = await api.frame(file.uri, index);
  return { id: answer.id, url: answer.url, width: answer.width, height: answer.height, name, notes: [] };
}

/** A result of a job as what a well holds: the image, or the first frame of a video. */
export function pictureOf(job, file) {
  return {
    id: file.uri, frame: job.kind === "video" ? "first" : null, url: file.poster_url ?? file.url, width: file.width, height: file.height,
    name: job.prompt || job.what, notes: [],
  };
}

/** Return where the picture of a result is: a page elsewhere is told of no other pictures. */
export function addressOf(reference = "") {
  return reference.replace("wan://", "/media/").replace(/\.mp4$/, ".poster.jpg");
}

/** Fill the composer with what made a job; say whether a picture is missing, which the server keeps back. */
export async function remix(id, { newSeed = false } = {}) {
  const job = await api.job(id);
  const { request, images, width, height, prompt } = job;
  const { pictures, missing } = ownPictures(job);
  const picture = (index, reference, frame) => ({
    id: reference, frame: frame ?? null, url: images[index] ?? addressOf(reference), width, height, name: prompt ?? "", notes: [],
  });
  const next = draftOf(request, {
    image: picture(0, request.image, request.frame),
    last_image: picture(1, request.last_image, request.last_image_frame),
  });
  Object.assign(next, pictures, { parent: id });
  if (newSeed) next.seedLocked = false;
  draft.set(next);
  return missing.length > 0;
}

/** Apply the values of a button that an error or an estimate offers. */
export function applyAction(action) {
  draft.set({ ...(action.model ? { model: action.model } : {}), ...action.values });
  go("#/");
}
