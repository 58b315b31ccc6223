// From a job to another one: again with a new seed, the very same, or its settings in the composer.

import { Problem, api, submissionKey } from "../core/api.js";
import { learn } from "../core/jobs.js";
import { go, jobAddress } from "../core/routes.js";
import { toast } from "../core/toasts.js";
import { ownPictures, rememberPictures } from "../composer/own_pictures.js";
import { applyAction, draft, remix } from "../composer/state.js";
import { S } from "../strings.js";

/** Run something that asks the server; say in a notice why it did not work. */
export async function trying(task) {
  try {
    return await task();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    toast(problem.message);
    return null;
  }
}

/** Queue the same request; without `seed`, with a new one. */
export const again = (id, { sameSeed = false } = {}) => trying(async () => {
  const before = await api.job(id);
  const { request } = before;
  const { pictures, missing } = ownPictures(before);
  if (missing.length) throw new Problem({ error: S.stage.pictureKeptBack, code: "picture_kept_back" });
  for (const [well, picture] of Object.entries(pictures)) request[well] = picture.id;
  if (!sameSeed) delete request.seed;
  const job = await api.submit({ ...request, parent: id }, submissionKey());
  rememberPictures(job.id, pictures);
  learn([job], { aloud: true });
  if (job.seed !== null && !draft.value.seedLocked) draft.set({ seed: job.seed });
  go(jobAddress(job.id));
});

/** What the button of a failed job's error does, where that is about the job itself. */
export const helpWith = (job) => (action) => {
  if (action.do === "change") applyAction(action);
  else if (action.do === "remix") remixJob(job.id);
  else again(job.id);
};

export const remixJob = (id) => trying(async () => {
  toast((await remix(id)) ? S.stage.remixedWithout : S.stage.remixed);
  document.getElementById("prompt")?.focus();
});
