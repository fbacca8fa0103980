// Pictures of the index in the query, as chips: more like this, less like that.

import { show } from "./api.js";
import { $, baseName, idOf, make } from "./dom.js";

/** Draw the pictures; `change(image, side)` moves one to "more" or "less", or away. */
export function showSeeds({ more, less }, change) {
  const all = [...more.map((image) => [image, "more"]), ...less.map((image) => [image, "less"])];
  const held = $("seeds").contains(document.activeElement)
    ? [document.activeElement.dataset.do, document.activeElement.closest(".seed").dataset.image] : null;
  $("seeds").replaceChildren(...all.map(([image, side]) => seed(image, side, change)));
  $("seeds").hidden = !all.length;
  if (!held) return;
  const next = $("seeds").querySelector(`[data-image="${CSS.escape(held[1])}"] [data-do="${held[0]}"]`)
    ?? $("seeds").querySelector("button");
  (next ?? $("q")).focus();
}

function seed(image, side, change) {
  const name = baseName(idOf(image));
  const picture = make("img", { alt: "", decoding: "async", draggable: false });
  show(picture, image, "thumb").catch(() => {});
  const other = side === "more" ? "less" : "more";
  const turn = make("button", {
    type: "button", textContent: side === "more" ? "more like this" : "less like this", data: { do: "turn" },
    title: `Turn into ${other} like this`, "aria-label": `${side === "more" ? "More" : "Less"} like ${name}; turn into ${other}`,
    onclick: () => change(image, other),
  });
  const remove = make("button", {
    type: "button", textContent: "×", title: "Remove this picture", "aria-label": `Remove ${name} from the query`,
    data: { do: "remove" }, onclick: () => change(image, null),
  });
  return make("li", { className: "seed", data: { image, side } }, picture, turn, remove);
}
