// The pictures that this browser has sent from elsewhere, by the jobs that it made from them. The server shows a page
// elsewhere no picture that it was sent, not even the page's own: any other client could have sent it.

const KEY = "wan-own-pictures";
const MOST = 100; // jobs
const SEALED = /^[0-9a-f]{64}\./; // an id that only its sender knows
const WELLS = ["image", "last_image"];

function known() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
}

/** Remember the pictures of a request for the job that it has become. */
export function rememberPictures(id, pictures) {
  const own = Object.fromEntries(WELLS.filter((well) => SEALED.test(pictures[well]?.id ?? "")).map((well) => [well, pictures[well]]));
  if (!Object.keys(own).length) return;
  try {
    localStorage.setItem(KEY, JSON.stringify([...known(), [id, own]].slice(-MOST)));
  } catch {
    // storage is off or full: the pictures have to be sent again
  }
}

/** Return the pictures of a job that the server keeps back and this browser has, and the names of those it has not. */
export function ownPictures({ id, withheld }) {
  const kept = known().find(([job]) => job === id)?.[1] ?? {};
  const pictures = Object.fromEntries(withheld.filter((well) => kept[well]).map((well) => [well, kept[well]]));
  return { pictures, missing: withheld.filter((well) => !kept[well]) };
}
