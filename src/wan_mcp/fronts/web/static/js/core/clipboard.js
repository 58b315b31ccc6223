// Copying, with a word about it.

import { toast } from "./toasts.js";
import { S } from "../strings.js";

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text); // not on a plain http address of another machine
    toast(S.copied, { seconds: 2 });
  } catch {
    toast(S.copyFailed);
  }
}
