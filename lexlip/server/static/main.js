// The page: one state, one search at a time, everything else draws.

import { frequentWords, search, stats, wall, wordsOf } from "./api.js";
import { Chips } from "./chips.js";
import { showCompare } from "./compare.js";
import { Detail } from "./detail.js";
import { $, debounced, make, number } from "./dom.js";
import { Filters } from "./filters.js";
import { examples, quoted, withCondition, withoutCondition } from "./grammar.js";
import { watchGrowth } from "./growth.js";
import { offerRerankers, showCost } from "./panel.js";
import { showDropped, takePictures } from "./picture.js";
import { Grid } from "./results.js";
import { showSeeds } from "./seeds.js";
import { nudged, State } from "./state.js";
import { readWhere } from "./where.js";

const PAGE = 24; // pictures asked for at a time
const WALL = 60; // on the wall, where they are smaller
const MOST = 200; // that the server gives at a time
const RENEWED = 600; // pictures up to which a list is renewed while the index grows
const TYPING = 140; // ms without a key before a search; a slider waits half as long
const PATIENCE = 900; // ms before an error is shown to someone who is still typing

const state = new State();
let answer = null; // of the search on show
let asked = null; // AbortController of the search under way
let further = null; // of the next page
let comparing = false;
let others = false; // whether the server has other systems to compare with

/** Say what went wrong, or nothing any more. */
function fail(error) {
  if (error?.name === "AbortError") return;
  $("error").textContent = error ? error.message : "";
  $("error").hidden = !error;
}

/** The same for a search: what is on show is of another one then. */
function failed(error) {
  fail(error);
  $("columns").classList.toggle("stale", Boolean(error));
  if (error) $("q").setAttribute("aria-invalid", "true");
  else $("q").removeAttribute("aria-invalid");
}

const failLater = debounced(failed, PATIENCE);
const tell = (text) => {
  $("status").textContent = text;
};

const counted = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;

function report() {
  const shown = grid.tiles.size;
  const wholly = answer.next_offset === null;
  if (answer.wall && !state.now.where) tell(answer.total ? counted(answer.total, "picture", "pictures") : "");
  else if (answer.wall) tell(shown ? `${wholly ? "" : "First "}${counted(shown, "picture", "pictures")}` : "No picture is like that");
  else tell(shown ? `${wholly ? "" : "First "}${counted(shown, "hit", "hits")}` : "No hits");
  if (grid.weakFrom === 0) tell(`No picture fits this well. ${$("status").textContent}`);
  $("none").hidden = shown > 0;
  if (!shown) explainNone();
}

/** Say why there is nothing, and offer words that are near. */
function explainNone() {
  const { note, near = [] } = answer;
  $("none-text").textContent = note ? `${note[0].toUpperCase()}${note.slice(1)}.`
    : answer.wall ? (answer.total ? "No picture fulfils this filter." : "There is no picture in this index yet.")
      : "No picture shares a word with this query. Try other words, or fewer conditions.";
  $("near").replaceChildren(...near.map((word) => make("li", {}, example(word))));
  $("near-text").hidden = !near.length;
}

/** Ask for one page of what the state wants: hits, or without a query the wall. */
async function page(now, empty, offset, count, signal) {
  if (!empty) return search(now, offset, count, signal);
  return { ...await wall(now.where, offset, count, signal), wall: true };
}

/** Search for the state and show what comes, unless another search was begun since. */
async function run(kind) {
  asked?.abort();
  further?.abort();
  further = null;
  failLater.cancel();
  const { now, empty } = state;
  const mine = asked = new AbortController();
  busy(true);
  const begun = performance.now();
  try {
    if (now.words && !now.words.some(([, weight]) => weight)) {
      throw new Error("Every word has the weight 0: move a slider, or add a word.");
    }
    const found = await page(now, empty, 0, empty ? WALL : PAGE, mine.signal);
    if (asked !== mine) return;
    answer = found;
    failed(null);
    draw(now, performance.now() - begun);
  } catch (error) {
    if (asked !== mine || error.name === "AbortError") return;
    if (now.words) chips.show(now.words, answer?.query.conditions ?? []);
    $("words").hidden = empty;
    if (kind === "typing") failLater(error);
    else failed(error);
  } finally {
    if (asked === mine) {
      asked = null;
      busy(false);
    }
  }
}

/** How well hits fit, and from where on they are weak. */
const line = ({ weak_below: weak, ordered_by: by }) => ({ weak, vectors: by === "vectors" });

/** What explanations are asked for: as typed where nothing was edited, so that the text counts. */
function explained(now) {
  if (now.words) return { q: answer.query.text };
  return { q: now.q, more: now.more, less: now.less };
}

function draw(now, trip) {
  const { wall: alone } = answer;
  $("columns").hidden = false;
  $("words").hidden = Boolean(alone);
  $("intro").hidden = !alone || Boolean(now.where);
  $("views").hidden = !others || Boolean(alone);
  $("costs").hidden = Boolean(alone);
  $("results").classList.toggle("wall", Boolean(alone));
  if (alone) {
    if (comparing) view(false);
    grid.show(answer.hits, { q: "" }, answer.next_offset !== null, true);
    document.title = "lexlip";
  } else {
    chips.show(now.words ?? answer.query.words.map(({ word, weight }) => [word, weight]), answer.query.conditions);
    $("reset").hidden = !now.words || !now.q.trim();
    grid.show(answer.hits, explained(now), answer.next_offset !== null, true, line(answer));
    showCost(answer, trip);
    document.title = `${now.q.trim() || answer.query.text.slice(0, 60)} · lexlip`;
  }
  report();
  if (comparing) compared();
}

async function more() {
  if (!answer || answer.next_offset === null || further || asked) return;
  const mine = further = new AbortController();
  const of = answer;
  try {
    const found = await page(state.now, of.wall, of.next_offset, of.wall ? WALL : PAGE, mine.signal);
    if (further !== mine || answer !== of) return;
    answer.next_offset = found.next_offset;
    further = null;
    grid.show(found.hits, grid.query, found.next_offset !== null, false, of.wall ? {} : line(found));
    report();
  } catch (error) {
    fail(error);
  } finally {
    if (further === mine) further = null;
  }
}

/** Show what came into the index meanwhile; what is on show stays where it is. */
async function renew() {
  if (!answer || asked || further || comparing) return;
  const [of, { now }] = [answer, state];
  const wanted = Math.max(grid.tiles.size, of.wall ? WALL : PAGE);
  if (wanted > RENEWED) return;
  try {
    let found = null;
    const hits = [];
    do {
      const count = Math.min(MOST, wanted - hits.length);
      found = await page(now, of.wall, found?.next_offset ?? 0, count);
      if (answer !== of || asked || further) return;
      hits.push(...found.hits);
    } while (found.next_offset !== null && hits.length < wanted);
    answer = { ...found, hits };
    grid.show(hits, of.wall ? { q: "" } : explained(now), found.next_offset !== null, true,
      { ...(of.wall ? {} : line(found)), still: true });
    report();
  } catch {
    // the next look tries again
  }
}

async function compared() {
  for (const id of ["results", "more"]) $(id).hidden = true;
  $("compare").hidden = false;
  try {
    await showCompare(grid.query.q, grid.hits, open);
  } catch (error) {
    fail(error);
  }
}

function view(compare) {
  comparing = compare;
  $("view-grid").setAttribute("aria-pressed", !compare);
  $("view-compare").setAttribute("aria-pressed", compare);
  $("results").hidden = compare;
  $("compare").hidden = !compare;
  if (compare) compared();
  else grid.watch(answer.next_offset !== null);
}

let idle;
function busy(yes) {
  clearTimeout(idle);
  if (yes) idle = setTimeout(() => $("busy").classList.add("on"), 150);
  else $("busy").classList.remove("on");
  $("results").setAttribute("aria-busy", yes);
}

function open(image, other) {
  detail.open(grid.hits.find((hit) => hit.image === image) ?? other, grid.query);
}

async function usePicture(file) {
  busy(true);
  try {
    const { words } = await wordsOf(file);
    if (!words.length) throw new Error("The model has no word for this picture: try another one.");
    showDropped(file);
    $("q").value = "";
    state.set({ q: "", words: words.map(({ word, weight }) => [word, weight]) });
    scrollTo({ top: 0 });
  } catch (error) {
    fail(error);
  } finally {
    if (!asked) busy(false);
  }
}

function removed(hit) {
  grid.remove(hit.image);
  if (answer.next_offset !== null) answer.next_offset -= 1; // what follows has moved up
  answer.total -= 1;
  report();
  tell(`${hit.id} is removed from the index. ${$("status").textContent}`);
}

/** Add a picture of the index to the query, or subtract it; without a side it leaves the query. */
function nudge(image, side) {
  const change = nudged(state.now, image, side);
  if (side === "less" && state.empty) return;
  state.set(change);
  scrollTo({ top: 0 });
}

// Words that were edited stand for the whole query: pictures of the index are among them then.
const edited = { more: [], less: [] };
const chips = new Chips({
  weigh: (words, word) => state.set({ words, ...edited }, `weigh ${word}`),
  drop: (words) => state.set({ words: words.length ? words : null, ...edited, ...(!words.length && { q: "" }) }),
  exclude: (words, word) => {
    state.set({ q: withCondition(state.now.q, `-${quoted(word)}`), words: words.length ? words : null, ...edited });
  },
  uncondition: (condition) => {
    state.set({ q: withoutCondition(state.now.q, condition, answer.query.read_as, answer.query.text) });
  },
});
const grid = new Grid({ open, more, nudge, fail, tell });
const detail = new Detail({
  hits: () => grid.hits, nudge, removed, closed: (image) => comparing || grid.focus(image),
  similar: (image) => {
    state.set({ q: "", words: null, more: [image], less: [] });
    scrollTo({ top: 0 });
  },
});
const filters = new Filters((where) => state.set({ where }));

const soon = debounced(run, TYPING);
const sooner = debounced(run, TYPING / 2);
state.listen((now, kind) => {
  soon.cancel();
  sooner.cancel();
  if ($("q").value.trim() !== now.q.trim()) $("q").value = now.q;
  if ($("where").value.trim() !== now.where) $("where").value = now.where;
  $("rerank").value = now.rerank;
  filters.show(now.where);
  showSeeds(now, nudge);
  if (!now.words) showDropped(null);
  if (kind === "typing") soon(kind);
  else if (kind?.startsWith("weigh")) sooner(kind);
  else run(kind);
});

// The bar
$("q").addEventListener("input", () => state.set({ q: $("q").value, words: null }, "typing"));
$("bar").addEventListener("submit", (event) => {
  event.preventDefault();
  soon.cancel();
  state.kind = null; // what is typed next is a new step of the history
  run("enter");
});
$("q").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" && grid.tiles.size) {
    event.preventDefault();
    grid.focus();
  }
});
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=range]), select, textarea, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    $("q").focus();
    $("q").select();
  }
});

$("reset").onclick = () => state.set({ words: null });
$("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText(answer.query.text);
    tell("The query is copied: paste it into lexlip search.");
  } catch {
    fail(new Error("The browser did not allow copying: the address of this page holds the query too."));
  }
};
$("where").addEventListener("input", () => state.set({ where: $("where").value.trim() }, "typing"));
$("rerank").onchange = () => state.set({ rerank: $("rerank").value });
$("narrow").onclick = () => openPanel($("panel").hidden);
$("clear").onclick = () => {
  state.set({ where: "" });
  $("narrow").focus();
};
$("view-grid").onclick = () => view(false);
$("view-compare").onclick = () => view(true);
takePictures(usePicture, (text) => fail(new Error(text)));

function openPanel(yes) {
  $("panel").hidden = !yes;
  $("narrow").setAttribute("aria-expanded", yes);
  if (yes && !filters.loaded) filters.load().catch(fail);
}

function example(text) {
  return make("button", {
    type: "button", textContent: text, className: "example",
    onclick: () => {
      $("help").hidePopover();
      state.set({ q: text, words: null, more: [], less: [] });
      scrollTo({ top: 0 });
      $("q").focus();
    },
  });
}

/** Fill examples with words of this index. */
async function offerWords() {
  const { words, pairs } = await frequentWords();
  const told = words.map(({ word }) => word);
  const tries = [...pairs.slice(0, 3).map(([one, other]) => `${quoted(one)} ${quoted(other)}`), ...told.map(quoted)];
  if (told.length > 3) tries.splice(2, 0, `${quoted(told[0])} -${quoted(told[3])}`);
  $("examples").replaceChildren(...tries.slice(0, 8).map((text) => make("li", {}, example(text))));
  const paired = [...new Set([...pairs.flat(), ...told])];
  $("grammar").replaceChildren(...examples(paired).flatMap(([text, meaning]) => [
    make("dt", {}, example(text)), make("dd", { textContent: meaning }),
  ]));
}

async function start() {
  const { now } = state;
  $("q").value = now.q;
  $("where").value = now.where;
  showSeeds(now, nudge);
  filters.show(now.where);
  $("options").open = Boolean(now.rerank) || readWhere(now.where).rest.length > 0; // no menu shows it
  if (now.where || now.rerank) openPanel(true);
  const first = run("start");
  if (state.empty && matchMedia("(hover: hover)").matches) $("q").focus(); // no keyboard over the wall
  let facts = {};
  try {
    facts = await stats();
  } catch (error) {
    await first;
    if (!answer) fail(error);
  }
  detail.readOnly = facts.read_only ?? false;
  offerRerankers(facts.rerankers ?? []);
  $("rerank").value = now.rerank;
  others = facts.compare === true || facts.compare?.length > 0;
  $("views").hidden = !others || !answer || answer.wall;
  await first;
  offerWords().catch(() => {});
  watchGrowth(async () => {
    await renew();
    if (filters.loaded) await filters.load().catch(() => {});
    if (!$("examples").children.length) await offerWords().catch(() => {});
  });
}

start();
