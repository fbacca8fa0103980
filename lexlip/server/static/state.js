// What is asked, kept in the address, so that a link is a query and Back is undo.

import { withPictures } from "./api.js";
import { readWords, written } from "./grammar.js";

const MOST = 8; // pictures of the index in one query, as the server takes them

/** Read a query from the search part of an address. */
export function read(search) {
  const given = new URLSearchParams(search);
  const words = given.has("words") ? readWords(given.get("words")) : null;
  return {
    q: given.get("q") ?? "",
    words: words?.length ? words : null, // the edited words; null: those the server makes of q
    more: given.getAll("more").slice(0, MOST), // pictures of the index that are added
    less: given.getAll("less").slice(0, MOST), // and subtracted
    where: given.get("where") ?? "",
    rerank: given.get("rerank") ?? "",
  };
}

/** Write it as an address. */
export function link({ q, words, more, less, where, rerank }) {
  const given = new URLSearchParams();
  if (q.trim()) given.set("q", q.trim());
  if (words) given.set("words", written(words));
  withPictures(given, { more, less });
  if (where) given.set("where", where);
  if (rerank) given.set("rerank", rerank);
  const text = given.toString();
  return text ? `?${text}` : location.pathname;
}

/** A change that adds a picture to one side, "more" or "less", and takes it from the other. */
export function nudged({ more, less }, image, side) {
  const without = { more: more.filter((it) => it !== image), less: less.filter((it) => it !== image) };
  if (side) without[side] = [...without[side], image].slice(-MOST);
  return without;
}

/** The current query. Listeners are called with it after every change. */
export class State {
  constructor() {
    this.now = read(location.search);
    this.listeners = [];
    this.kind = null;
    addEventListener("popstate", () => {
      this.now = read(location.search);
      this.kind = null;
      this.tell("history");
    });
  }

  /** Change it. Changes of one kind in a row (typing, one slider) are one step of the history. */
  set(change, kind = null) {
    const before = link(this.now);
    this.now = { ...this.now, ...change };
    const after = link(this.now);
    if (after !== before) {
      const again = kind !== null && kind === this.kind;
      history[again ? "replaceState" : "pushState"](null, "", after);
      this.kind = kind;
    }
    this.tell(kind);
  }

  /** Whether nothing is looked for; a filter narrows the wall then. */
  get empty() {
    const { q, words, more, less } = this.now;
    return !q.trim() && !words && !more.length && !less.length;
  }

  listen(listener) {
    this.listeners.push(listener);
  }

  tell(kind) {
    for (const listener of this.listeners) listener(this.now, kind);
  }
}
