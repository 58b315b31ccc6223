// Numbers in words. Pure.

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** 1234567 → "1.2 MB", in powers of 1000. */
export function bytes(count) {
  let unit = 0;
  let amount = count;
  while (amount >= 999.5 && unit < UNITS.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  const digits = unit > 0 && amount < 9.95 ? 1 : 0;
  return `${amount.toFixed(digits)} ${UNITS[unit]}`;
}

/** 0.4 → "0.4 s", 75 → "1 min 15 s", 4000 → "1 h 7 min". */
export function duration(seconds) {
  if (seconds < 9.95) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
  const minutes = Math.round(whole / 60);
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** 0.256 → "26%". Only what is done is 100%. */
export function percent(fraction) {
  return `${Math.min(fraction < 1 ? 99 : 100, Math.round(fraction * 100))}%`;
}

/** Unix seconds → "just now", "5 min ago", "14:03", "27 Nov 14:03". */
export function ago(at, now = Date.now() / 1000) {
  const passed = now - at;
  if (passed < 45) return "just now";
  if (passed < 3600) return `${Math.max(1, Math.round(passed / 60))} min ago`;
  const then = new Date(at * 1000);
  const time = then.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (then.toDateString() === new Date(now * 1000).toDateString()) return time;
  const day = then.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const year = then.getFullYear() === new Date(now * 1000).getFullYear() ? "" : ` ${then.getFullYear()}`;
  return `${day}${year} ${time}`;
}

/** Unix seconds → "27 Nov 2026, 14:03". */
export function day(at) {
  const then = new Date(at * 1000);
  const time = then.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${time}`;
}

/** A number without needless digits. */
export function plain(number) {
  return String(Number(number.toFixed(3)));
}

/** "first second" → "First second". */
export function capital(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : text;
}
