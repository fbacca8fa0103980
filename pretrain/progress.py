"""Progress of a run: its log, and skipped steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.storage.files import write_text


class Log:
    """Rows of JSON in a file.

    Parameters
    ----------
    path : Path
    first : int
        Steps that are done already. Rows after them are of steps that will come again, and are
        dropped; with 0 all are.
    """

    def __init__(self, path: Path, first: int = 0) -> None:
        self.path, kept = path, ""
        if first and path.exists():
            lines = path.read_text().splitlines()
            kept = "".join(f"{line}\n" for line in lines if _step(line) <= first)
        self._try(lambda: write_text(path, kept))

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        line = json.dumps(rounded(row)) + "\n"

        def add() -> None:
            with self.path.open("a") as file:
                file.write(line)

        self._try(add)

    def _try(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            raise LexLIPError(
                f"{self.path} cannot be written ({error.strerror or error}): make room, "
                "then go on with --resume"
            ) from error


def _step(line: str) -> float:
    """Step of a row; infinite where a kill left half of it."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as people read them: five digits, and nothing for other values.

    Examples
    --------
    >>> rounded({"step": 3, "contrast": 0.1234567, "self_mlm": float("nan")})
    {'step': 3, 'contrast': 0.12346, 'self_mlm': None}
    """
    return {
        k: (round(v, 5) if math.isfinite(v) else None) if isinstance(v, float) else v
        for k, v in row.items()
    }


@dataclass
class BadSteps:
    """Steps whose loss or gradient was no number: nothing of them is kept.

    Parameters
    ----------
    out : str
        The run, for the message.
    limit : int
        So many in a row end the run.
    skipped, in_a_row : int
        How many there were, and since the last good one.
    """

    out: str
    limit: int
    skipped: int = 0
    in_a_row: int = 0

    def is_bad(self, step: int, loss: float, norm: float) -> bool:
        """Whether a step must be skipped.

        Parameters
        ----------
        step : int
        loss, norm : float
            Weighted loss and length of the gradient, of the whole batch.

        Raises
        ------
        LexLIPError
            When there were too many in a row.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            self.in_a_row = 0
            return False
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if self.in_a_row >= self.limit:
            what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
            raise LexLIPError(
                f"{what} is {value} at step {step} of {self.out}, bad step {self.in_a_row} in a "
                "row: lower the learning rate, then start again from the last checkpoint "
                "(--resume) or from the beginning"
            )
        return True
