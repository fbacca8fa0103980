// The side panel: what a search cost, and what narrows it down.

import { $, make, milliseconds, number } from "./dom.js";

const STAGES = [["encode_ms", "Encode"], ["search_ms", "Search"], ["rerank_ms", "Second look"], ["explain_ms", "Explain"]];

function row(name, value, share = null) {
  const cell = make("dd", { textContent: value });
  if (share !== null) {
    const bar = make("i", { "aria-hidden": "true" });
    bar.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
    cell.append(bar);
  }
  return [make("dt", { textContent: name }), cell];
}

/** Show the cost of an answer; `trip` is what the browser measured, in ms. */
export function showCost(answer, trip) {
  const { cost } = answer;
  const stages = STAGES.filter(([stage]) => typeof cost[stage] === "number" && (cost[stage] > 0 || stage !== "rerank_ms"));
  const whole = Math.max(stages.reduce((sum, [stage]) => sum + cost[stage], 0), 1e-9);
  const rows = [row("Postings touched", number(cost.postings ?? 0))];
  for (const [stage, name] of stages) rows.push(row(name, milliseconds(cost[stage]), cost[stage] / whole));
  rows.push(row("Round trip", milliseconds(trip)));
  rows.push(row("Uncertainty", answer.uncertainty === null || answer.uncertainty === undefined ? "not measured" : number(answer.uncertainty)));
  rows.push(row("Pictures", number(answer.total)));
  $("cost").replaceChildren(...rows.flat());
}

/** Offer the rerankers that this index can use. */
export function offerRerankers(names) {
  $("second").hidden = !names.length;
  $("rerank").append(...names.map((name) => make("option", { value: name, textContent: name })));
}
