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
