"""The report of a race: a table and a plot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lexlip.storage.files import write_bytes

Row = Mapping[str, Any]
HEADS = (
    *("engine", "p50 ms", "p95 ms", "p99 ms", "cpu ms", "q/s", "x postings", "dense/x", "x floor"),
    *("R@10", "bytes", "build s", "open ms", "peak MB"),
)


def ratios(rows: Sequence[Row]) -> list[dict[str, float | None]]:
    """Compare the rows of one race by their median times.

    Returns
    -------
    list of dict
        For each row ``to_postings``, its time over that of the postings engine (2 is twice as
        slow as ours), and ``to_dense``, the time of the fastest exact dense engine over its time
        (2 is twice as fast as exact dense search). None without an engine to compare with.

    Examples
    --------
    >>> ours = {"engine": "postings", "kind": "sparse", "exact": True, "p50_ms": 1.0}
    >>> flat = {"engine": "numpy", "kind": "dense", "exact": True, "p50_ms": 8.0}
    >>> ratios([ours, flat])
    [{'to_postings': 1.0, 'to_dense': 8.0}, {'to_postings': 8.0, 'to_dense': 1.0}]
    """
    ours = next((row["p50_ms"] for row in rows if row["engine"] == "postings"), None)
    exact = [row["p50_ms"] for row in rows if row["kind"] == "dense" and row["exact"]]
    dense = min(exact, default=None)
    return [
        {
            "to_postings": row["p50_ms"] / ours if ours else None,
            "to_dense": dense / row["p50_ms"] if dense and row["p50_ms"] else None,
        }
        for row in rows
    ]


def races(rows: Sequence[Row]) -> dict[tuple[str, int], list[Row]]:
    """Group rows by (data, number of documents), in order of appearance."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["data"], row["n"]), []).append(row)
    return groups


def table(results: Mapping[str, Any]) -> str:
    """Format the content of ``metrics.json``: a block per race, the fastest engine first."""
    machine = results["machine"]
    lines = [
        f"{machine['cpus']} CPUs ({machine['processor']}), {results['date']}, seed "
        f"{results['settings']['seed']}; load {machine['load']}",
        "x postings: times slower than the postings engine. dense/x: times faster than exact dense",
        "search. x floor: time over that of reading the bytes a query must touch from memory;",
        "less than 1 if the vectors fit into the caches.",
    ]
    floors = {(floor["data"], floor["n"]): floor for floor in results["floors"]}
    for (data, n), rows in races(results["rows"]).items():
        lines += ["", f"{data}, {n:,} documents, k = {rows[0]['k']}"]
        pairs = sorted(zip(rows, ratios(rows), strict=True), key=lambda pair: pair[0]["p50_ms"])
        cells = [HEADS, *(_cells(row, ratio) for row, ratio in pairs)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(HEADS))]
        for line in cells:
            padded = [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
            lines.append("  ".join([line[0].ljust(widths[0]), *padded]))
        floor = floors.get((data, n), {})
        parts = [
            f"{kind}: {floor[kind]['bytes'] / 1e6:.3f} MB per query = {floor[kind]['ms']:.4f} ms"
            for kind in ("sparse", "dense")
            if kind in floor
        ]
        speed = floor.get("bandwidth_gb_s", 0.0)
        lines.append(f"floor at {speed:.1f} GB/s of one thread: {'; '.join(parts)}")
        for row, _ in pairs:
            if not row["exact"]:
                short = "" if row["reached"] else ", short of its target"
                lines.append(f"{row['engine']}: {_words(row['settings'])}{short}")
            if row["threads"] > 1:
                lines.append(f"{row['engine']}: {row['threads']} threads")
    lines += ["", *results["left_out"]] if results["left_out"] else []
    return "\n".join(lines) + "\n"


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "no settings"


def _cells(row: Row, ratio: Mapping[str, float | None]) -> tuple[str, ...]:
    return (
        row["engine"],
        *(_number(row[key], 3) for key in ("p50_ms", "p95_ms", "p99_ms", "cpu_ms")),
        _number(row["qps"], 0),
        _number(ratio["to_postings"], 2),
        _number(ratio["to_dense"], 2),
        _number(row["times_floor"], 2),
        "exact" if row["exact"] else f"{row['recall_at_10']:.3f}",
        _number(row["bytes_per_image"], 0),
        _number(row["build_s"], 1),
        _number(1000 * row["open_s"], 1),
        _number(row["peak_mb"], 0),
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def plot(results: Mapping[str, Any], path: str | Path) -> None:
    """Draw time per query over the number of documents, a panel for each kind of data."""
    from matplotlib.figure import Figure

    groups = races(results["rows"])
    names = list(dict.fromkeys(data for data, _ in groups))
    figure = Figure(figsize=(5.5 * len(names) + 2, 4.5), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    engines = list(dict.fromkeys(row["engine"] for row in results["rows"]))
    for axis, data in zip(axes, names, strict=True):
        for number, engine in enumerate(engines):
            points = [
                (n, row["p50_ms"])
                for (name, n), rows in groups.items()
                for row in rows
                if name == data and row["engine"] == engine
            ]
            if points:
                dense = any(r["engine"] == engine and r["kind"] == "dense" for r in results["rows"])
                axis.plot(
                    *zip(*sorted(points), strict=True),
                    ("--" if dense else "-") + "os^Dv*"[number // 10 % 6],
                    color=f"C{number % 10}",
                    label=engine,
                    linewidth=2.5 if engine == "postings" else 1.2,
                )
        floors = sorted(
            (f["n"], f["sparse"]["ms"])
            for f in results["floors"]
            if f["data"] == data and "sparse" in f
        )
        if floors:
            axis.plot(*zip(*floors, strict=True), "k:", marker="_", label="floor (memory)")
        axis.set(xscale="log", yscale="log", xlabel="documents", title=data)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("median milliseconds per query, one at a time")
    handles: dict[str, Any] = {}
    for axis in axes:
        lines, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_bytes(path, buffer.getvalue())
