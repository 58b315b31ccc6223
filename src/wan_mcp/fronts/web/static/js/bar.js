// The bar: sections, engine, queue, theme.

import { api } from "./core/api.js";
import { engines, lookAtEngine, useEngine } from "./core/engine.js";
import { Icon, IconButton, html, useEffect, useRef, useState } from "./core/dom.js";
import { active, jobs } from "./core/jobs.js";
import { route } from "./core/routes.js";
import { useStore } from "./core/store.js";
import { toast } from "./core/toasts.js";
import { trying } from "./create/reuse.js";
import { S } from "./strings.js";

const TABS = [["create", "sparkles", "#/"], ["gallery", "layers", "#/gallery"], ["models", "hard-drive", "#/models"], ["connect", "plug", "#/connect"]];

export function Bar() {
  const { view } = useStore(route);
  const waiting = useStore(jobs, (map) => [...map.values()].filter(active).length);
  const [dark, setDark] = useState(window.wanTheme.dark());
  const toggle = () => {
    window.wanTheme.toggle();
    setDark(window.wanTheme.dark());
  };
  return html`<header class="bar">
    <a class="brand" href="#/"><svg viewBox="0 0 32 32" aria-hidden="true"><rect class="sheet" width="32" height="32" rx="9" />
      <path class="wave" d="M7 11.5 11.5 21 16 12l4.5 9L25 11.5" /></svg>${S.brand}</a>
    <nav class="tabs" aria-label=${S.nav}>
      ${TABS.map(([name, icon, address]) => html`<a key=${name} href=${address} aria-current=${view === name ? "page" : undefined}>
        <${Icon} name=${icon} />${S.views[name]}</a>`)}
    </nav>
    <div class="status">
      ${waiting > 0 && html`<span class="chip" id="queue">${S.queue.pill(waiting)}</span>`}
      <${EngineChip} waiting=${waiting} />
      <${SignOut} />
      <${IconButton} icon=${dark ? "sun" : "moon"} class="quiet" label=${S.theme} onClick=${toggle} />
    </div>
  </header>`;
}

/** For a browser that has signed in: the server's own user needs no session. */
function SignOut() {
  const [session, setSession] = useState(null);
  useEffect(() => {
    api.session().then(setSession, () => {});
  }, []);
  const leave = () => trying(async () => {
    await api.signOut();
    location.assign("/sign-in");
  });
  return session?.signed_in && html`<${IconButton} icon="log-out" class="quiet" label=${S.signOut} onClick=${leave} />`;
}

function stateOf(card, waiting) {
  if (!card?.running) return waiting ? ["busy", S.engine.starting] : ["", S.engine.off];
  if (!card.ready) return ["busy", S.engine.starting];
  return card.job ? ["busy", S.engine.busy] : ["good", S.engine.idle];
}

function stateOfAll(cards, waiting) {
  const busy = cards.filter((card) => card.running && card.job).length;
  if (cards.length > 1 && busy) return ["busy", S.engine.busyOf(busy, cards.length)];
  return stateOf(cards.find((card) => card.running && card.ready) ?? cards.find((card) => card.running) ?? cards[0], waiting);
}

function EngineChip({ waiting }) {
  useEngine(waiting);
  const cards = useStore(engines);
  const [open, setOpen] = useState(false);
  const host = useRef(null);
  useEffect(() => {
    if (!open) return undefined;
    const away = (event) => (event.key === "Escape" || (event.type === "pointerdown" && !host.current.contains(event.target))) && setOpen(false);
    document.addEventListener("pointerdown", away);
    document.addEventListener("keydown", away);
    const close = () => setOpen(false);
    addEventListener("hashchange", close);
    return () => {
      removeEventListener("hashchange", close);
      document.removeEventListener("pointerdown", away);
      document.removeEventListener("keydown", away);
    };
  }, [open]);
  const [dot, words] = stateOfAll(cards, waiting);
  return html`<div class="popover-host" ref=${host}>
    <button type="button" class="button quiet" aria-expanded=${String(open)} aria-controls="engine" onClick=${() => { setOpen(!open); lookAtEngine(); }}>
      <span class=${`dot ${dot}`}></span><span>${words}</span>
      ${cards.length > 0 && html`<span class="wide muted clip engine-name">${cards.length > 1 ? S.engine.many(cards.length) : cards[0].name}</span>`}
    </button>
    ${open && cards.length > 0 && html`<${Engines} cards=${cards} words=${words} />`}
  </div>`;
}

function Engines({ cards, words }) {
  const free = () => trying(async () => {
    const { asked } = await api.freeMemory();
    toast(asked ? S.engine.freed : S.engine.nothingToFree);
    lookAtEngine();
  });
  const running = cards.filter((card) => card.running);
  return html`<div class="popover panel stack" id="engine">
    <h2>${S.engine.title}: ${words.toLowerCase()}</h2>
    ${running.length === 0 && html`<p class="small muted">${S.engine.offMore}</p>`}
    ${cards.map((card) => html`<${EngineFacts} key=${card.device} card=${card} alone=${cards.length === 1} />`)}
    ${running.length > 0 && html`<button type="button" class="button" disabled=${running.every((card) => card.job !== null)} onClick=${free}><${Icon} name="zap" />${S.engine.free}</button>`}
  </div>`;
}

function EngineFacts({ card, alone }) {
  const facts = [
    [S.engine.device, alone ? card.name : null],
    [S.engine.memory, card.total_bytes ? S.engine.memoryOf(card.used_bytes, card.total_bytes) : null],
    [S.engine.process, card.process_bytes ? S.models.size(card.process_bytes) : null],
    [S.engine.loadedLabel, card.running ? S.engine.loaded(card.loaded) : null],
    [S.engine.unloads, card.leaves_in_s ? S.engine.unloadsIn(card.leaves_in_s) : null],
  ].filter(([, value]) => value);
  return html`${!alone && html`<h3>${card.device}: ${stateOf(card, 0)[1].toLowerCase()}</h3>`}
    ${card.hindrance && html`<p class="notice warn"><${Icon} name="triangle-alert" /><span>${card.hindrance}</span></p>`}
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}
