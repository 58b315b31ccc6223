// The page: starts everything, and shows the section that the address names.

import { Bar } from "./bar.js";
import { Composer } from "./composer/composer.js";
import { draft } from "./composer/state.js";
import { Announcer } from "./core/announcer.js";
import { Problem, api, onSignedOut } from "./core/api.js";
import { catalogue, loadCatalogue, modelOf, refreshCatalogue } from "./core/catalogue.js";
import { Icon, html, render, useEffect } from "./core/dom.js";
import { connection, followEvents } from "./core/events.js";
import { engines, homeFree } from "./core/engine.js";
import { handlers, learn, successes } from "./core/jobs.js";
import { route } from "./core/routes.js";
import { Store, useStore } from "./core/store.js";
import { Toasts, toast } from "./core/toasts.js";
import { Activity } from "./create/activity.js";
import { Stage } from "./create/stage.js";
import { Gallery } from "./gallery/gallery.js";
import { Connect } from "./panels/connect.js";
import { Models, onDownload } from "./panels/models.js";
import { S } from "./strings.js";

const NEARLY_FULL_BYTES = 3e9;
const RECENT = 24;

const signedOut = new Store(false);
addEventListener("error", (event) => event.error && broken()); // not one of a file that cannot be loaded
addEventListener("unhandledrejection", ({ reason }) => (reason instanceof Problem ? toast(reason.message) : broken()));

function broken() {
  toast(S.errors.page, { seconds: 60, action: { label: S.errors.reload, run: () => location.reload() } });
}

onSignedOut.call = () => signedOut.set(true);

function useBanner() {
  const state = useStore(connection);
  const out = useStore(signedOut);
  const hindrance = useStore(engines, (cards) => (cards.every((card) => card.hindrance) ? cards[0]?.hindrance ?? null : null));
  const free = useStore(homeFree);
  if (out) return { bad: true, icon: "lock", words: S.connection.signedOut, link: ["/sign-in", S.connection.signIn] };
  if (state === "reconnecting") return { icon: "wifi-off", words: S.connection.reconnecting };
  if (hindrance) return { bad: true, icon: "triangle-alert", words: hindrance };
  if (free !== null && free < NEARLY_FULL_BYTES) return { icon: "hard-drive", words: S.connection.diskFull(free), link: ["#/models", S.connection.toModels] };
  return null;
}

function App() {
  const { view } = useStore(route);
  const banner = useBanner();
  useEffect(() => {
    document.title = view === "create" ? S.brand : `${S.views[view]} · ${S.brand}`;
  }, [view]);
  return html`
    <a class="skip" href="#prompt" onClick=${(event) => { event.preventDefault(); document.getElementById("prompt")?.focus(); }}>${S.skip}</a>
    <${Bar} />
    ${banner && html`<div class=${`banner ${banner.bad ? "bad" : ""}`} role="status"><${Icon} name=${banner.icon} /><span>${banner.words}</span>
      ${banner.link && html`<a href=${banner.link[0]}>${banner.link[1]}</a>`}</div>`}
    <main>
      ${view === "create" && html`<div class=${`create ${banner ? "with-banner" : ""}`}><${Composer} /><${Stage} /><${Activity} /></div>`}
      ${view === "gallery" && html`<${Gallery} />`}
      ${view === "models" && html`<${Models} />`}
      ${view === "connect" && html`<${Connect} />`}
    </main>
    <${Toasts} /><${Announcer} />
  `;
}

/** After a first result the server knows how long the presets of its model take. */
successes.follow(() => {
  const model = catalogue.value && modelOf(catalogue.value, draft.value);
  if (model?.presets.some((preset) => preset.seconds === null)) refreshCatalogue().catch(() => {});
});

async function start() {
  render(html`<${App} />`, document.getElementById("app"));
  followEvents({ ...handlers, download: onDownload });
  const ready = async () => {
    await loadCatalogue();
    learn((await api.jobs(new URLSearchParams({ limit: String(RECENT) }))).jobs);
  };
  try {
    await ready();
  } catch {
    // the banner says why; it is tried again when the server answers
    const stop = connection.follow((state) => state === "connected" && ready().then(stop, () => {}));
  }
}

start();
