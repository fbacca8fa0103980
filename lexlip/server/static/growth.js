// Pictures that are being added while the page is open: how far they are, and when they are there.

import { status } from "./api.js";
import { $, number } from "./dom.js";

const EVERY = 1000; // ms between two looks
const HIDDEN = 5000; // while nobody sees the page
const FAREWELL = 8000; // ms that the last words stay

/** 75 -> "about a minute left". */
export function timeLeft(seconds) {
  if (seconds < 8) return "a few seconds left";
  if (seconds < 50) return `about ${Math.max(10, Math.round(seconds / 10) * 10)} seconds left`;
  if (seconds < 90) return "about a minute left";
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} minutes left`;
  return `about ${Math.round(seconds / 3600)} hours left`;
}

function progress({ done, total, per_second: speed, seconds_left: left }) {
  const said = [total ? `${number(done)} of ${number(total)} pictures` : "Looking for pictures"];
  if (speed) said.push(`${number(speed >= 10 ? Math.round(speed) : Number(speed.toFixed(1)))} a second`);
  if (left !== null) said.push(timeLeft(left));
  return said.join(", ");
}

function ended({ documents, growth: { state, skipped, message } }) {
  if (state === "failed") return `No more pictures are added: ${message}`;
  const lost = skipped ? ` ${number(skipped)} ${skipped === 1 ? "file was" : "files were"} skipped.` : "";
  const there = `${number(documents)} ${documents === 1 ? "picture is" : "pictures are"} in the index.`;
  return state === "stopped" ? `Stopped: ${there}${lost}` : `${there}${lost}`;
}

/** Watch; `grown(documents)` is called, and waited for, when there are new pictures. */
export async function watchGrowth(grown) {
  let last = null;
  let seen = false; // whether the bar was there: an old job needs no last words
  for (;;) {
    let told;
    try {
      told = await status();
    } catch {
      if (!seen) return;
      await sleep(HIDDEN);
      continue;
    }
    const { growth, generation } = told;
    if (!growth) return;
    const going = growth.state === "indexing";
    if (!going && !seen && growth.state !== "failed") return;
    seen = true;
    draw(growth, going ? progress(growth) : ended(told), going);
    if (last !== null && last !== generation) await grown(told.documents);
    last = generation;
    if (!going) {
      if (growth.state !== "failed") {
        await sleep(FAREWELL);
        $("growth").hidden = true;
      }
      return;
    }
    await sleep(document.hidden ? HIDDEN : EVERY);
  }
}

function draw({ done, total }, text, going) {
  const bar = $("growth-bar");
  $("growth").hidden = false;
  bar.hidden = !going;
  bar.setAttribute("aria-valuemax", Math.max(total, 1));
  bar.setAttribute("aria-valuenow", done);
  bar.setAttribute("aria-valuetext", text);
  bar.style.setProperty("--share", `${(100 * done) / Math.max(total, 1)}%`);
  $("growth-text").textContent = text;
  if (!going) $("growth-end").textContent = text; // read out once, not every second
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
