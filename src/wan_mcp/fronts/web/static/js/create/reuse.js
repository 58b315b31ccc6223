// From a job to another one: again with a new seed, the very same, or its settings in the composer.

import { Problem, api, submissionKey } from "../core/api.js";
import { learn } from "../core/jobs.js";
import { go, jobAddress } from "../core/routes.js";
import { toast } from "../core/toasts.js";
import { draft, remix } from "../composer/state.js";
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
  const { request } = await api.job(id);
  if (!sameSeed) delete request.seed;
  const job = await api.submit({ ...request, parent: id }, submissionKey());
  learn([job], { aloud: true });
  if (job.seed !== null && !draft.value.seedLocked) draft.set({ seed: job.seed });
  go(jobAddress(job.id));
});

export const remixJob = (id) => trying(async () => {
  await remix(id);
  toast(S.stage.remixed);
  document.getElementById("prompt")?.focus();
});
