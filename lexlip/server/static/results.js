// The grid: tiles that keep their place while pictures load, and their identity between searches.

import { show } from "./api.js";
import { $, baseName, calm, date, make, number } from "./dom.js";
import { clear, explanation, paint } from "./heat.js";

const WORDS = 5; // matched words a tile shows; the details have all
const PAUSE = 60; // ms a pointer rests on a word before its patches are asked for

/** The date of a picture, to be put behind its name. */
function dated(metadata) {
  const when = metadata?.taken ?? metadata?.modified;
  return when ? `, ${date(when, false)}` : "";
}

/**
 * A tile: a button with the picture and, below it, the words that found it. On the wall, where
 * nothing was looked for, there is the picture alone.
 */
class Tile {
  constructor(hit, grid) {
    this.image = hit.image;
    this.picture = make("img", { alt: "", loading: "lazy", decoding: "async", draggable: false });
    this.heat = make("canvas", { width: 1, height: 1, "aria-hidden": "true" });
    this.open = make("button", { type: "button", className: "open", onclick: () => grid.open(this.image) },
      this.picture, this.heat);
    this.name = make("span", { className: "name" });
    this.score = make("span", { className: "score", role: "img" }, make("i"));
    const nudge = (side, sign, said) => make("button", {
      type: "button", className: side, textContent: sign, title: said, tabIndex: -1,
      "aria-label": `${said}: ${baseName(hit.id)}`, onclick: () => grid.nudge(this.image, side),
    });
    this.nudges = make("span", { className: "nudges" },
      nudge("more", "+", "More like this"), nudge("less", "−", "Less like this"));
    this.words = make("ul", { className: "matched", role: "list", "aria-label": "Matched words" });
    this.element = make("li", { className: "tile", data: { image: hit.image } },
      this.open, make("p", { className: "legend" }, this.name, this.score), this.words, this.nudges);
    this.grid = grid;
    show(this.picture, hit.image, "thumb").catch(() => {});
    this.picture.onerror = () => this.open.classList.add("broken");
  }

  /** Show what a search said of this picture. */
  put(hit) {
    this.hit = hit;
    this.name.textContent = baseName(hit.id);
    this.name.title = hit.id;
    if (hit.rank === undefined) this.putAlone(hit);
    else this.putFound(hit);
    this.reachable(this.element === this.grid.current);
  }

  putAlone({ id, metadata }) {
    const when = dated(metadata);
    this.open.setAttribute("aria-label", `${id}${when}`);
    this.open.title = `${baseName(id)}${when}`;
    this.unlight();
    this.words.replaceChildren();
  }

  putFound(hit) {
    const said = hit.words.map(({ word }) => word).join(", ");
    const when = dated(hit.metadata);
    this.open.title = `${baseName(hit.id)}${when}`;
    this.open.setAttribute("aria-label", `${hit.rank}: ${hit.id}${when}, score ${number(hit.score)}, ${said}`);
    // Standard deviations where vectors order (scores are cosines), else a share of the query's words.
    const cosine = this.grid.vectors && hit.fit != null;
    const fit = hit.fit == null ? "" : cosine
      ? `fit ${hit.fit.toFixed(1)}, ` : `${Math.round(100 * hit.fit)} % of what was asked, `;
    this.score.title = `${fit}score ${number(hit.score)}`;
    this.score.setAttribute("aria-label", this.score.title);
    const share = Math.max(0, Math.min(1, this.grid.share(hit)));
    this.score.style.setProperty("--share", `${Math.round(100 * share)}%`);
    const most = Math.max(...hit.words.map(({ score }) => Math.abs(score)), 1);
    this.unlight();
    this.words.replaceChildren(...hit.words.slice(0, WORDS).map(({ word, score }) => {
      const button = make("button", {
        type: "button", textContent: word, tabIndex: -1,
        title: `${word}: ${score > 0 ? "+" : ""}${number(score)}`, data: { word, sign: Math.sign(score) },
      });
      button.style.setProperty("--share", `${Math.round((100 * Math.abs(score)) / most)}%`);
      button.onpointerenter = (event) => event.pointerType === "mouse" && this.light(word, PAUSE);
      button.onpointerleave = (event) => event.pointerType === "mouse" && this.unlight();
      button.onfocus = button.onclick = () => this.light(word, 0);
      button.onblur = () => this.unlight();
      return make("li", {}, button);
    }));
  }

  light(word, pause) {
    this.wanted = word;
    setTimeout(async () => {
      if (this.wanted !== word) return;
      this.heat.classList.add("coming");
      try {
        const { patches } = await explanation(this.grid.query, this.image);
        if (this.wanted !== word) return;
        if (!paint(this.heat, patches, word)) this.grid.tell(`No patches are known for “${word}” here.`);
      } catch (error) {
        if (this.wanted === word) this.grid.fail(error);
      } finally {
        this.heat.classList.remove("coming");
      }
    }, pause);
  }

  unlight() {
    this.wanted = null;
    clear(this.heat);
  }

  /** Only one tile at a time is in the order of Tab. */
  reachable(yes) {
    this.open.tabIndex = yes ? 0 : -1;
    for (const part of [this.words, this.nudges]) {
      for (const button of part.querySelectorAll("button")) button.tabIndex = yes ? 0 : -1;
    }
  }
}

export class Grid {
  /** actions: open(image), more(), nudge(image, side), fail(error), tell(text). */
  constructor({ open, more, nudge, fail, tell }) {
    Object.assign(this, { open, fail, tell, more, nudge });
    this.list = $("results");
    this.tiles = new Map();
    this.current = null;
    this.query = { q: "" };
    this.best = 1;
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("focusin", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) this.choose(tile);
    });
    $("more").onclick = () => more();
    this.watcher = new IntersectionObserver(
      (seen) => seen.some(({ isIntersecting }) => isIntersecting) && more(), { rootMargin: "500px" },
    );
  }

  /**
   * Show the hits of a new search, or add those of the next page; fits below `weak` are weak, and
   * `vectors` says that they are standard deviations. With `still` what is on show stays where it
   * is: others came while someone looks.
   */
  show(hits, query, more, first, { weak = null, vectors = false, still = false } = {}) {
    this.vectors = vectors;
    if (first) this.best = Math.max(...hits.map((hit) => this.height(hit)), 1e-9);
    const anchor = still ? this.anchor() : null;
    const held = this.list.contains(document.activeElement) ? document.activeElement : null;
    const before = first && !anchor ? this.places() : null;
    if (first) {
      this.query = query;
      const kept = new Set(hits.map(({ image }) => image));
      for (const [image, tile] of this.tiles) {
        if (kept.has(image)) continue;
        tile.element.remove();
        this.tiles.delete(image);
      }
    }
    let at = first ? 0 : this.list.children.length;
    for (const hit of hits) {
      const known = this.tiles.get(hit.image);
      if (known && !first) continue; // the index changed between two pages
      const tile = known ?? new Tile(hit, this);
      this.tiles.set(hit.image, tile);
      tile.put(hit);
      if (this.list.children[at] !== tile.element) this.list.insertBefore(tile.element, this.list.children[at] ?? null);
      at += 1;
    }
    if (!this.list.contains(this.current)) this.choose(this.list.firstElementChild);
    this.drawLine(weak);
    if (held && held !== document.activeElement && held.isConnected) held.focus({ preventScroll: true });
    if (anchor) scrollBy({ top: anchor.element.getBoundingClientRect().top - anchor.top, behavior: "instant" });
    if (before) this.glide(before);
    this.watch(more);
  }

  height({ score = 0, fit }) {
    return this.vectors && fit != null ? fit : score;
  }

  /** How good a hit is beside the best one, 0 to 1. */
  share(hit) {
    return this.height(hit) / this.best;
  }

  /** The first tile in sight and its place; null at the top of the page, where new ones may come. */
  anchor() {
    if (scrollY < 80) return null;
    const top = $("bar").getBoundingClientRect();
    const edge = top.top > innerHeight / 2 ? 0 : top.bottom;
    for (const element of this.list.children) {
      const { top: place, bottom } = element.getBoundingClientRect();
      if (bottom > edge) return { element, top: place };
    }
    return null;
  }

  /** Draw a line before the hits from which on none fits well. */
  drawLine(weak) {
    const { hits } = this;
    const last = hits.findLastIndex(({ fit }) => weak === null || fit == null || fit >= weak);
    [...this.list.children].forEach((element, at) => element.classList.toggle("weak", at === last + 1));
    this.weakFrom = last + 1 < hits.length ? last + 1 : null;
  }

  watch(more) {
    this.watcher.disconnect();
    $("more").hidden = !more;
    if (more) this.watcher.observe($("more"));
  }

  remove(image) {
    const element = this.tiles.get(image)?.element;
    if (!element) return;
    const next = element.nextElementSibling ?? element.previousElementSibling;
    element.remove();
    this.tiles.delete(image);
    this.choose(next);
    next?.querySelector(".open").focus();
  }

  get hits() {
    return [...this.list.children].map(({ dataset }) => this.tiles.get(dataset.image).hit);
  }

  choose(element) {
    if (this.current === element) return;
    this.tiles.get(this.current?.dataset.image)?.reachable(false);
    this.current = element;
    this.tiles.get(element?.dataset.image)?.reachable(true);
  }

  focus(image) {
    const element = this.tiles.get(image)?.element ?? this.current;
    element?.querySelector(".open").focus();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const tiles = [...this.list.children];
    const at = tiles.indexOf(event.target.closest(".tile"));
    if (at < 0) return;
    const wide = tiles.findIndex((tile) => tile.offsetTop > tiles[0].offsetTop);
    const columns = wide < 0 ? tiles.length : wide;
    const to = {
      ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns,
      Home: 0, End: tiles.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (to < 0 && event.key === "ArrowUp") $("q").focus();
    else tiles[Math.max(0, Math.min(tiles.length - 1, to))].querySelector(".open").focus();
  }

  places() {
    if (calm()) return null;
    return new Map([...this.list.children].map((tile) => [tile, tile.getBoundingClientRect()]));
  }

  /** Let tiles that moved glide to their new places. */
  glide(before) {
    for (const tile of this.list.children) {
      const [old, now] = [before.get(tile), tile.getBoundingClientRect()];
      if (now.top > innerHeight) break;
      if (!old) {
        tile.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 160 });
      } else if (old.left !== now.left || old.top !== now.top) {
        const from = `translate(${old.left - now.left}px, ${old.top - now.top}px)`;
        tile.animate([{ transform: from }, { transform: "none" }], { duration: 220, easing: "cubic-bezier(.2, .7, .2, 1)" });
      }
    }
  }
}
