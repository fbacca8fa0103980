"""Runs harnesses in processes of their own, and watches their time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.fuzz.child import FAILED, keep, load
from tests.reliability.fuzz.harness import Harness
from tests.reliability.fuzz.tally import Counts, Tally

ROOT = Path(__file__).resolve().parents[3]
HARNESSES = {
    "queries": "tests.reliability.fuzz.texts:Queries",
    "filters": "tests.reliability.fuzz.texts:Filters",
    "indexes": "tests.reliability.fuzz.indexes:Indexes",
    "pictures": "tests.reliability.fuzz.pictures:Pictures",
    "requests": "tests.reliability.fuzz.requests:Requests",
}
PATIENCE = 3.0
"""A process that tries one input for so many times its limit is ended."""

_LOOK = 0.05  # seconds
_SLOW_START = 120.0


@dataclass
class Report:
    """What became of a harness.

    Attributes
    ----------
    counts : Counts
    seconds : float
    lines : list of str
        Of failures that ended its process; others were printed by it.
    """

    counts: Counts
    seconds: float
    lines: list[str]


def run(
    spec: str, seconds: float, seed: int, failures: Path, guided: bool = False,
    replay: Path | None = None,
) -> Report:  # fmt: skip
    """Try inputs for some seconds; a process that hangs or dies is begun again.

    Parameters
    ----------
    spec : str
        MODULE:CLASS.
    seconds : float
    seed : int
        Of the first process; the next has the next.
    failures : Path
        Folder for inputs that fail.
    guided : bool
        By coverage, with atheris.
    replay : Path, optional
        One input, instead of new ones.
    """
    harness, begun, lines = load(spec), time.monotonic(), []
    with tempfile.TemporaryDirectory(dir=_quick()) as home:
        tally = Tally(Path(home) / "tally")
        while (left := begun + seconds - time.monotonic()) > 0:
            command = [
                sys.executable, "-m", "tests.reliability.fuzz.child", spec, "--seconds", str(left),
                "--seed", str(seed), "--tally", str(Path(home) / "tally"),
                "--failures", str(failures), *(["--guided"] if guided else []),
                *(["--replay", str(replay)] if replay else []),
            ]  # fmt: skip
            quiet = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]]), "TMPDIR": home}
            quiet |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "LEXLIP_EXPORT": "0"}
            stderr = Path(home) / "stderr"
            with stderr.open("wb") as said:
                child = subprocess.Popen(command, cwd=ROOT, stderr=said, env=os.environ | quiet)
                why = _watch(child, harness, tally, left)
            counts = tally.read()
            if why is None and counts.since:
                why = f"died, {child.returncode}"
            lost = why is None and child.returncode not in (0, FAILED)
            if lost:
                why = f"ended with {child.returncode}"
            if why is not None:
                last = stderr.read_text(errors="replace").strip()[-300:]
                lines.append(
                    f"{harness.name}: {why} {last}\n{keep(harness.name, tally.present(), failures)}"
                )
                counts.failures += 1
                counts.inputs += bool(counts.since)
                counts.since = 0.0
                tally.counts = counts
                tally.write()
                print(lines[-1], flush=True)
            if replay or lost:
                break
            seed += 1
        return Report(tally.read(), time.monotonic() - begun, lines)


def _watch(
    child: subprocess.Popen[bytes], harness: Harness, tally: Tally, left: float
) -> str | None:
    """Wait until a process ends; end it where it takes too much. Returns why."""
    begun = time.monotonic()
    while child.poll() is None:
        time.sleep(_LOOK)
        now, counts = time.monotonic(), tally.read()
        why = None
        if counts.since and now - counts.since > PATIENCE * harness.seconds:
            why = f"hangs: over {PATIENCE * harness.seconds:.0f} s"
        elif _resident(child.pid) > 1.5 * harness.megabytes:
            why = f"memory: over {1.5 * harness.megabytes:.0f} MB"
        elif now - begun > left + _SLOW_START:
            why = "does not end"
        if why is not None:
            child.kill()
            child.wait()
            return why
    return None


def _resident(pid: int) -> float:
    """Return the memory of a process now, in MB."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _quick() -> str | None:
    """Return a file system in memory, where there is one: harnesses write many small files."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
