// Short notices at the lower edge, some of which can be undone.

import { html } from "./dom.js";
import { Store, useStore } from "./store.js";

const toasts = new Store([]);
let next = 0;

/**
 * Show a notice.
 * @param {{label: string, run: function()}} action a button in it, such as Undo
 */
export function toast(words, { action = null, seconds = 5 } = {}) {
  const id = (next += 1);
  const close = () => toasts.set((all) => all.filter((each) => each.id !== id));
  toasts.set((all) => [...all.slice(-2), { id, words, action, close }]);
  setTimeout(close, seconds * 1000);
  return close;
}

export function Toasts() {
  const all = useStore(toasts);
  return html`<div class="toasts" role="status">
    ${all.map(({ id, words, action, close }) => html`<div class="toast" key=${id}>
      <span class="grow">${words}</span>
      ${action && html`<button type="button" class="button tiny" onClick=${() => { action.run(); close(); }}>${action.label}</button>`}
    </div>`)}
  </div>`;
}
