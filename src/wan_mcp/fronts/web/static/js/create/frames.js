// Frames of a video, drawn by the browser's own decoder.

/** Open a video for drawing, apart from the one that plays. */
async function opened(url) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  video.src = url;
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new Error(`cannot decode ${url}`));
  });
  return video;
}

async function seek(video, time) {
  await new Promise((resolve) => {
    video.onseeked = resolve;
    video.currentTime = time;
  });
}

function draw(video, width) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = Math.round((video.videoHeight / video.videoWidth) * width);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas;
}

const blobOf = (canvas, type) => new Promise((resolve) => canvas.toBlob(resolve, type, 0.85));

/** Yield { index, url } of `count` frames spread evenly, the first and the last among them; revoke the urls. */
export async function* thumbnails(file, count, width = 120) {
  const video = await opened(file.url);
  const frames = Math.min(count, file.frames);
  for (let at = 0; at < frames; at += 1) {
    const index = frames === 1 ? 0 : Math.round((at * (file.frames - 1)) / (frames - 1));
    await seek(video, (index + 0.5) / file.fps);
    yield { index, url: URL.createObjectURL(await blobOf(draw(video, width), "image/jpeg")) };
  }
}
