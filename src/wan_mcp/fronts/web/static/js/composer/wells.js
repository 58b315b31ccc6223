// The first and the last picture: dropped, pasted, chosen, or taken from the gallery, with the crop that will happen.
// A video stands for one of its frames.

import { Problem } from "../core/api.js";
import { offers } from "../core/catalogue.js";
import { Icon, IconButton, html, useEffect, useRef, useState } from "../core/dom.js";
import { ProblemNotice } from "../panels/problem.js";
import { S } from "../strings.js";
import { FrameOf } from "./frame_of.js";
import { Picker } from "./picker.js";
import { draft as store, takePicture, usePicture } from "./state.js";

export function Wells({ draft, model, estimate, limit }) {
  const two = offers(model, draft.kind, "last_image");
  const required = draft.kind === "caption" || model.image_required.includes(draft.kind);
  const [problem, setProblem] = useState(null);
  const [picking, setPicking] = useState(null);

  const take = async (well, files) => {
    const file = [...files].find((each) => /^(image|video)\//.test(each.type));
    setProblem(null);
    if (!file) {
      if (files.length) setProblem(new Problem({ error: S.well.noPicture, code: "bad_image" }));
      return;
    }
    if (file.size > limit) {
      setProblem(new Problem({ error: S.well.tooLarge(limit), code: "bad_image" }));
      return;
    }
    store.set({ [well]: { reading: true, name: file.name } });
    try {
      usePicture(await takePicture(file, file.name), { well });
    } catch (error) {
      store.set({ [well]: null });
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
    }
  };
  useEffect(() => {
    const onPaste = (event) => {
      const files = event.clipboardData?.files ?? [];
      if (!files.length) return;
      event.preventDefault();
      take(two && store.value.image ? "last_image" : "image", files);
    };
    document.addEventListener("paste", onPaste);
    return () => document.removeEventListener("paste", onPaste);
  }, [two, limit]);

  return html`<div class="stack tight">
    <div class=${`wells ${two ? "two" : ""}`}>
      <${Well} well="image" label=${two ? S.well.first : S.well.picture} hint=${required ? "" : S.well.optional} picture=${draft.image}
        crop=${estimate?.image_crop} take=${take} fail=${setProblem} pick=${() => setPicking("image")} />
      ${two && html`<${Well} well="last_image" label=${S.well.last} hint=${S.well.optional} picture=${draft.last_image}
        crop=${estimate?.last_image_crop} take=${take} fail=${setProblem} pick=${() => setPicking("last_image")} />`}
    </div>
    ${problem && html`<${ProblemNotice} problem=${problem} />`}
    ${picking && html`<${Picker} close=${() => setPicking(null)} choose=${(picture) => { usePicture(picture, { well: picking }); setPicking(null); }} />`}
  </div>`;
}

function Well({ well, label, hint, picture, crop, take, pick, fail }) {
  const chooser = useRef(null);
  const [over, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    take(well, event.dataTransfer.files);
  };
  const inner = picture
    ? html`<${Held} picture=${picture} crop=${crop} />`
    : html`<div class="well-empty">
        <${Icon} name="image-plus" size="large" />
        <p class="small">${S.well.drop} <button type="button" class="link" id=${`well-${well}`} onClick=${() => chooser.current.click()}>${S.well.choose}</button></p>
        <button type="button" class="link small muted" onClick=${pick}>${S.well.fromGallery}</button>
      </div>`;
  return html`<div role="group" aria-label=${label} class=${`well ${over ? "over" : ""} ${picture ? "held" : ""}`} onDrop=${drop}
      onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)}>
    <p class="label"><span>${label}</span><span>${picture?.width ? S.well.size(picture.width, picture.height) : hint}</span></p>
    ${inner}
    ${picture && !picture.reading && html`<${FrameOf} well=${well} picture=${picture} fail=${fail} />`}
    <input ref=${chooser} type="file" accept="image/*,video/*" hidden aria-label=${label} onChange=${(event) => { take(well, event.target.files); event.target.value = ""; }} />
    ${picture && html`<${IconButton} icon="x" class="tiny well-remove" label=${S.well.remove(label)} onClick=${() => store.set({ [well]: null })} />`}
  </div>`;
}

function Held({ picture, crop }) {
  if (picture.reading) return html`<p class="well-empty small">${S.well.reading}</p>`;
  const inset = crop && {
    left: `${crop.left * 100}%`, top: `${crop.top * 100}%`,
    width: `${(crop.right - crop.left) * 100}%`, height: `${(crop.bottom - crop.top) * 100}%`,
  };
  return html`<figure class="stack tight">
    <div class="held-frame"><div class="held-picture">
      <img src=${picture.url} alt=${picture.name || S.well.picture} />
      ${inset && crop.words && html`<span class="crop" style=${inset}></span>`}
    </div></div>
    ${crop && html`<figcaption class="small muted">${crop.words ?? S.well.noCrop}</figcaption>`}
    ${picture.notes?.map((note) => html`<p class="small muted" key=${note}>${note}</p>`)}
  </figure>`;
}
