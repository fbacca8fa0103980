// One picture, large: what is known of it, which words found it, where each was seen.

import { address, factsOf, open as addressed, picture, remove, show } from "./api.js";
import { $, baseName, date, fileSize, make, number } from "./dom.js";
import { clear, explanation, paint, place } from "./heat.js";

const signed = (value) => `${value < 0 ? "−" : ""}${number(Math.abs(value))}`;
const POSTED = "uploads/"; // ids of pictures that were posted to the server

export class Detail {
  /**
   * actions: hits(), closed(image), similar(image), nudge(image, side), removed(hit), tell(text).
   * `readOnly` hides what changes the index.
   */
  constructor(actions) {
    this.actions = actions;
    this.readOnly = true;
    this.dialog = $("detail");
    $("close").onclick = () => this.dialog.close();
    $("previous").onclick = () => this.step(-1);
    $("next").onclick = () => this.step(1);
    const leave = (action) => () => {
      const { image } = this.hit;
      this.dialog.close();
      action(image);
    };
    $("similar").onclick = leave((image) => actions.similar(image));
    $("more-like").onclick = leave((image) => actions.nudge(image, "more"));
    $("less-like").onclick = leave((image) => actions.nudge(image, "less"));
    for (const id of ["open-file", "download"]) $(id).onclick = (event) => this.fetched(event);
    $("copy-path").onclick = () => this.guarded(() => this.copy());
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

  /** Show a hit of a query, or a picture of the wall, where nothing was looked for. */
  async open(hit, query) {
    this.hit = hit;
    this.query = query;
    const found = hit.rank !== undefined;
    const hits = this.actions.hits();
    const at = hits.findIndex(({ image }) => image === hit.image);
    $("previous").disabled = at <= 0;
    $("next").disabled = at < 0 || at === hits.length - 1;
    $("detail-title").textContent = baseName(hit.id);
    $("detail-title").title = hit.id;
    $("detail-picture").alt = `Picture ${hit.id}`;
    for (const id of ["detail-error", "sure", "became"]) $(id).hidden = true;
    $("delete").hidden = this.readOnly;
    $("sure-text").textContent = hit.id.startsWith(POSTED)
      ? "It leaves the index, and its file goes too: it was posted here." : "It leaves the index. The file itself stays.";
    for (const id of ["why", "more-like", "less-like"]) $(id).hidden = !found;
    $("open-file").href = address(hit.image, "full");
    $("download").href = address(hit.image, "full");
    $("download").download = baseName(hit.id);
    this.path = null;
    this.facts(hit.metadata ?? {}, {});
    clear($("detail-heat"));
    this.wanted = null;
    show($("detail-picture"), hit.image, "full").catch((error) => this.fail(error));
    if (found) {
      $("detail-rank").textContent = this.rank(hit);
      this.rows(hit.words.map((word) => ({ ...word, query: null, impact: null })), null);
    }
    if (!this.dialog.open) {
      this.dialog.showModal();
      $("detail-title").focus();
    }
    this.guarded(async () => {
      const known = await factsOf(hit.image);
      if (this.hit !== hit) return;
      this.path = known.path;
      this.facts(known.metadata, known);
    });
    if (!found) return;
    await this.guarded(async () => {
      const reasons = await explanation(query, hit.image);
      if (this.hit !== hit) return;
      this.rows(reasons.words, reasons.patches, reasons.score);
      this.tokens(reasons.texts);
      this.changed(reasons.changed);
    });
  }

  /** What is known of the picture: when, where, how large, and all other metadata. */
  facts(metadata, { width, height, bytes = metadata.bytes }) {
    const { taken, modified, folder, camera, latitude, longitude, bytes: _, ...others } = metadata;
    const size = [width && `${number(width)} × ${number(height)}`, bytes != null && fileSize(bytes)].filter(Boolean);
    const rows = [
      taken && ["Taken", date(taken)],
      modified && !taken && ["Date", date(modified)],
      folder != null && ["Folder", folder || "(top)"],
      size.length && ["Size", size.join(", ")],
      camera && ["Camera", camera],
      latitude != null && longitude != null && ["Place", degrees(latitude, longitude)],
      modified && taken && ["File changed", date(modified)],
      ...Object.entries(others).map(([name, value]) => [name, String(value)]),
    ].filter(Boolean);
    $("facts").replaceChildren(...rows.flatMap(([name, value]) => [
      make("dt", { textContent: name }), make("dd", { textContent: value }),
    ]));
    $("copy-path").textContent = this.path ? "Copy path" : "Copy id";
  }

  async copy() {
    const text = this.path ?? this.hit.id;
    try {
      await navigator.clipboard.writeText(text);
      $("copy-path").textContent = "Copied";
    } catch {
      throw new Error(`The browser did not allow copying: ${text}`);
    }
  }

  /** With a key, addresses do not work by themselves: the file is fetched first. */
  fetched(event) {
    if (addressed()) return;
    const link = event.currentTarget;
    if (link.href.startsWith("blob:")) return;
    event.preventDefault();
    this.guarded(async () => {
      link.href = URL.createObjectURL(await picture(this.hit.image));
      link.click();
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

  rank(hit) {
    const said = [`Rank ${hit.rank}`];
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

function degrees(latitude, longitude) {
  const said = (value, plus, minus) => `${Math.abs(value).toFixed(4)}° ${value < 0 ? minus : plus}`;
  return `${said(latitude, "N", "S")}, ${said(longitude, "E", "W")}`;
}
