// Filters as menus: folders, dates, frequent values, numbers; they write the same text as people.

import { columns } from "./api.js";
import { $, baseName, make, number } from "./dom.js";
import { readWhere, writeWhere } from "./where.js";

const LABELS = {
  taken: "Taken", modified: "File changed", folder: "Folder", camera: "Camera", bytes: "File size, bytes",
  latitude: "Latitude", longitude: "Longitude",
};
const FIRST = ["taken", "folder", "camera"];
const LAST = ["modified", "bytes", "latitude", "longitude"]; // seldom asked, where there are others

const label = (name) => LABELS[name] ?? name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");

/** Folders with those above them: [path, documents in it and below, whether it has others]. */
export function tree(values) {
  const counts = new Map();
  const parents = new Set();
  for (const { value, count } of values) {
    const parts = value.split("/");
    parts.forEach((_, at) => {
      const path = parts.slice(0, at + 1).join("/");
      counts.set(path, (counts.get(path) ?? 0) + count);
      if (at) parents.add(parts.slice(0, at).join("/"));
    });
  }
  return [...counts].sort(([one], [other]) => (one < other ? -1 : 1)).map(([path, count]) => [path, count, parents.has(path)]);
}

export class Filters {
  /** `narrow(where)` is called when someone chooses. */
  constructor(narrow) {
    this.narrow = narrow;
    this.where = "";
    this.fields = new Map(); // column -> function that shows what is asked for
    this.loaded = null;
  }

  /** Read the columns again; the menus in use keep what is chosen. */
  load() {
    this.loaded = (async () => {
      const { columns: found } = await columns();
      const held = $("menus").contains(document.activeElement) ? document.activeElement.id : null;
      this.fields.clear();
      const place = ({ name }) => [FIRST.indexOf(name) + 1 || 9, LAST.indexOf(name), name];
      const useful = found.filter((column) => this.useful(column))
        .sort((one, other) => (String(place(one)) < String(place(other)) ? -1 : 1));
      const dated = useful.some(({ name }) => name === "taken");
      const seldom = ({ name }) => LAST.includes(name) && (name !== "modified" || dated);
      $("menus").replaceChildren(...useful.filter((column) => !seldom(column)).map((column) => this.field(column)));
      $("more-menus").replaceChildren(...useful.filter(seldom).map((column) => this.field(column)));
      this.show(this.where);
      if (held) $(held)?.focus();
    })();
    return this.loaded;
  }

  /** Whether a menu helps: not for a single value, nor for text that is different everywhere. */
  useful({ kind, values, whole, min, max }) {
    if (kind === "str") return values.length > 1 && (whole || values[0].count > 1) && values[0].count > 1;
    return kind === "bool" ? values.length > 0 : min !== null && min !== max;
  }

  field(column) {
    const { name, kind } = column;
    if (kind === "str" || kind === "bool") return this.menu(column);
    return kind === "date" ? this.range(name, "date", (end) => end.slice(0, 10), column, String)
      : this.range(name, "number", String, column, Number);
  }

  menu({ name, values, kind, whole }) {
    const id = `menu-${name}`;
    const options = name === "folder" && kind === "str"
      ? tree(values).map(([path, count, parent]) => [
        { value: path, ...(parent && { inside: true }) },
        `${"\u2003".repeat(path.split("/").length - 1)}${baseName(path) || "(top)"} (${number(count)}${whole ? "" : "+"})`,
      ])
      : values.map(({ value, count }) => [
        { value }, `${value === true ? "yes" : value === false ? "no" : value || "(empty)"} (${number(count)})`,
      ]);
    const select = make("select", { id }, make("option", { value: "", textContent: "any" }),
      ...options.map(([, text], at) => make("option", { value: String(at), textContent: text })));
    select.onchange = () => this.ask(name, select.value === "" ? null : options[Number(select.value)][0]);
    this.fields.set(name, (wanted) => {
      select.querySelector("[data-other]")?.remove();
      const at = wanted ? options.findIndex(([{ value }]) => value === wanted.value) : -1;
      if (wanted && "value" in wanted && at < 0) { // a rare value, of a link
        select.append(make("option", { value: "other", textContent: String(wanted.value), data: { other: "" } }));
        select.value = "other";
      } else select.value = at < 0 ? "" : String(at);
    });
    return make("div", { className: "field" }, make("label", { htmlFor: id, textContent: label(name) }), select);
  }

  range(name, type, shown, { min, max }, read) {
    const ends = ["from", "to"].map((side) => {
      const input = make("input", {
        type, id: `menu-${name}-${side}`, "aria-label": `${label(name)}, ${side}`,
        min: shown(min), max: shown(max), ...(type === "number" && { step: "any", placeholder: shown(side === "from" ? min : max), inputMode: "decimal" }),
      });
      input.onchange = () => {
        const wanted = { ...this.asked.get(name) };
        delete wanted.value;
        delete wanted.inside;
        if (input.value === "") delete wanted[side];
        else wanted[side] = read(input.value);
        this.ask(name, Object.keys(wanted).length ? wanted : null);
      };
      return input;
    });
    this.fields.set(name, (wanted) => ends.forEach((input, at) => {
      const end = wanted?.[at ? "to" : "from"];
      const text = end === undefined ? "" : shown(String(end));
      if (document.activeElement !== input || text) input.value = text;
    }));
    const between = make("span", { className: "between" }, ends[0], make("span", { textContent: "–", "aria-hidden": "true" }), ends[1]);
    return make("div", { className: "field wide", role: "group", "aria-label": label(name) },
      make("span", { className: "label", textContent: label(name), "aria-hidden": "true" }), between);
  }

  get asked() {
    return readWhere(this.where).asked;
  }

  ask(name, wanted) {
    const read = readWhere(this.where);
    if (wanted) read.asked.set(name, wanted);
    else read.asked.delete(name);
    this.narrow(writeWhere(read));
  }

  /** Show a filter in the menus, and how much of it there is on the button. */
  show(where) {
    this.where = where;
    const { asked, rest } = readWhere(where);
    for (const [name, put] of this.fields) put(asked.get(name));
    const count = where.trim() ? asked.size + rest.length : 0;
    $("narrow-count").textContent = count ? String(count) : "";
    $("clear").hidden = !count;
  }
}
