// What can be chosen, as the server knows it, and how to find a model in it.

import { api } from "./api.js";
import { Store } from "./store.js";

export const catalogue = new Store(null);

export async function loadCatalogue() {
  catalogue.set(() => null); // a new one replaces the old as a whole
  catalogue.set(await api.catalogue());
}

/** Read it again, and keep the present one until the new one is here. */
export async function refreshCatalogue() {
  const fresh = await api.catalogue();
  catalogue.set(() => fresh);
}

export function modelsFor(known, kind) {
  return known.models.filter((model) => model.kinds.includes(kind));
}

/** The model of a draft: the one it names, or the default of its kind. */
export function modelOf(known, draft) {
  const able = modelsFor(known, draft.kind);
  const named = able.find((model) => model.name === draft.model);
  return named ?? able.find((model) => model.name === known.default_models[draft.kind]) ?? able[0] ?? null;
}

/** Return whether a job of the draft's kind may be given a parameter with this model. */
export function offers(model, kind, parameter) {
  return Boolean(model?.offers[kind]?.includes(parameter));
}

/** A model whose presence makes the first-run page needless: any here that did not come with the package. */
export function hasRealModel(known) {
  return known.models.some((model) => model.group === "here" && !model.embedded && !model.kinds.includes("caption"));
}
