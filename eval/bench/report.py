"""The table: one row per system, aligned for the terminal, or in Markdown.

python -m eval.bench.report runs/seed0 runs/seed1 markdown=true
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from eval.metrics import KS
from lexlip.cli.console import Job
from lexlip.errors import LexLIPError
from lexlip.settings import from_overrides, option
from lexlip.storage.files import read_json

HEADS = (
    *("system",),
    *(f"T2I@{k}" for k in KS),
    *(f"I2T@{k}" for k in KS),
    *("RSUM", "P@10", "terms", "bytes", "p50 ms"),
)
# Digits after the point, column by column (the first holds the name).
DIGITS = (0, *(1 for _ in KS), *(1 for _ in KS), 1, 3, 1, 0, 2)


def load(folder: str | Path) -> dict[str, Any]:
    """Read the numbers of one benchmark.

    Raises
    ------
    LexLIPError
        ``metrics.json`` is missing or unreadable.
    """
    path = Path(folder) / "metrics.json"
    results = read_json(path)
    if not isinstance(results, dict) or "systems" not in results:
        raise LexLIPError(f"{path} holds no results: python -m eval.bench writes it")
    return results


def table(runs: Mapping[str, Mapping[str, Any]], markdown: bool = False) -> str:
    """Format one or several benchmarks as a table, with notes and the chance level below.

    Rows of several runs carry the run's name; a system that was measured with two or more seeds on
    one split also gets a row of means, plus or minus the sample standard deviation.

    Parameters
    ----------
    runs : Mapping[str, Mapping]
        Name of a run -> the content of its ``metrics.json``.
    markdown : bool
        Markdown instead of aligned text.

    Returns
    -------
    str
        Recall in percent, P@10 as a fraction; a dash where a number is missing.
    """
    several = len(runs) > 1
    heads = (*(["run"] if several else []), *HEADS)
    rows = [
        [*([run] if several else []), name, *_cells(entry)]
        for run, results in runs.items()
        for name, entry in results["systems"].items()
    ]
    rows += _means(runs)
    for run, results in runs.items():
        if results.get("chance"):
            cells = _cells(results["chance"])
            rows.append([*([run] if several else []), "chance", *cells])
    lines = _markdown(heads, rows) if markdown else aligned(heads, rows, 2 if several else 1)
    return "\n".join([*lines, "", *_notes(runs, markdown)])


def _values(entry: Mapping[str, Any]) -> list[float | None]:
    """Return the numbers of an entry in the order of the columns, recall in percent."""
    recalls = [100.0 * entry[side][f"R@{k}"] for side in ("t2i", "i2t") for k in KS]
    keys = ("grounded_p10", "terms_per_image", "bytes_per_image", "p50_ms")
    return [*recalls, sum(recalls), *(entry.get(key) for key in keys)]


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [_number(v, d) for v, d in zip(_values(entry), DIGITS[1:], strict=True)]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _means(runs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """One row for each system with several seeds on one split."""
    groups: dict[tuple[str, str], dict[int, list[float | None]]] = {}
    for results in runs.values():
        for name, entry in results["systems"].items():
            # The pool and the data change the questions, so they separate groups too.
            settings = results.get("settings", {})
            place = "/".join(str(settings.get(key)) for key in ("data", "split", "limit", "pool"))
            groups.setdefault((name, place), {})[entry["seed"]] = _values(entry)
    rows = []
    for (name, _), seeds in groups.items():
        if len(seeds) > 1:
            columns = zip(zip(*seeds.values(), strict=True), DIGITS[1:], strict=True)
            cells = [_spread(values, digits) for values, digits in columns]
            rows.append([f"mean of {len(seeds)} seeds", name, *cells])
    return rows


def _spread(values: Sequence[float | None], digits: int) -> str:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return "-"
    return f"{mean(numbers):,.{digits}f} ±{stdev(numbers):.{digits}f}"


def aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> list[str]:
    """Format lines of aligned columns: the first `names` to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if i < names else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return [line(heads), "  ".join("-" * width for width in widths), *map(line, rows)]


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    names = len(heads) - len(HEADS) + 1
    ruler = ["---" if i < names else "---:" for i in range(len(heads))]
    return [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in [heads, ruler, *rows]
    ]


def _notes(runs: Mapping[str, Mapping[str, Any]], markdown: bool) -> list[str]:
    """Notes: input of every system, number of queries, and significance of the first row's lead."""
    bullet = "- " if markdown else ""
    notes: dict[str, None] = {}
    for results in runs.values():
        settings = results.get("settings", {})
        notes[
            f"{settings.get('data')}, split {settings.get('split')}: "
            f"{results['images']:,} pictures, {results['queries']:,} captions"
        ] = None
        for name, entry in results["systems"].items():
            notes[f"{name}: {entry['note']} ({entry['queries']:,} queries)"] = None
        for test in results.get("paired", []):
            notes[
                f"{test['a']} minus {test['b']}, {test['measure']}: "
                f"{100 * test['difference']:+.1f} points, p = {test['p_value']:.4f} "
                f"(randomisation over {test['units']:,} pictures)"
            ] = None
    return [bullet + note for note in notes]


@dataclass(frozen=True)
class Settings:
    """Settings of the printed table; each field is a key."""

    markdown: bool = option(False, "Markdown instead of aligned text")


def main(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="FOLDER|KEY=VALUE", help="folders that eval.bench wrote"),
    ],
) -> None:
    """Print the table of one or several benchmarks."""
    folders = [word for word in arguments if "=" not in word]
    settings = from_overrides(Settings, [word for word in arguments if "=" in word])
    if not folders:
        raise LexLIPError("no results: give folders that python -m eval.bench wrote")
    typer.echo(table({Path(name).name: load(name) for name in folders}, settings.markdown))


app = Job(main, Settings)

if __name__ == "__main__":
    app()
