// A link, as a QR code, that opens the page on another device and signs it in once.

import { api } from "../core/api.js";
import { copyText } from "../core/clipboard.js";
import { Icon, html, useState } from "../core/dom.js";
import { trying } from "../create/reuse.js";
import { S } from "../strings.js";

export function Phone() {
  const [links, setLinks] = useState(null);
  const [chosen, setChosen] = useState(0);
  const [code, setCode] = useState(null);
  const draw = async (all, at) => {
    const { encode } = await import("../../vendor/uqr.mjs");
    setChosen(at);
    setCode(encode(all[at]));
  };
  const make = () => trying(async () => {
    const answer = await api.phoneLinks();
    setLinks(answer.links);
    if (answer.links.length) await draw(answer.links, 0);
  });
  return html`<section class="panel phone" aria-label=${S.phone.title}>
    <div class="grow stack tight"><h2>${S.phone.title}</h2>
      <p class="small muted">${links?.length === 0 ? S.phone.loopback : S.phone.about}</p>
      ${links?.length === 0 && html`<pre tabindex="0"><code>${S.phone.command}</code></pre>`}
      ${links?.length > 1 && html`<select class="select" aria-label=${S.phone.address} value=${String(chosen)} onChange=${(event) => draw(links, Number(event.target.value))}>
        ${links.map((link, at) => html`<option key=${link} value=${String(at)} selected=${at === chosen}>${new URL(link).host}</option>`)}
      </select>`}
      <div class="row wrap">
        <button type="button" class="button" onClick=${make}><${Icon} name="smartphone" />${links ? S.phone.again : S.phone.make}</button>
        ${links?.length > 0 && html`<button type="button" class="button" onClick=${() => copyText(links[chosen])}><${Icon} name="copy" />${S.phone.copy}</button>`}
      </div></div>
    ${code && html`<${Code} code=${code} />`}
  </section>`;
}

function Code({ code }) {
  const path = code.data.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : ""))).join("");
  return html`<svg class="qr" viewBox=${`0 0 ${code.size} ${code.size}`} role="img" aria-label=${S.phone.code} shape-rendering="crispEdges">
    <rect width=${code.size} height=${code.size} fill="#fff" /><path d=${path} fill="#000" /></svg>`;
}
