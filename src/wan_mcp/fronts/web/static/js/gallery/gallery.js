// Everything that was made here: searched, filtered, selected. Only the rows near the window are drawn.

import { catalogue } from "../core/catalogue.js";
import { deleteJobs } from "../core/deletion.js";
import { Icon, html, useEffect, useLayoutEffect, useRef, useState } from "../core/dom.js";
import { useStore } from "../core/store.js";
import { toast } from "../core/toasts.js";
import { ProblemNotice } from "../panels/problem.js";
import { S } from "../strings.js";
import { useResults } from "./results.js";
import { Tile } from "./tile.js";
import { columnsOf, rowsInSight } from "./windowing.js";
import { downloadZip } from "./zip.js";

const LEAST_TILE = 190;
const GAP = 12;
const TEXT = 46; // below the picture
const START = { q: "", kind: "", state: "succeeded", kept: false, model: "", from: "", to: "" };

export function Gallery() {
  const [filters, setFilters] = useState(START);
  const [selected, setSelected] = useState(null); // null: not selecting
  const results = useResults(filters);
  const { found, loading, problem } = results;
  const filtered = JSON.stringify(filters) !== JSON.stringify(START);
  const toggle = (id) => setSelected((before) => {
    const next = new Set(before);
    if (!next.delete(id)) next.add(id);
    return next;
  });
  return html`<section class="page gallery" aria-label=${S.gallery.title}>
    <header class="page-head"><div><h1>${S.gallery.title}</h1><p>${S.gallery.about}</p></div>
      <${Selection} found=${found} selected=${selected} setSelected=${setSelected} /></header>
    <${Filters} filters=${filters} change=${(values) => setFilters((before) => ({ ...before, ...values }))} />
    ${problem && html`<${ProblemNotice} problem=${problem} />`}
    ${found.length > 0
      ? html`<${Grid} results=${results} selected=${selected} toggle=${toggle} />`
      : loading ? html`<p class="muted">${S.gallery.loading}</p>` : html`<div class="empty"><${Icon} name="layers" size="huge" />
          <h2>${filtered ? S.gallery.noMatch : S.gallery.none}</h2><p>${filtered ? S.gallery.noMatchMore : S.gallery.noneMore}</p></div>`}
  </section>`;
}

function Filters({ filters, change }) {
  const known = useStore(catalogue);
  const pick = (name, label, options) => html`<select class="select" aria-label=${label} value=${filters[name]} onChange=${(event) => change({ [name]: event.target.value })}>
    ${options.map(([value, words]) => html`<option key=${value} value=${value} selected=${value === filters[name]}>${words}</option>`)}
  </select>`;
  const day = (name, label, bounds) => html`<label class="row small day"><span class="muted">${label}</span>
    <input class="input" type="date" value=${filters[name]} ...${bounds} onInput=${(event) => change({ [name]: event.target.value })} /></label>`;
  return html`<div class="filters" role="search">
    <label class="search"><${Icon} name="search" /><input class="input" type="search" placeholder=${S.gallery.search} aria-label=${S.gallery.search}
      value=${filters.q} onInput=${(event) => change({ q: event.target.value })} /></label>
    ${pick("kind", S.gallery.kind, [["", S.gallery.all], ...Object.entries(S.gallery.kinds)])}
    ${pick("state", S.gallery.state, Object.entries(S.gallery.states))}
    ${known && pick("model", S.gallery.model, [["", S.gallery.anyModel], ...known.models.map((model) => [model.name, model.title])])}
    ${day("from", S.gallery.from, { max: filters.to })}
    ${day("to", S.gallery.to, { min: filters.from })}
    <label class="tick"><input type="checkbox" checked=${filters.kept} onChange=${(event) => change({ kept: event.target.checked })} />${S.gallery.keptOnly}</label>
  </div>`;
}

function Selection({ found, selected, setSelected }) {
  const [packing, setPacking] = useState(null);
  if (selected === null) {
    return html`<button type="button" class="button" disabled=${found.length === 0} onClick=${() => setSelected(new Set())}><${Icon} name="square-check" />${S.gallery.select}</button>`;
  }
  const chosen = found.filter((job) => selected.has(job.id));
  const zip = async () => {
    try {
      await downloadZip(chosen, (done, all) => setPacking(S.gallery.zipping(done, all)));
    } catch (error) {
      toast(error.message);
    } finally {
      setPacking(null);
    }
  };
  return html`<div class="row wrap">
    <span class="muted" role="status">${packing ?? S.gallery.selected(chosen.length)}</span>
    <button type="button" class="button" disabled=${!chosen.some((job) => job.results.length) || packing !== null} onClick=${zip}><${Icon} name="folder-down" />${S.gallery.zip}</button>
    <button type="button" class="button danger" disabled=${chosen.length === 0} onClick=${() => { deleteJobs(chosen.map((job) => job.id)); setSelected(null); }}>
      <${Icon} name="trash-2" />${S.gallery.remove}</button>
    <button type="button" class="button quiet" onClick=${() => setSelected(null)}>${S.gallery.selectNone}</button>
  </div>`;
}

function Grid({ results, selected, toggle }) {
  const grid = useRef(null);
  const [view, setView] = useState({ width: 0, above: 0, height: 0 });
  useLayoutEffect(() => {
    const look = () => {
      const box = grid.current.getBoundingClientRect();
      setView({ width: box.width, above: Math.max(0, -box.top), height: innerHeight });
    };
    look();
    const watch = new ResizeObserver(look);
    watch.observe(grid.current);
    addEventListener("scroll", look, { passive: true });
    return () => {
      watch.disconnect();
      removeEventListener("scroll", look);
    };
  }, []);
  const { columns, tile } = columnsOf(view.width, LEAST_TILE, GAP);
  const rowHeight = tile + TEXT + GAP;
  const rows = Math.ceil(results.found.length / columns);
  const { first, last } = rowsInSight({ ...view, rowHeight, rows });
  useEffect(() => {
    if (results.more && last >= rows - 2) results.next();
  });
  const shown = view.width ? results.found.slice(first * columns, last * columns) : [];
  return html`<div class="grid" ref=${grid} style=${{ height: `${rows * rowHeight}px` }}>
    <ul style=${{ transform: `translateY(${first * rowHeight}px)`, gridTemplateColumns: `repeat(${columns}, 1fr)`, gridAutoRows: `${rowHeight - GAP}px`, gap: `${GAP}px` }}>
      ${shown.map((job) => html`<${Tile} key=${job.id} job=${job} height=${tile} selecting=${selected !== null} selected=${selected?.has(job.id)} toggle=${toggle} />`)}
    </ul>
  </div>`;
}
