// Where in a picture a word was seen: patches that light up.

import { explain } from "./api.js";

const KEPT = 128; // explanations in memory
const SIDE = 480; // longest side of the overlay in pixels
const known = new Map(); // query and image -> promise of an explanation

/** Explain one picture for a query ({q, more, less}); asked of the server once. */
export function explanation(query, image) {
  const key = JSON.stringify([query, image]);
  if (!known.has(key)) {
    const asked = explain(query, image);
    known.set(key, asked);
    asked.catch(() => known.delete(key));
    if (known.size > KEPT) known.delete(known.keys().next().value);
  }
  return known.get(key);
}

/** Draw a word's patches on a canvas that lies over the picture; false where there are none. */
export function paint(canvas, patches, word) {
  const heat = patches?.words[word];
  const most = heat ? Math.max(...heat) : 0;
  if (!(most > 0)) {
    clear(canvas);
    return false;
  }
  const [rows, columns] = patches.grid;
  const [width, height] = patches.size;
  const scale = SIDE / Math.max(width, height, 1);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const brush = canvas.getContext("2d");
  brush.clearRect(0, 0, canvas.width, canvas.height);
  const [left, top, right, bottom] = patches.box ?? [0, 0, 1, 1]; // what the model saw of it
  const x = (column) => Math.round((left + ((right - left) * column) / columns) * canvas.width);
  const y = (row) => Math.round((top + ((bottom - top) * row) / rows) * canvas.height);
  const winner = heat.indexOf(most);
  heat.forEach((value, at) => {
    const row = Math.floor(at / columns), column = at % columns, share = value / most;
    const box = [x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row)];
    brush.fillStyle = `rgb(12 14 18 / ${0.72 * (1 - share)})`; // unlit patches sink into the dark
    brush.fillRect(...box);
    brush.fillStyle = `rgb(255 170 40 / ${0.22 * share})`;
    brush.fillRect(...box);
  });
  const row = Math.floor(winner / columns), column = winner % columns;
  const inside = (at, most) => Math.min(Math.max(at, 2), most - 2); // no edge cuts the frame
  const [x0, x1] = [x(column), x(column + 1)].map((at) => inside(at, canvas.width));
  const [y0, y1] = [y(row), y(row + 1)].map((at) => inside(at, canvas.height));
  for (const [colour, thick] of [["rgb(20 16 8 / .8)", 7], ["rgb(255 190 70)", 3]]) {
    brush.strokeStyle = colour;
    brush.lineWidth = thick;
    brush.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
  canvas.dataset.word = word;
  return true;
}

/** Say in words where a word was seen most clearly: "top left". */
export function place(patches, word) {
  const heat = patches.words[word];
  const [rows, columns] = patches.grid;
  const at = heat.indexOf(Math.max(...heat));
  const third = (number, of, names) => names[Math.floor((3 * (number + 0.5)) / of)];
  const down = third(Math.floor(at / columns), rows, ["top", "", "bottom"]);
  const across = third(at % columns, columns, ["left", "", "right"]);
  return [down, across].filter(Boolean).join(" ") || "middle";
}

/** Take the overlay away. */
export function clear(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  delete canvas.dataset.word;
}
