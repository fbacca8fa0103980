// The words of the query as chips: a slider for each weight, leave out, remove, add.

import { $, make } from "./dom.js";

const SHOWN = 8; // words before "more"
const LIMIT = 64; // weights of queries go up to this
const FIRST = 32; // weight of a word that someone adds

/** Draws chips and says what was done to them through `actions`. */
export class Chips {
  /** actions: weigh(words, word), drop(words), exclude(words, word), uncondition(condition). */
  constructor(actions) {
    this.actions = actions;
    this.words = [];
    this.items = new Map(); // word -> its parts
    this.open = false;
    $("all").onclick = () => {
      this.open = !this.open;
      this.fold();
    };
    $("add").onsubmit = (event) => {
      event.preventDefault();
      const word = $("word").value.trim().toLowerCase();
      if (!word) return;
      $("word").value = "";
      const words = this.words.filter(([other]) => other !== word);
      this.actions.drop([[word, FIRST], ...words]);
    };
  }

  /** Show these words ([[word, weight], ...]) and conditions; a slider in use is left alone. */
  show(words, conditions) {
    this.words = words.map(([word, weight]) => [word, weight]);
    const held = document.activeElement;
    const items = new Map();
    for (const [word, weight] of this.words) {
      const item = this.items.get(word) ?? this.chip(word);
      items.set(word, item);
      if (item.slider !== held || Number(item.slider.value) !== weight) this.put(item, weight);
    }
    for (const [word, item] of this.items) if (!items.has(word)) item.chip.remove();
    this.items = items;
    const list = $("chips");
    [...items.values()].forEach(({ chip }, at) => {
      if (list.children[at] !== chip) list.insertBefore(chip, list.children[at] ?? null);
    });
    this.fold();
    $("conditions").replaceChildren(...conditions.map((condition) => this.condition(condition)));
  }

  fold() {
    const more = this.words.length - SHOWN;
    [...$("chips").children].forEach((chip, at) => {
      chip.hidden = !this.open && at >= SHOWN;
    });
    $("all").hidden = more <= 0;
    $("all").textContent = this.open ? "Fewer words" : `${more} more word${more === 1 ? "" : "s"}`;
    $("all").setAttribute("aria-expanded", this.open);
  }

  put({ chip, slider, output }, weight) {
    slider.value = weight;
    const share = (Number(slider.value) / LIMIT) * 50;
    slider.style.setProperty("--from", `${50 + Math.min(0, share)}%`);
    slider.style.setProperty("--to", `${50 + Math.max(0, share)}%`);
    output.textContent = String(Number(weight.toFixed(1))).replace("-", "−");
    chip.dataset.sign = Math.sign(weight);
  }

  chip(word) {
    const slider = make("input", {
      type: "range", min: -LIMIT, max: LIMIT, step: 1, "aria-label": `Weight of ${word}`,
    });
    const output = make("output", { "aria-hidden": "true" });
    const exclude = make("button", {
      type: "button", textContent: "not", className: "not", title: `Leave out pictures with “${word}”`,
      "aria-label": `Leave out pictures with ${word}`,
      onclick: () => {
        this.actions.exclude(this.without(word), word);
        this.leave(word);
      },
    });
    const remove = make("button", {
      type: "button", textContent: "×", title: "Remove this word", "aria-label": `Remove ${word}`,
      onclick: () => this.remove(word),
    });
    const chip = make("li", { className: "chip", data: { word } },
      make("span", { className: "name", textContent: word }), slider, output, exclude, remove);
    const item = { chip, slider, output };
    slider.oninput = () => this.weigh(item, word, Number(slider.value));
    slider.onkeydown = (event) => {
      const step = { "+": 4, "=": 4, "-": -4, "_": -4 }[event.key];
      if (event.ctrlKey || event.metaKey) return;
      if (step) this.weigh(item, word, Math.max(-LIMIT, Math.min(LIMIT, Number(slider.value) + step)));
      else if (event.key === "Delete" || event.key === "Backspace") this.remove(word);
      else return;
      event.preventDefault();
    };
    return item;
  }

  weigh(item, word, weight) {
    this.put(item, weight);
    this.words = this.words.map(([other, old]) => [other, other === word ? weight : old]);
    this.actions.weigh(this.words, word);
  }

  without(word) {
    return this.words.filter(([other]) => other !== word);
  }

  remove(word) {
    this.actions.drop(this.without(word));
    this.leave(word);
  }

  /** Take a chip away at once; the keyboard goes on to the next. */
  leave(word) {
    const { chip } = this.items.get(word);
    const next = chip.nextElementSibling ?? chip.previousElementSibling;
    chip.remove();
    this.items.delete(word);
    (next?.querySelector("input") ?? $("word")).focus();
  }

  condition(condition) {
    const remove = make("button", {
      type: "button", textContent: "×", title: "Remove this condition",
      "aria-label": `Remove the condition ${condition}`,
      onclick: () => this.actions.uncondition(condition),
    });
    return make("li", { data: { condition } }, make("code", { textContent: condition }), remove);
  }
}
