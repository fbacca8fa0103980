// Filters as text: the clauses that menus write and read; anything else is left as it is.

const text = (value) => JSON.stringify(value);
const TEXT = '"(?:[^"\\\\]|\\\\.)*"';
const NAME = `(?:[A-Za-z_]\\w*|column\\(${TEXT}\\))`;
const NUMBER = "-?\\d+(?:\\.\\d+)?(?:e[+-]?\\d+)?";
const RESERVED = /^(?:and|or|not|in|is|if|else|for|lambda|True|False|None|column|while|with|as|class|def|del|from|import|pass|return|try|yield|global|assert|async|await|break|continue|elif|except|finally|nonlocal|raise)$/;
const DAY_ENDS = "T23:59:59";

const EQUALS = new RegExp(`^(${NAME}) == (${TEXT}|True|False)$`);
const INSIDE = new RegExp(`^\\((${NAME}) == (${TEXT}) or (${NAME})\\.startswith\\((${TEXT})\\)\\)$`);
const LIMIT = new RegExp(`^(${NAME}) (>=|<=) (${TEXT}|${NUMBER})$`);

const named = (name) => (/^[A-Za-z_]\w*$/.test(name) && !RESERVED.test(name) ? name : `column(${text(name)})`);
const nameOf = (written) => (written.startsWith("column(") ? JSON.parse(written.slice(7, -1)) : written);
const valueOf = (written) => (written === "True" ? true : written === "False" ? false : JSON.parse(written));

/** Divide a filter at its outermost `and`s; null where it has an outer `or`. */
function clauses(where) {
  const found = [];
  let [from, depth, quote] = [0, 0, null];
  for (let at = 0; at < where.length; at += 1) {
    const sign = where[at];
    if (quote) {
      if (sign === "\\") at += 1;
      else if (sign === quote) quote = null;
    } else if (sign === '"' || sign === "'") quote = sign;
    else if ("([".includes(sign)) depth += 1;
    else if (")]".includes(sign)) depth -= 1;
    else if (!depth && /^\sor\s/.test(where.slice(at, at + 4))) return null;
    else if (!depth && /^\sand\s/.test(where.slice(at, at + 5))) {
      found.push(where.slice(from, at).trim());
      from = at + 5;
      at += 3;
    }
  }
  return [...found, where.slice(from).trim()].filter(Boolean);
}

/** Read a filter: what each column is asked for ({value, inside}, or {from, to}), and the rest. */
export function readWhere(where) {
  const [asked, rest] = [new Map(), []];
  const divided = clauses(where);
  if (divided === null) return { asked, rest: [`(${where.trim()})`] };
  for (const clause of divided) {
    const equals = clause.match(EQUALS), inside = clause.match(INSIDE), limit = clause.match(LIMIT);
    try {
      if (equals && !asked.has(nameOf(equals[1]))) {
        asked.set(nameOf(equals[1]), { value: valueOf(equals[2]) });
      } else if (inside && inside[1] === inside[3] && valueOf(inside[4]) === `${valueOf(inside[2])}/`
        && !asked.has(nameOf(inside[1]))) {
        asked.set(nameOf(inside[1]), { value: valueOf(inside[2]), inside: true });
      } else if (limit) {
        const [name, side] = [nameOf(limit[1]), limit[2] === ">=" ? "from" : "to"];
        const there = asked.get(name) ?? {};
        if ("value" in there || side in there) throw new Error("twice");
        const end = valueOf(limit[3]);
        asked.set(name, { ...there, [side]: typeof end === "string" ? end.replace(DAY_ENDS, "") : end });
      } else rest.push(clause);
    } catch {
      rest.push(clause);
    }
  }
  return { asked, rest };
}

function written(name, wanted) {
  const column = named(name);
  const constant = (value) => (typeof value === "boolean" ? (value ? "True" : "False") : text(value));
  if ("value" in wanted) {
    const equal = `${column} == ${constant(wanted.value)}`;
    return wanted.inside ? [`(${equal} or ${column}.startswith(${text(`${wanted.value}/`)}))`] : [equal];
  }
  const isDay = (end) => typeof end === "string" && end.length === 10;
  const said = [];
  if (wanted.from !== undefined) said.push(`${column} >= ${constant(wanted.from)}`);
  if (wanted.to !== undefined) said.push(`${column} <= ${constant(isDay(wanted.to) ? `${wanted.to}${DAY_ENDS}` : wanted.to)}`);
  return said;
}

/** Write a filter; see `readWhere`. */
export function writeWhere({ asked, rest }) {
  return [...[...asked].flatMap(([name, wanted]) => written(name, wanted)), ...rest].join(" and ");
}
