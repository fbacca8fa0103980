// What is asked, kept in the address, so that a link is a query and Back is undo.

import { readWords, written } from "./grammar.js";

/** Read a query from the search part of an address. */
export function read(search) {
  const given = new URLSearchParams(search);
  const words = given.has("words") ? readWords(given.get("words")) : null;
  return {
    q: given.get("q") ?? "",
    words: words?.length ? words : null, // the edited words; null: those the server makes of q
    where: given.get("where") ?? "",
    rerank: given.get("rerank") ?? "",
  };
}

/** Write it as an address. */
export function link({ q, words, where, rerank }) {
  const given = new URLSearchParams();
  if (q.trim()) given.set("q", q.trim());
  if (words) given.set("words", written(words));
  if (where) given.set("where", where);
  if (rerank) given.set("rerank", rerank);
  const text = given.toString();
  return text ? `?${text}` : location.pathname;
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

  get empty() {
    return !this.now.q.trim() && !this.now.words;
  }

  listen(listener) {
    this.listeners.push(listener);
  }

  tell(kind) {
    for (const listener of this.listeners) listener(this.now, kind);
  }
}
