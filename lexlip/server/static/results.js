// The grid: tiles that keep their place while pictures load, and their identity between searches.

import { show } from "./api.js";
import { $, calm, make, number } from "./dom.js";
import { clear, explanation, paint } from "./heat.js";

const WORDS = 5; // matched words a tile shows; the details have all
const PAUSE = 60; // ms a pointer rests on a word before its patches are asked for

/** A tile: a button with the picture and, below it, the words that found it. */
class Tile {
  constructor(hit, grid) {
    this.image = hit.image;
    this.picture = make("img", { alt: "", loading: "lazy", decoding: "async", draggable: false });
    this.heat = make("canvas", { width: 1, height: 1, "aria-hidden": "true" });
    this.open = make("button", { type: "button", className: "open", onclick: () => grid.open(this.image) },
      this.picture, this.heat);
    this.name = make("span", { className: "name" });
    this.score = make("span", { className: "score" });
    this.words = make("ul", { className: "matched", role: "list", "aria-label": "Matched words" });
    this.element = make("li", { className: "tile", data: { image: hit.image } },
      this.open, make("p", { className: "legend" }, this.name, this.score), this.words);
    this.grid = grid;
    show(this.picture, hit.image, "thumb").catch(() => {});
    this.picture.onerror = () => this.open.classList.add("broken");
  }

  /** Show what a search said of this picture. */
  put(hit) {
    this.hit = hit;
    const said = hit.words.map(({ word }) => word).join(", ");
    this.open.setAttribute("aria-label", `${hit.rank}: ${hit.id}, score ${number(hit.score)}, ${said}`);
    this.name.textContent = hit.id;
    this.name.title = hit.id;
    // Standard deviations where vectors order (scores are cosines), else a share of the query's words.
    const cosine = this.grid.vectors && hit.fit != null;
    this.score.textContent = cosine ? hit.fit.toFixed(1) : number(hit.score);
    this.score.title = hit.fit == null ? "score" : cosine
      ? `fit ${hit.fit.toFixed(1)}, score ${hit.score.toFixed(3)}`
      : `${Math.round(100 * hit.fit)} % of what was asked`;
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
    this.reachable(this.element === this.grid.current);
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
    for (const button of this.words.querySelectorAll("button")) button.tabIndex = yes ? 0 : -1;
  }
}

export class Grid {
  /** actions: open(image), more(), fail(error), tell(text). */
  constructor({ open, more, fail, tell }) {
    Object.assign(this, { open, fail, tell, more });
    this.list = $("results");
    this.tiles = new Map();
    this.current = null;
    this.query = "";
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
   * `vectors` says that they are standard deviations.
   */
  show(hits, query, more, first, { weak = null, vectors = false } = {}) {
    this.vectors = vectors;
    const before = first ? this.places() : null;
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
    if (before) this.glide(before);
    this.watch(more);
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
