// One picture, large: which words found it, what each adds, where each was seen.

import { picture, remove, show } from "./api.js";
import { $, make, number } from "./dom.js";
import { clear, explanation, paint, place } from "./heat.js";

const signed = (value) => `${value < 0 ? "−" : ""}${number(Math.abs(value))}`;

export class Detail {
  /** actions: hits(), closed(image), similar(file), removed(hit); `readOnly` hides Delete. */
  constructor(actions) {
    this.actions = actions;
    this.readOnly = true;
    this.dialog = $("detail");
    $("close").onclick = () => this.dialog.close();
    $("previous").onclick = () => this.step(-1);
    $("next").onclick = () => this.step(1);
    $("similar").onclick = () => this.guarded(async () => {
      const file = await picture(this.hit.image);
      this.dialog.close();
      await actions.similar(new File([file], this.hit.id, { type: file.type }));
    });
    $("delete").onclick = () => this.sure(true);
    $("no").onclick = () => this.sure(false);
    $("yes").onclick = () => this.guarded(async () => {
      await remove(this.hit.image);
      const gone = this.hit;
      this.hit = null;
      this.dialog.close();
      actions.removed(gone);
    });
    this.dialog.addEventListener("close", () => {
      if (this.hit) actions.closed(this.hit.image);
      this.hit = null;
    });
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) this.step(step);
    });
  }

  sure(asked) {
    $("sure").hidden = !asked;
    $("delete").hidden = asked || this.readOnly;
    if (asked) $("no").focus();
    else if (!this.readOnly && this.dialog.open) $("delete").focus();
  }

  async guarded(action) {
    try {
      await action();
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error) {
    $("detail-error").textContent = error.message;
    $("detail-error").hidden = false;
  }

  step(by) {
    const hits = this.actions.hits();
    const next = hits[hits.findIndex(({ image }) => image === this.hit?.image) + by];
    if (next) this.open(next, this.query);
  }

  /** Show a hit of a query. */
  async open(hit, query) {
    this.hit = hit;
    this.query = query;
    const hits = this.actions.hits();
    const at = hits.findIndex(({ image }) => image === hit.image);
    $("previous").disabled = at <= 0;
    $("next").disabled = at < 0 || at === hits.length - 1;
    $("detail-title").textContent = hit.id;
    $("detail-facts").textContent = this.facts(hit);
    $("detail-picture").alt = `Picture ${hit.id}`;
    for (const id of ["detail-error", "sure", "became"]) $(id).hidden = true;
    $("delete").hidden = this.readOnly;
    clear($("detail-heat"));
    this.wanted = null;
    this.rows(hit.words.map((word) => ({ ...word, query: null, impact: null })), null);
    show($("detail-picture"), hit.image, "full").catch((error) => this.fail(error));
    if (!this.dialog.open) {
      this.dialog.showModal();
      $("detail-title").focus();
    }
    await this.guarded(async () => {
      const found = await explanation(query, hit.image);
      if (this.hit !== hit) return;
      this.rows(found.words, found.patches, found.score);
      this.tokens(found.texts);
      this.changed(found.changed);
    });
  }

  /** Say that the file is not the picture that was indexed. */
  changed(changed) {
    if (!changed) return;
    this.note = "This picture has changed since it was indexed: patches may differ.";
    $("detail-note").textContent = this.note;
  }

  /** Say which words each word of the texts raised; subtracted texts have a minus. */
  tokens(texts) {
    const all = texts.flatMap(({ weight, words }) => words.map(({ word, terms }) => ({ word: weight < 0 ? `−${word}` : word, terms })));
    const said = all.filter(({ terms }) => Object.keys(terms).length);
    $("became").hidden = !said.length;
    $("tokens").replaceChildren(...said.flatMap(({ word, terms }) => [
      make("dt", { textContent: word }),
      make("dd", { textContent: Object.entries(terms).map(([term, weight]) => `${term} ${number(weight)}`).join(", ") }),
    ]));
  }

  facts(hit) {
    const said = [`Rank ${hit.rank}`, `score ${number(hit.score)}`];
    if (typeof hit.first_stage === "number") said.push(`by words ${number(hit.first_stage)}`);
    if (typeof hit.rerank === "number") said.push(`second look ${number(hit.rerank)}`);
    if (typeof hit.uncertainty === "number") said.push(`uncertainty ${number(hit.uncertainty)}`);
    return said.join(" · ");
  }

  rows(words, patches, score = null) {
    const held = this.dialog.contains(document.activeElement) ? document.activeElement.dataset.word : null;
    const most = Math.max(...words.map((word) => Math.abs(word.score)), 1);
    $("rows").replaceChildren(...words.map((word) => {
      const there = Boolean(patches?.words[word.word]);
      const button = make("button", {
        type: "button", textContent: word.word, data: { word: word.word }, disabled: !there, "aria-pressed": "false",
        title: there ? `Where “${word.word}” was seen` : "",
      });
      button.onclick = () => this.pin(button, patches);
      button.onfocus = () => this.light(patches, word.word);
      button.onblur = () => this.light(patches, this.pinned);
      const bar = make("td", { className: "adds", textContent: signed(word.score), data: { sign: Math.sign(word.score) } });
      bar.style.setProperty("--share", `${((100 * Math.abs(word.score)) / most).toFixed(1)}%`);
      const row = make("tr", {
        onpointerenter: () => this.light(patches, word.word),
        onpointerleave: () => this.light(patches, this.pinned),
      }, make("th", { scope: "row" }, button),
      make("td", { textContent: word.query === null ? "" : signed(word.query) }),
      make("td", { textContent: word.impact === null ? "" : signed(word.impact) }), bar);
      return row;
    }));
    this.pinned = null;
    $("sum").textContent = score === null ? "" : number(score);
    this.note = score === null ? "" : patches
      ? "Point at a word to see where the model saw it."
      : "This picture's file is not at hand, so no word can be shown on it.";
    $("detail-note").textContent = this.note;
    if (held) $("rows").querySelector(`[data-word="${CSS.escape(held)}"]`)?.focus();
  }

  /** A click keeps a word's patches lit, a second one lets go: for fingers. */
  pin(button, patches) {
    this.pinned = this.pinned === button.dataset.word ? null : button.dataset.word;
    for (const other of $("rows").querySelectorAll("button")) {
      other.setAttribute("aria-pressed", other.dataset.word === this.pinned);
    }
    this.light(patches, this.pinned);
  }

  light(patches, word) {
    const lit = word && paint($("detail-heat"), patches, word);
    if (!lit) clear($("detail-heat"));
    $("detail-note").textContent = lit ? `“${word}” is clearest at the ${place(patches, word)}.` : this.note;
  }
}
