// Sizes as drawn ratios, and the frame rule of a model. Pure.

/** The rectangle of a ratio inside a box of `side` units, centred. */
export function drawn({ width, height }, side = 22) {
  const scale = side / Math.max(width, height);
  const w = Math.max(4, width * scale);
  const h = Math.max(4, height * scale);
  return { x: (side - w) / 2, y: (side - h) / 2, width: w, height: h };
}

function divisor(a, b) {
  return b ? divisor(b, a % b) : a;
}

/** 1280×720 → "16:9"; a ratio without small numbers → "1.78:1". */
export function ratio({ width, height }) {
  const common = divisor(width, height);
  const [w, h] = [width / common, height / common];
  if (w <= 21 && h <= 21) return `${w}:${h}`;
  return width >= height ? `${Number((width / height).toFixed(2))}:1` : `1:${Number((height / width).toFixed(2))}`;
}

/** All frame counts that the rule allows, smallest first. */
export function frameCounts(rule) {
  const first = rule.offset + Math.ceil((rule.smallest - rule.offset) / rule.multiple) * rule.multiple;
  const counts = [];
  for (let frames = first; frames <= rule.largest; frames += rule.multiple) counts.push(frames);
  return counts;
}

/** The allowed count that is nearest to `frames`. */
export function nearestFrames(rule, frames) {
  return frameCounts(rule).reduce((best, each) => (Math.abs(each - frames) < Math.abs(best - frames) ? each : best));
}

/** Seconds that `frames` frames last. */
export function seconds(rule, frames) {
  return frames / rule.fps;
}
