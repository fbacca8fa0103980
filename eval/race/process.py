"""A worker process (`eval.race.worker`) and the pipe to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from eval.race import contender
from eval.race.base import Contender
from lexlip.errors import LexLIPError

ROOT = Path(__file__).resolve().parents[2]


class Missing(LexLIPError):
    """The engine cannot run here; the message names what is missing."""


class Process:
    """A worker process, and the pipe to it; closed by leaving a ``with`` block."""

    def __init__(self, name: str, vectors: Path, index: Path) -> None:
        self.engine = contender(name)
        python = sys.executable
        if self.engine.interpreter:
            python = os.environ.get(self.engine.interpreter, "")
            if not python:
                raise Missing(_advice(self.engine, f"{self.engine.interpreter} is not set"))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        threads |= dict.fromkeys(("MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        threads |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # The engine's output goes to a file, shown only when it fails.
        self._log = open(index.with_suffix(".log"), "a+", encoding="utf-8", errors="replace")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [python, "-m", "eval.race.worker", name, str(vectors), str(index)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                env={**os.environ, **threads, "PYTHONPATH": path},
            )
        except OSError as error:
            self._log.close()
            raise Missing(_advice(self.engine, f"{python}: {error.strerror}")) from None
        answer = self._answer()
        if "error" in answer:
            self.__exit__()
            raise Missing(_advice(self.engine, answer["error"]))
        self.versions: dict[str, str] = answer["versions"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._log.seek(0)
        last = self._log.read().strip().splitlines()[-1:] or ["no message"]
        return {"error": f"the process ended with {self._process.wait()}: {last[0]}"}

    def ask(self, command: str, **options: Any) -> dict[str, Any]:
        """Send a command and return the answer.

        Raises
        ------
        LexLIPError
            When the engine failed.
        """
        assert self._process.stdin is not None
        try:
            print(json.dumps({"do": command, **options}), file=self._process.stdin, flush=True)
            answer = self._answer()
        except BrokenPipeError:
            answer = self._answer()
        if "error" in answer:
            raise LexLIPError(f"{self.engine.name} failed at {command}: {answer['error']}")
        return answer

    def __enter__(self) -> Process:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, in any state."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


def _advice(engine: type[Contender], reason: str) -> str:
    need = " ".join(engine.packages)
    if engine.interpreter:
        need += f" into another environment and let {engine.interpreter} name its python"
    return f"{engine.name} is left out ({reason}): pip install {need}"
