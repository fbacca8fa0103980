"""A server in a process of its own: its address, memory and open files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from lexlip.errors import LexLIPError

ROOT = Path(__file__).resolve().parents[2]


def pictures_of(given: str, home: Path) -> Path:
    """Return the folder of pictures that was given, or that of ``lexlip demo``, drawn in `home`."""
    if given:
        return Path(given).absolute()
    from lexlip.home.demo import demonstration

    return demonstration(home / "demo").parent / "demo-pictures"


class Served:
    """`lexlip serve` of an index, until the block ends.

    Parameters
    ----------
    index : path
    options : sequence of str
        More options of `lexlip serve`.
    tree : path
        Where lexlip is imported from.
    log : path, optional
        File for what the server says; its own errors by default.

    Raises
    ------
    LexLIPError
        When it does not start.
    """

    def __init__(
        self,
        index: str | os.PathLike[str],
        options: Sequence[str] = (),
        tree: str | os.PathLike[str] = ROOT,
        log: str | os.PathLike[str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "lexlip.cli", "serve", os.fspath(index), "--port", "0"]
        with open(os.devnull if log is None else log, "ab") as said:
            self.process = subprocess.Popen(
                [*command, *options],
                stdout=subprocess.PIPE,
                stderr=None if log is None else said,
                text=True,
                cwd=tree,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.fspath(tree)},
            )
        assert self.process.stdout is not None
        lines = (re.search(r"http://127\.0\.0\.1:(\d+)", line) for line in self.process.stdout)
        found = next((it for it in lines if it), None)
        if found is None:
            self.stop()
            raise LexLIPError(f"lexlip serve {index} does not start")
        self.port = int(found[1])

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def memory(self, what: str = "VmRSS") -> float:
        """Return its memory in MB: now, or the most that it had (VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{what}:")[2].split()[0]) / 1024

    def descriptors(self) -> int:
        """Return how many files and connections it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
