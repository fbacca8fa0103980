"""A cluster of OpenSearch on this machine, whose nodes may be killed and started again.

Nodes are started by ``run.py --nodes N --dir DIR`` of the folder that LEXLIP_OPENSEARCH_HOME
names. It prints one line of JSON with `urls` and `pids`, and ends with its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from lexlip.errors import LexLIPError

SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Options of Java: half of the time of a short life goes into compiling well."""


def home() -> Path:
    """Return the folder of ``run.py``.

    Raises
    ------
    LexLIPError
        Where there is none.
    """
    found = Path(os.environ.get("LEXLIP_OPENSEARCH_HOME", "../shared/engines/opensearch"))
    if not (found / "run.py").is_file():
        raise LexLIPError("set LEXLIP_OPENSEARCH_HOME to a folder with run.py, which starts nodes")
    return found


class Cluster:
    """Nodes of one's own, until the block ends.

    Parameters
    ----------
    folder : Path
        Where they keep their data: they are there after another start.
    nodes : int
    options : str
        Of Java.
    heap : str
        Memory of each node's heap.
    program : Path, optional
        Folder of ``run.py``; by default `home`.

    Attributes
    ----------
    urls : list of str
        One a node.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 3,
        options: str = "",
        heap: str = "384m",
        program: Path | None = None,
    ) -> None:
        run = (program or home()) / "run.py"
        command = [sys.executable, run, "--nodes", nodes, "--dir", folder]
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = {**os.environ, "JAVA_TOOL_OPTIONS": options}
        self._again: dict[int, subprocess.Popen[bytes]] = {}
        with open(folder / "errors.txt", "w") as errors:
            self._process = subprocess.Popen(
                list(map(str, [*command, "--heap", heap])),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=self._environment,
            )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise LexLIPError(f"no cluster: {(folder / 'errors.txt').read_text()[-1000:]}")
        told = json.loads(line)
        self.urls: list[str] = told["urls"]
        self._pids: list[int] = told["pids"]
        self._logs = [Path(log) for log in told["logs"]]
        self._commands = [
            Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
            for pid in self._pids
        ]

    def place(self, name: str, options: str = "") -> str:
        """Return the place of an index that all nodes know."""
        hosts = ",".join(url.removeprefix("http://") for url in self.urls)
        return f"http://{hosts}/{name}{options}"

    def ask(self, path: str, node: int = 0) -> Any:
        """Return what a node answers to GET; None where it answers nothing."""
        try:
            with urllib.request.urlopen(self.urls[node] + path, timeout=2) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None

    @property
    def manager(self) -> int:
        """The node that manages the cluster, by election."""
        (found,) = self.ask("/_cat/cluster_manager?format=json")
        return int(found["node"].removeprefix("node-"))

    def signal(self, node: int, number: int) -> None:
        """Send a signal to a node: SIGSTOP lets it hang."""
        os.kill(self._pids[node], number)

    def kill(self, node: int) -> None:
        """Kill a node as a power cut would end it."""
        self.signal(node, signal.SIGKILL)
        if node in self._again:
            self._again.pop(node).wait(20)
        alive = Path(f"/proc/{self._pids[node]}/cmdline")
        while alive.exists() and alive.read_bytes():  # one that is dead has none
            time.sleep(0.02)

    def start(self, node: int) -> None:
        """Start a killed node again, with its data; it answers some seconds later."""
        with open(self._logs[node], "ab") as log:
            started = subprocess.Popen(
                self._commands[node], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self._environment,
            )  # fmt: skip
        self._again[node], self._pids[node] = started, started.pid

    def wait(self, nodes: int, status: str = "green", seconds: float = 120) -> None:
        """Wait until so many nodes are together, and their indexes have a status.

        Raises
        ------
        LexLIPError
            When that takes too long.
        """
        until, each = time.monotonic() + seconds, range(len(self.urls))
        path = f"/_cluster/health?wait_for_nodes={nodes}&wait_for_status={status}&timeout=1s"
        while not any((self.ask(path, n) or {}).get("timed_out") is False for n in each):
            if time.monotonic() > until:
                raise LexLIPError(f"the cluster is not {status} with {nodes} nodes")
            time.sleep(0.2)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Shut all nodes down, and wait for them."""
        for started in self._again.values():
            started.terminate()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        for started in self._again.values():
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
        self._process.wait(60)
        self._process.stdout.close()
