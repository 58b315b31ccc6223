// Several results in one ZIP, streamed together in the browser.

import { makeZip } from "../../vendor/client-zip.mjs";

/** Save the files of jobs as one archive; `tell` hears how many are packed. */
export async function downloadZip(jobs, tell) {
  const files = jobs.flatMap((job) => job.results.filter((file) => file.url).map((file, at) => ({ job, file, at })));
  async function* parts() {
    for (const [done, { job, file, at }] of files.entries()) {
      tell(done, files.length);
      const response = await fetch(file.url);
      if (!response.ok) throw new Error(`${file.url}: ${response.status}`);
      yield { name: nameOf(job, file, at), lastModified: new Date(job.created_at * 1000), input: response };
    }
  }
  const blob = await new Response(makeZip(parts())).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = "wan-studio.zip";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** "2026-11-27_a-red-star_s42-0.mp4" */
export function nameOf(job, file, at) {
  const day = new Date(job.created_at * 1000).toISOString().slice(0, 10);
  const words = (job.prompt || job.id).toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 40);
  return `${day}_${words || job.id}_s${file.seed}-${job.id.slice(0, 6)}-${at}.${file.url.split(".").pop()}`;
}
