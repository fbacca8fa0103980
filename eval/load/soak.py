"""A server for half an hour: searches beside a writer, other processes' commits and replacements.

    python -m eval.load.soak
    python -m eval.load.soak minutes=5 engine=lucene

The index is the one of ``lexlip demo``. Clients search, ask why and look at pictures; a writer
posts pictures, deletes them, and posts damaged ones; another one commits to the same index; and
every two minutes all of the index is replaced. Ends with 1 where a request had no answer, or
another answer than it is designed to have, and where memory or open files grew.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer

from eval.load.served import Served, pictures_of
from eval.load.work import Work
from lexlip.cli.console import Job, Overrides
from lexlip.data.scenes import make_scenes
from lexlip.models.shipped import SHIPPED, load_shipped
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_json

WARM = 0.25
"""Share of the run that is not judged: caches fill, and the allocator's pools."""

MAY_GROW = 0.05
"""Share of its memory by which a server may grow in the rest of the run."""

MORE_FILES = 16
"""Files that may be open in the last quarter beyond those of the second, by the median: a writer
opens as many as a reader for a moment, and some new columns stay open."""


@dataclass(frozen=True)
class Settings:
    """Settings of the run; each field is a key."""

    minutes: float = option(30.0, "how long")
    engine: str = option("postings", "of the index: postings or lucene")
    pictures: str = option("", "folder of pictures; those of lexlip demo by default")
    clients: int = option(4, "clients that search")
    pause: float = option(0.1, "seconds between two requests of a client")
    every: float = option(5.0, "seconds between two samples of memory and files")
    replace: float = option(120.0, "seconds between two replacements of the index")
    seed: int = option(0, "of pictures, requests and damage")
    out: str = option("runs/soak", "folder for soak.json and soak.svg")


def growth(minutes: list[float], memory: list[float]) -> dict[str, float]:
    """Judge memory over time, the warm-up left out.

    The slope is that of Theil and Sen, the median over all pairs of samples: a replacement, which
    needs memory for a moment, or a step of the allocator does not bend it. Its lower bound of 95 %
    counts, so noise is not growth; a leak is, when the run is long enough to see it.

    Returns
    -------
    dict
        `slope` and `least` (its lower bound) in MB an hour, and `share`: what the lower bound adds
        in the judged time, as a share of the median.
    """
    from scipy.stats import theilslopes

    at = np.array(minutes) / 60
    judged = at >= at[0] + WARM * (at[-1] - at[0])
    slope, _, least, _ = theilslopes(np.array(memory)[judged], at[judged])
    hours = float(np.ptp(at[judged]))
    share = float(least) * hours / float(np.median(np.array(memory)[judged]))
    return {"slope": float(slope), "least": float(least), "share": share}


def verdict(samples: list[dict[str, Any]], wrong: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return what was found, and why the run failed; no reason where it did not."""
    found: dict[str, Any] = growth([it["minute"] for it in samples], [it["MB"] for it in samples])
    files = [it["descriptors"] for it in samples]
    quarter = max(1, len(files) // 4)
    found["descriptors"] = [
        float(np.median(some)) for some in (files[quarter : 2 * quarter], files[-quarter:])
    ]
    reasons = list(wrong)
    if found["share"] > MAY_GROW:
        reasons.append(f"memory grows by {found['least']:.0f} MB an hour at least")
    if found["descriptors"][1] > found["descriptors"][0] + MORE_FILES:
        reasons.append(f"open files grow: {found['descriptors']}")
    return found, reasons


def plot(samples: list[dict[str, Any]], events: list[tuple[float, str]], path: Path) -> None:
    """Draw memory, open files and times over the minutes."""
    from matplotlib.figure import Figure

    minutes = [it["minute"] for it in samples]
    figure = Figure(figsize=(8, 6))
    axes = figure.subplots(3, 1, sharex=True)
    axes[0].plot(minutes, [it["MB"] for it in samples])
    axes[0].set(ylabel="memory, MB")
    axes[1].plot(minutes, [it["descriptors"] for it in samples])
    axes[1].set(ylabel="open files")
    for axis in axes[:2]:
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
    for share in ("p50", "p99"):
        axes[2].plot(minutes, [it[share] for it in samples], label=share)
    axes[2].set(ylabel="a search, ms", yscale="log", xlabel="minutes; lines: the index is replaced")
    axes[2].legend()
    for minute in (at for at, what in events if what == "replaced"):
        for axis in axes:
            axis.axvline(minute, color="0.85", linewidth=0.8, zorder=0)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def soak(settings: Settings, home: Path) -> dict[str, Any]:
    """Serve a copy of the demo, and let everybody work on it; return samples and counts."""
    from lexlip import Index

    pictures = pictures_of(settings.pictures, home)
    index, model = home / "served.lex", load_shipped()
    Index.create(index, model, pictures, engine=settings.engine, checkpoint=SHIPPED).close()
    scenes = [scene.draw(96) for scene in make_scenes(200, settings.seed + 1)]
    samples: list[dict[str, Any]] = []
    with Served(index, log=home / "log") as served:
        work = Work(served.port, index, model, pictures, scenes, settings)
        begun = time.monotonic()
        work.start()
        while time.monotonic() - begun < 60 * settings.minutes and served.alive:
            time.sleep(settings.every)
            times = work.taken()
            samples.append(
                {
                    "minute": (time.monotonic() - begun) / 60,
                    "MB": served.memory(),
                    "descriptors": served.descriptors(),
                    "searches": len(times),
                    "p50": 1000 * float(np.quantile(times, 0.5)) if times else None,
                    "p99": 1000 * float(np.quantile(times, 0.99)) if times else None,
                }
            )
        if not served.alive:
            work.wrong.append(f"the server ended with {served.process.returncode}")
        work.stop()
    said = (home / "log").read_text(errors="replace")
    if "Traceback" in said:
        work.wrong.append(f"the server's log has a traceback: {said[-2000:]}")
    found, reasons = verdict(samples, work.wrong)
    counts: dict[str, dict[str, int]] = {}
    for (what, status), count in sorted(work.counts.items()):
        counts.setdefault(what, Counter())[str(status)] = count
    return {
        "settings": asdict(settings),
        "found": found,
        "failed": reasons,
        "requests": counts,
        "p50": work.share(0.5),
        "p99": work.share(0.99),
        "events": work.events,
        "samples": samples,
    }


def main(overrides: Overrides = None) -> None:
    """Serve an index for some minutes under load, and say what came of it."""
    settings = from_overrides(Settings, overrides or [])
    home = Path(tempfile.mkdtemp(prefix="lexlip-soak-"))
    try:
        result = soak(settings, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "soak.json", result)
    plot(result["samples"], result["events"], out / "soak.svg")
    found = result["found"]
    typer.echo(json.dumps(result["requests"], indent=1))
    typer.echo(
        f"p50 {result['p50']:.1f} ms, p99 {result['p99']:.1f} ms; memory {found['slope']:+.1f} MB "
        f"an hour (at least {found['least']:+.1f}); open files {found['descriptors']}"
    )
    for reason in result["failed"]:
        typer.echo(f"failed: {reason}", err=True)
    if result["failed"]:
        raise typer.Exit(1)


app = Job(main, Settings)

if __name__ == "__main__":
    app()
