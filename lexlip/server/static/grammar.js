// The few corners of the query grammar that the page writes itself; the server reads the rest.

/** Quote a word where the grammar needs it. */
export function quoted(word) {
  return /^[\p{L}\p{N}]+$/u.test(word) ? word : `"${word.replace(/[\\"]/g, "\\$&")}"`;
}

/** Write [[word, weight], ...] as the grammar does: dog^40 beach^-10. */
export function written(words) {
  return words.map(([word, weight]) => `${quoted(word)}^${weight}`).join(" ");
}

/** Read what `written` wrote; anything else is left out. */
export function readWords(text) {
  const words = new Map();
  for (const found of text.matchAll(/(?:"((?:[^"\\]|\\.)+)"|([^\s"]+?))\^(-?\d+(?:\.\d+)?)(?=\s|$)/g)) {
    const word = found[1] === undefined ? found[2] : found[1].replace(/\\(["\\])/g, "$1");
    words.set(word, Number(found[3]));
  }
  return [...words];
}

/** Add a condition to the text of a query. */
export function withCondition(q, condition) {
  return `${q.trim()} ${condition}`.trim();
}

/** Take a condition away: from the text as typed, else as it was read, else as words. */
export function withoutCondition(q, condition, readAs, canonical) {
  for (const text of [q, readAs, canonical]) {
    const at = ` ${text} `.indexOf(` ${condition} `);
    if (at >= 0) {
      return `${text.slice(0, Math.max(0, at))}${text.slice(at + condition.length)}`.replace(/\s+/g, " ").trim();
    }
  }
  return q;
}

/** What the help shows: [example, what it means]. */
export const EXAMPLES = [
  ["a red heart", "pictures like this text"],
  ["red heart + 2:moon", "two texts; the second counts twice"],
  ['heart + 0.5:"blue moon"', "quotes hold several words together"],
  ["red heart -moon", "no picture with that word"],
  ["red heart -0.5:moon", "moons count against a picture"],
  ["red must:blue", "only pictures with that word"],
  ["red must:blue>=30", "… with an impact of at least 30, of 255"],
  ["red^64 heart^30 moon^-20", "the words themselves, weighted"],
  ["red heart boost:red^2", "twice the weight of a word"],
  ["red heart missing:20", "words that a picture lacks cost it"],
];
