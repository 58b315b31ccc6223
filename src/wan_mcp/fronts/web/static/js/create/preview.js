// The live preview of a job that is denoised. Each request counts as a look; nobody looks while the page is hidden.

import { useEffect, useState } from "../core/dom.js";

const EVERY_MS = 1000;

/** Return the address of the newest preview of a running job, or null. */
export function usePreview(job) {
  const looks = job?.state === "running" && job.stage === "denoising";
  const [picture, setPicture] = useState(null);
  useEffect(() => {
    if (!looks) {
      setPicture(null);
      return undefined;
    }
    let address = null;
    let timer = null;
    let stopped = false;
    const look = async () => {
      if (document.visibilityState === "visible") {
        const response = await fetch(`/media/previews/${job.id}.jpg`, { cache: "no-store" }).catch(() => null);
        if (stopped) return;
        if (response?.status === 200) { // 204: there is none yet
          const fresh = URL.createObjectURL(await response.blob());
          if (address) URL.revokeObjectURL(address);
          address = fresh;
          setPicture(fresh);
        }
      }
      timer = setTimeout(look, EVERY_MS);
    };
    look();
    return () => {
      stopped = true;
      clearTimeout(timer);
      if (address) URL.revokeObjectURL(address);
    };
  }, [job?.id, looks]);
  return looks ? picture : null;
}
