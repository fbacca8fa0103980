// Small helpers for making elements.

export const $ = (id) => document.getElementById(id);

/** Make an element: make("button", {type: "button", onclick}, "text", child). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role") element.setAttribute(name, value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

const whole = new Intl.NumberFormat("en");

/** 1234 -> 1,234; 0.4567 -> 0.457. */
export function number(value) {
  if (Number.isInteger(value)) return whole.format(value);
  return Math.abs(value) >= 100 ? whole.format(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** 3.456 -> "3.5 ms". */
export function milliseconds(value) {
  return `${value >= 10 ? Math.round(value) : Number(value.toFixed(value >= 1 ? 1 : 2))} ms`;
}

/** Call `action` once, when `wait` ms have passed without another call. */
export function debounced(action, wait) {
  let timer;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(action, wait, ...given);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The name of a file without its folders. */
export const baseName = (id) => id.slice(id.lastIndexOf("/") + 1) || id;

/** The id that the opaque name of a picture stands for. */
export function idOf(image) {
  try {
    const bytes = Uint8Array.from(atob(image.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    return new TextDecoder().decode(bytes);
  } catch {
    return "a picture";
  }
}

const ISO = /^\d{4}-\d{2}-\d{2}/;
const day = new Intl.DateTimeFormat("en", { dateStyle: "long" });
const minute = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

/** "2024-05-31T17:05:00" -> "May 31, 2024, 5:05 PM"; other text stays as it is. */
export function date(text, times = true) {
  if (!ISO.test(text)) return String(text);
  const exact = /[T ]\d{2}:\d{2}/.test(text);
  const moment = new Date(exact ? text.replace(" ", "T") : `${text.slice(0, 10)}T12:00:00`);
  if (Number.isNaN(moment.getTime())) return text;
  return (exact && times ? minute : day).format(moment);
}

/** 41234 -> "41 kB". */
export function fileSize(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let at = 0;
  let value = bytes;
  while (value >= 1000 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
  return `${number(value >= 10 || !at ? Math.round(value) : Number(value.toFixed(1)))} ${units[at]}`;
}
