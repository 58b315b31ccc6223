// The seed: a new one each time, or one that stays. The used one is written back.

import { IconButton, html } from "../core/dom.js";
import { S } from "../strings.js";
import { draft as store } from "./state.js";

export function SeedChoice({ draft, most }) {
  const { seed, seedLocked } = draft;
  const roll = () => store.set({ seed: crypto.getRandomValues(new Uint32Array(1))[0] % (most + 1), seedLocked: true });
  const write = (text) => {
    const digits = text.replace(/\D/g, "");
    store.set(digits ? { seed: Math.min(most, Number(digits)), seedLocked: true } : { seed: null, seedLocked: false });
  };
  const hint = seed === null || seedLocked ? S.composer.seedRandom : S.composer.seedUsed(seed);
  return html`<div class="field">
    <label class="label" for="seed">${S.composer.seed}</label>
    <div class="row">
      <input id="seed" class="input mono grow" inputmode="numeric" autocomplete="off" placeholder=${hint}
        value=${seedLocked && seed !== null ? seed : ""} onInput=${(event) => write(event.target.value)} />
      <${IconButton} icon="dices" label=${S.composer.seedRoll} onClick=${roll} />
      <${IconButton} icon=${seedLocked ? "lock" : "lock-open"} label=${seedLocked ? S.composer.seedUnlock : S.composer.seedLock}
        aria-pressed=${String(seedLocked)} onClick=${() => (seedLocked || seed !== null ? store.set({ seedLocked: !seedLocked }) : roll())} />
    </div>
  </div>`;
}
