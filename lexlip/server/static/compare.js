// Other systems beside LexLIP, where the server has them.

import { compare, show } from "./api.js";
import { $, baseName, make } from "./dom.js";

const DEPTH = 12;
const OURS = "LexLIP";

function column(name, hits, ranks, open) {
  const items = hits.slice(0, DEPTH).map((hit, at) => {
    const picture = make("img", { alt: "", loading: "lazy", decoding: "async" });
    show(picture, hit.image, "thumb").catch(() => {});
    const other = ranks.get(hit.image);
    const place = name === OURS ? "" : other ? `rank ${other} in ${OURS}` : `not in ${OURS}'s first ${ranks.size}`;
    return make("li", {}, make("button", {
      type: "button", className: "open", onclick: () => open(hit.image, { rank: at + 1, words: [], ...hit }),
      "aria-label": `${name} ${at + 1}: ${hit.id}${place && `, ${place}`}`,
    }, picture), make("p", { className: "legend" },
      make("span", { className: "name", textContent: `${at + 1} · ${baseName(hit.id)}`, title: hit.id }),
      make("span", { className: "score", textContent: place })));
  });
  const title = make("h2", { textContent: name });
  return make("section", { "aria-label": name }, title, make("ol", { role: "list" }, ...items));
}

let latest = null; // the comparison asked for last

/** Show the same query in all systems. */
export async function showCompare(query, ours, open) {
  const mine = latest = {};
  const { systems } = await compare(query, DEPTH);
  if (latest !== mine) return;
  const others = systems.filter(({ name }) => name.toLowerCase() !== OURS.toLowerCase());
  const ranks = new Map(ours.map((hit) => [hit.image, hit.rank]));
  const all = [{ name: OURS, hits: ours }, ...others];
  $("compare").replaceChildren(...all.map(({ name, hits }) => column(name, hits, ranks, open)));
}
