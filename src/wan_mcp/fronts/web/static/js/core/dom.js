// The component library under one name, and the icons.

export {
  html, render, useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState, useCallback,
} from "../../vendor/htm-preact.mjs";
import { html } from "../../vendor/htm-preact.mjs";

const SPRITE = new URL("../../vendor/icons.svg", import.meta.url).href;

/** Draw an icon of vendor/icons.svg; it says nothing, so whatever it stands in needs a name. */
export function Icon({ name, size = "" }) {
  return html`<svg class="icon ${size}" aria-hidden="true"><use href="${SPRITE}#${name}" /></svg>`;
}

/** A button that shows only an icon, and says `label`. */
export function IconButton({ icon, label, class: more = "", ...rest }) {
  return html`<button type="button" class="button square ${more}" aria-label=${label} title=${label} ...${rest}>
    <${Icon} name=${icon} />
  </button>`;
}
