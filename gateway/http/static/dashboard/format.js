// Numbers, sizes, times and states as a person reads them. All times shown are in the browser's zone.

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const EXACT = new Intl.DateTimeFormat("en-GB", {
  ...{
    year: "numeric",
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  },
  ...{ fractionalSecondDigits: 3, timeZoneName: "short" },
});
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

const DAY_MS = 86_400_000;
const ID = /^[0-9a-f]{32}$/;

export const STATES = ["scheduled", "queued", "running", "succeeded", "failed", "cancelled"];
export const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** The server's clock minus ours, in milliseconds; ages are told by the server's. */
let skewMs = 0;

/** Learn the server's clock from a time it just told. */
export function setClock(text) {
  const at = Date.parse(text);
  if (Number.isFinite(at)) skewMs = at - Date.now();
}

/** Milliseconds since 1970 by the server's clock. */
export function serverNow() {
  return Date.now() + skewMs;
}

export function count(value) {
  return value >= 100_000 ? COMPACT.format(value) : NUMBER.format(value);
}

/** A rate per minute: small ones keep a decimal. */
export function rate(perMinute) {
  if (perMinute === 0) return "0";
  return perMinute < 10 ? perMinute.toFixed(1) : count(Math.round(perMinute));
}

export function bytes(value) {
  if (value === null || value === undefined) return "—";
  if (value < 1024) return `${NUMBER.format(value)} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let size = value / 1024;
  let at = 0;
  for (; size >= 1024 && at < units.length - 1; at += 1) size /= 1024;
  return `${size < 10 ? size.toFixed(1) : NUMBER.format(size)} ${units[at]}`;
}

/** A span of time in at most two units. */
export function span(ms) {
  if (ms < 1) return "0 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600)
    return s % 60 && s < 600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.round(s / 60)} min`;
  if (ms < DAY_MS) {
    const minutes = Math.floor((s % 3600) / 60);
    return minutes ? `${Math.floor(s / 3600)} h ${minutes} min` : `${Math.floor(s / 3600)} h`;
  }
  const hours = Math.floor((s % 86_400) / 3600);
  return hours && s < 864_000 ? `${Math.floor(s / 86_400)} d ${hours} h` : `${Math.floor(s / 86_400)} d`;
}

/** How long ago, in one unit: it stands in tables and changes rarely. */
export function age(ms) {
  if (ms < 1500) return "1 s";
  if (ms < 60_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 2 * DAY_MS) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / DAY_MS)} d`;
}

/** "3 s ago" or "in 5 min" for a time as the server writes it. */
export function relative(text) {
  const ms = serverNow() - Date.parse(text);
  return ms >= 0 ? `${age(ms)} ago` : `in ${age(-ms)}`;
}

export function exact(text) {
  return EXACT.format(Date.parse(text));
}

/** The time of day, and the day if it is another one. */
export function clock(text) {
  const at = Date.parse(text);
  const today = new Date(serverNow()).toDateString() === new Date(at).toDateString();
  return today ? CLOCK.format(at) : `${DAY.format(at)}, ${CLOCK.format(at)}`;
}

/** The 32 digits of a whole job id, as the server accepts them, or null. */
export function wholeId(text) {
  const id = text.trim().replaceAll("-", "").toLowerCase();
  return ID.test(id) ? id : null;
}

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}
