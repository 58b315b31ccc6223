// Save a file of the server that may take seconds to make, and say why if it cannot be made.

import { Problem } from "./api.js";
import { S } from "../strings.js";

/** @param {{url: string, file: string}} format where it is, and its name */
export async function download({ url, file }) {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) {
    const words = response ? (await response.text()).trim() : S.errors.unreachable;
    throw new Problem({ error: words, code: "not_converted" }, response?.status);
  }
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
