// Connect: configurations of other programs for this very server, ready to copy.

import { api } from "../core/api.js";
import { copyText } from "../core/clipboard.js";
import { Icon, html, useEffect, useState } from "../core/dom.js";
import { trying } from "../create/reuse.js";
import { S } from "../strings.js";
import { Phone } from "./phone.js";

export function Connect() {
  const [answer, setAnswer] = useState(null);
  const [chosen, setChosen] = useState(0);
  const [tested, setTested] = useState("");
  useEffect(() => {
    trying(async () => setAnswer(await api.connections()));
  }, []);
  if (!answer) return null;
  const test = () => trying(async () => {
    const { trouble, version } = await api.testServer();
    setTested(trouble ?? S.connect.works(version));
  });
  const connection = answer.connections[chosen];
  return html`<section class="page connect" aria-label=${S.connect.title}>
    <header class="page-head"><div><h1>${S.connect.title}</h1><p>${S.connect.about}</p></div></header>
    <div class="panel address"><div class="grow"><p class="small muted">${S.connect.address}</p><p class="mono">${answer.url}</p></div>
      <button type="button" class="button" onClick=${() => copyText(answer.url)}><${Icon} name="copy" />${S.copy}</button>
      <button type="button" class="button" onClick=${test}><${Icon} name="zap" />${S.connect.test}</button></div>
    <p class="small tested" role="status">${tested}</p>
    ${answer.needs_token && html`<p class="notice"><${Icon} name="lock" /><span>${S.connect.token}</span></p>`}
    <${Phone} />
    <div class="programs">
      <div class="program-list" role="radiogroup" aria-label=${S.connect.title}>
        ${answer.connections.map((each, at) => html`<label key=${each.id} class="program"><input type="radio" name="program" checked=${at === chosen} onChange=${() => setChosen(at)} />${each.title}</label>`)}
      </div>
      <div class="panel program-text">
        <div class="row spread"><div><h2>${connection.title}</h2><p class="small muted">${S.connect.where(connection.where)}</p></div>
          <button type="button" class="button" onClick=${() => copyText(connection.text)} aria-label=${S.connect.copyOf(connection.title)}><${Icon} name="copy" />${S.copy}</button></div>
        <pre tabindex="0"><code>${connection.text}</code></pre>
      </div>
    </div>
  </section>`;
}
