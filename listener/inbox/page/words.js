// Numbers, sizes and moments as people read them.

const plain = new Intl.NumberFormat();
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayOfYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dayOfAll = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export const number = (value) => plain.format(value);

export const counted = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

/** A size in bytes. */
export function size(bytes) {
  if (bytes < 1024) return counted(bytes, "byte");
  const unit = bytes < 1048576 ? ["KiB", 1024] : ["MiB", 1048576];
  const value = bytes / unit[1];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit[0]}`;
}

/** A moment, short: the time today, else the day. */
export function when(text, now = new Date()) {
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return "";
  if (moment.toDateString() === now.toDateString()) return clock.format(moment);
  return (moment.getFullYear() === now.getFullYear() ? dayOfYear : dayOfAll).format(moment);
}

/** A moment in full. */
export function moment(text) {
  const found = new Date(text);
  return Number.isNaN(found.getTime()) ? "" : exact.format(found);
}

/** A person of a header: the name, else the address. */
export const person = (one) => one?.Name || one?.Address || "";

export const initial = (text) => (text.match(/\p{L}|\p{N}/u)?.[0] ?? "?").toUpperCase();
