// The server, as functions. Errors are `Problem`s with one line for people.

const KEY = "lexlip-key";
let asking = null; // the dialog for the key, while it is open

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

function key() {
  return sessionStorage.getItem(KEY);
}

function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("ask");
    const field = document.getElementById("key");
    field.value = "";
    dialog.addEventListener("close", () => {
      asking = null;
      const given = dialog.returnValue === "ok" && field.value;
      if (given) sessionStorage.setItem(KEY, given);
      resolve(Boolean(given));
    }, { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });
  return asking;
}

/** Ask the server; returns its Response. `AbortError`s pass through. */
async function ask(path, options = {}) {
  const used = key();
  const headers = { ...options.headers, ...(used && { "X-API-Key": used }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer: is lexlip serve still running?", 0);
  }
  if (answer.status === 401) {
    if (key() !== used || await askForKey()) return ask(path, options);
    throw new Problem("This server wants an API key: reload the page to give it.", 401);
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Problem(said.error ?? `The server answered ${answer.status}.`, answer.status);
  }
  return answer;
}

const json = async (path, options) => (await ask(path, options)).json();
const post = (body, signal) => ({
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
});

/** One page of hits for a state. */
export function search({ q, words, more, less, where, rerank }, offset, k, signal) {
  if (words) {
    const given = Object.fromEntries(words.filter(([, weight]) => weight));
    return json("search", post(
      { q, words: given, more, less, k, offset, where, rerank: rerank || null, explain: true }, signal,
    ));
  }
  const asked = withPictures(new URLSearchParams({ q, k, offset, explain: "true" }), { more, less });
  if (where) asked.set("where", where);
  if (rerank) asked.set("rerank", rerank);
  return json(`search?${asked}`, { signal });
}

/** Name pictures of the index in an address. */
export function withPictures(asked, { more = [], less = [] }) {
  for (const image of more) asked.append("more", image);
  for (const image of less) asked.append("less", image);
  return asked;
}

/** One page of pictures without a query, newest first, in the form of hits. */
export async function wall(where, offset, limit, signal) {
  const asked = new URLSearchParams({ offset, limit });
  if (where) asked.set("where", where);
  const found = await json(`images?${asked}`, { signal });
  return { ...found, hits: found.images.map((image) => ({ ...image, words: [] })) };
}

/** The words of a picture. */
export function wordsOf(file) {
  const body = new FormData();
  body.set("file", file, file.name || "picture");
  return json("words", { method: "POST", body });
}

export function explain({ q, more, less }, image) {
  return json(`explain?${withPictures(new URLSearchParams({ q, image }), { more, less })}`);
}

export function compare(q, k) {
  return json(`compare?${new URLSearchParams({ q, k })}`);
}

export function remove(image) {
  return json(`images/${encodeURIComponent(image)}`, { method: "DELETE" });
}

export const stats = () => json("stats");
export const status = () => json("status");
export const columns = () => json("columns");
export const frequentWords = () => json("words");
export const factsOf = (image) => json(`images/${encodeURIComponent(image)}/facts`);

export const address = (image, size) => `images/${encodeURIComponent(image)}?size=${size}`;

/** The file of a picture. */
export async function picture(image) {
  return (await ask(address(image, "full"))).blob();
}

/** Whether addresses of pictures work by themselves; with a key they do not. */
export const open = () => !key();

/** Show a picture in an <img>; with a key it has to be fetched first. */
export async function show(element, image, size) {
  element.dataset.image = image;
  if (!key()) {
    element.src = address(image, size);
    return;
  }
  const blob = await (await ask(address(image, size))).blob().catch(() => null);
  if (!blob || element.dataset.image !== image) return;
  const url = URL.createObjectURL(blob);
  element.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  element.src = url;
}
