// A looping player that steps frame by frame, or a picture.

import { Icon, IconButton, html, useEffect, useRef, useState } from "../core/dom.js";
import { S } from "../strings.js";

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Small results are drawn with hard pixels only when they are much smaller than the stage. */
const isTiny = (file) => Math.max(file.width, file.height) <= 256;

export function Player({ job, file }) {
  const shape = { aspectRatio: `${file.width} / ${file.height}` };
  const words = job.prompt || job.what;
  if (job.kind !== "video") {
    return html`<div class="screen"><img class=${`shown-picture ${isTiny(file) ? "tiny-source" : ""}`} style=${shape} src=${file.url} alt=${words} /></div>`;
  }
  return html`<${Video} file=${file} words=${words} shape=${shape} />`;
}

/** Call `look` for each frame that a video shows; return what ends that. */
function onFrames(video, look) {
  if (!video.requestVideoFrameCallback) { // Firefox before 132
    const timer = setInterval(look, 40);
    return () => clearInterval(timer);
  }
  let handle = 0;
  const follow = () => {
    look();
    handle = video.requestVideoFrameCallback(follow);
  };
  follow();
  return () => video.cancelVideoFrameCallback(handle);
}

function Video({ file, words, shape }) {
  const video = useRef(null);
  const [frame, setFrame] = useState(0);
  const [playing, setPlaying] = useState(false);
  const last = (file.frames ?? 1) - 1;

  useEffect(() => {
    const element = video.current;
    if (!calm()) element.play().catch(() => {}); // a browser may want a click first
    const look = () => setFrame(Math.min(last, Math.floor(element.currentTime * file.fps + 0.01)));
    return onFrames(element, look);
  }, [file.uri]);

  const step = (by) => {
    const element = video.current;
    element.pause();
    const next = (frame + by + last + 1) % (last + 1);
    element.currentTime = (next + 0.5) / file.fps;
  };
  const toggle = () => (video.current.paused ? video.current.play() : video.current.pause());
  const onKeyDown = (event) => {
    const acts = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), " ": toggle };
    if (!acts[event.key] || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    acts[event.key]();
  };
  return html`<div class="screen" role="group" aria-label=${words} tabindex="0" onKeyDown=${onKeyDown}>
    <video ref=${video} class=${`shown-picture ${isTiny(file) ? "tiny-source" : ""}`} style=${shape} src=${file.url} poster=${file.poster_url}
      loop muted playsinline preload="auto" aria-label=${words} onClick=${toggle}
      onPlay=${() => setPlaying(true)} onPause=${() => setPlaying(false)}></video>
    <div class="controls">
      <${IconButton} icon="arrow-left" class="quiet" label=${S.stage.back} onClick=${() => step(-1)} />
      <${IconButton} icon=${playing ? "pause" : "play"} class="quiet" label=${playing ? S.stage.pause : S.stage.play} onClick=${toggle} />
      <${IconButton} icon="arrow-right" class="quiet" label=${S.stage.forward} onClick=${() => step(1)} />
      <div class="meter thin"><span style=${{ width: `${((frame + 1) / (last + 1)) * 100}%` }}></span></div>
      <span class="mono small">${S.stage.frame(frame + 1, last + 1)}</span>
    </div>
  </div>`;
}
