"""A Ray cluster of several machines on this one: each node has a loopback address of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from lexlip.errors import LexLIPError

_STARTED = 60
"""Seconds that a node may take to start."""


class Nodes:
    """A head without CPUs, and nodes that work; all end with the block.

    Parameters
    ----------
    count : int
        Nodes that work, on 127.0.0.3 and so on, with one CPU each.

    Examples
    --------
    >>> with Nodes(2) as nodes:                                              # doctest: +SKIP
    ...     subprocess.run([..., f"address={nodes.address}"], env=nodes.environment)
    """

    def __init__(self, count: int = 2) -> None:
        self._folder = tempfile.mkdtemp(prefix="lexlip-ray-", dir="/tmp")  # sockets: short names
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": self._folder,
        }
        with socket.socket() as free:
            free.bind(("127.0.0.2", 0))
            self.address = f"127.0.0.2:{free.getsockname()[1]}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.count = count

    def __enter__(self) -> Nodes:
        """Start all nodes, one after the other: two at once may miss each other."""
        port = self.address.rpartition(":")[2]
        try:
            self._start(0, "--head", f"--port={port}", "--include-dashboard=false", cpus=0)
            for number in range(1, self.count + 1):
                self._start(number, f"--address={self.address}", cpus=1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, number: int, *options: str, cpus: int) -> None:
        host, log = f"127.0.0.{2 + number}", Path(self._folder, f"node-{number}.log")
        with open(log, "wb") as out:
            node = subprocess.Popen(
                [Path(sys.executable).parent / "ray", "start", "--block", "--disable-usage-stats",
                 f"--node-ip-address={host}", f"--num-cpus={cpus}",
                 "--object-store-memory=100000000", *options],
                env=self.environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.nodes.append(node)
        end = time.monotonic() + _STARTED
        while b"Ray runtime started" not in log.read_bytes():
            if node.poll() is not None or time.monotonic() > end:
                raise LexLIPError(f"a Ray node did not start: {log.read_text()[-500:]}")
            time.sleep(0.2)

    def workers(self) -> list[Any]:
        """Return the processes that encode, on all nodes."""
        found = []
        for node in self.nodes:
            if node.poll() is None:
                below = psutil.Process(node.pid).children(recursive=True)
                found += [it for it in below if it.is_running() and _named(it, "ray::Encoder")]
        return found

    def kill_worker(self) -> int:
        """End one of them with SIGKILL, and return its id."""
        worker = self.workers()[0]
        worker.send_signal(signal.SIGKILL)
        return int(worker.pid)

    def kill_node(self, number: int = 1) -> None:
        """End all processes of a node with SIGKILL, as a power cut does."""
        node = self.nodes[number]
        every = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        for process in every:
            _kill(process)
        psutil.wait_procs(every, 10)
        node.wait(10)

    def __exit__(self, *error: object) -> None:
        """End what was started, and nothing else: ray stop ends all of a machine."""
        for number in reversed(range(len(self.nodes))):
            if self.nodes[number].poll() is None:
                self.kill_node(number)
        shutil.rmtree(self._folder, ignore_errors=True)


def _named(process: Any, start: str) -> bool:
    try:
        return any(part.startswith(start) for part in process.cmdline()[:1])
    except psutil.Error:
        return False


def _kill(process: Any) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.Error:
        pass
