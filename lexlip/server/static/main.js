// The page: one state, one search at a time, everything else draws.

import { search, stats, wordsOf } from "./api.js";
import { Chips } from "./chips.js";
import { showCompare } from "./compare.js";
import { Detail } from "./detail.js";
import { $, debounced, make, milliseconds, number } from "./dom.js";
import { EXAMPLES, quoted, withCondition, withoutCondition } from "./grammar.js";
import { offerRerankers, showCost, spent } from "./panel.js";
import { showDropped, takePictures } from "./picture.js";
import { Grid } from "./results.js";
import { State } from "./state.js";

const PAGE = 24; // pictures asked for at a time
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

function report() {
  const shown = grid.tiles.size;
  tell(shown
    ? `${number(shown)} of ${number(answer.total)} pictures, ${milliseconds(spent(answer.cost))}`
    : `0 of ${number(answer.total)} pictures`);
  if (grid.weakFrom === 0) tell(`No picture fits this well. ${$("status").textContent}`);
  $("none").hidden = shown > 0;
}

/** Search for the state and show what comes, unless another search was begun since. */
async function run(kind) {
  asked?.abort();
  further?.abort();
  further = null;
  failLater.cancel();
  const { now } = state;
  $("empty").hidden = !state.empty;
  if (state.empty) {
    asked = null;
    busy(false);
    failed(null);
    answer = null;
    for (const id of ["columns", "words", "views"]) $(id).hidden = true;
    tell("");
    document.title = "lexlip";
    return;
  }
  const mine = asked = new AbortController();
  busy(true);
  const begun = performance.now();
  try {
    if (now.words && !now.words.some(([, weight]) => weight)) {
      throw new Error("Every word has the weight 0: move a slider, or add a word.");
    }
    const found = await search(now, 0, PAGE, mine.signal);
    if (asked !== mine) return;
    answer = found;
    failed(null);
    draw(now, performance.now() - begun);
  } catch (error) {
    if (asked !== mine || error.name === "AbortError") return;
    if (now.words) chips.show(now.words, answer?.query.conditions ?? []);
    $("words").hidden = !now.words && !answer;
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

function draw(now, trip) {
  for (const id of ["columns", "words"]) $(id).hidden = false;
  $("views").hidden = !others;
  chips.show(now.words ?? answer.query.words.map(({ word, weight }) => [word, weight]), answer.query.conditions);
  $("reset").hidden = !now.words || !now.q.trim();
  // As typed where nothing was edited: explanations then know the text too.
  grid.show(answer.hits, now.words ? answer.query.text : now.q, answer.next_offset !== null, true, line(answer));
  showCost(answer, trip);
  report();
  document.title = `${now.q.trim() || answer.query.text.slice(0, 60)} · lexlip`;
  if (comparing) compared();
}

async function more() {
  if (!answer || answer.next_offset === null || further || asked) return;
  const mine = further = new AbortController();
  const of = answer;
  try {
    const found = await search(state.now, of.next_offset, PAGE, mine.signal);
    if (further !== mine || answer !== of) return;
    answer.next_offset = found.next_offset;
    further = null;
    grid.show(found.hits, grid.query, found.next_offset !== null, false, line(found));
    report();
  } catch (error) {
    fail(error);
  } finally {
    if (further === mine) further = null;
  }
}

async function compared() {
  for (const id of ["results", "more"]) $(id).hidden = true;
  $("compare").hidden = false;
  try {
    await showCompare(grid.query, grid.hits, open);
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
  tell(`${hit.id} is deleted. ${$("status").textContent}`);
}

const chips = new Chips({
  weigh: (words, word) => state.set({ words }, `weigh ${word}`),
  drop: (words) => state.set({ words: words.length ? words : null, ...(!words.length && { q: "" }) }),
  exclude: (words, word) => {
    state.set({ q: withCondition(state.now.q, `-${quoted(word)}`), words: words.length ? words : null });
  },
  uncondition: (condition) => {
    state.set({ q: withoutCondition(state.now.q, condition, answer.query.read_as, answer.query.text) });
  },
});
const grid = new Grid({ open, more, fail, tell });
const detail = new Detail({
  hits: () => grid.hits, similar: usePicture, removed, closed: (image) => comparing || grid.focus(image),
});

const soon = debounced(run, TYPING);
const sooner = debounced(run, TYPING / 2);
state.listen((now, kind) => {
  soon.cancel();
  sooner.cancel();
  if ($("q").value.trim() !== now.q.trim()) $("q").value = now.q;
  if ($("where").value.trim() !== now.where) $("where").value = now.where;
  $("rerank").value = now.rerank;
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
$("view-grid").onclick = () => view(false);
$("view-compare").onclick = () => view(true);
takePictures(usePicture, (text) => fail(new Error(text)));

function example(text) {
  return make("button", {
    type: "button", textContent: text, className: "example",
    onclick: () => {
      $("help").hidePopover();
      state.set({ q: text, words: null });
      $("q").focus();
    },
  });
}

$("grammar").append(...EXAMPLES.flatMap(([text, meaning]) => [
  make("dt", {}, example(text)), make("dd", { textContent: meaning }),
]));

async function start() {
  const { now } = state;
  $("q").value = now.q;
  $("where").value = now.where;
  $("options").open = Boolean(now.where || now.rerank);
  $("panel").firstElementChild.open = matchMedia("(min-width: 60rem)").matches;
  const first = run("start");
  if (state.empty) $("q").focus();
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
  const texts = facts.examples?.length ? facts.examples : EXAMPLES.slice(0, 4).map(([text]) => text);
  $("examples").replaceChildren(...texts.map((text) => make("li", {}, example(text))));
  if (typeof facts.documents === "number") $("size").textContent = `${number(facts.documents)} pictures in this index`;
  others = facts.compare === true || facts.compare?.length > 0;
  $("views").hidden = !others || !answer;
}

start();
