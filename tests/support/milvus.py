"""Milvus for tests: a server that runs, a file, or a server that is started and killed here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

_PATIENCE = 60


def why_not() -> str | None:
    """Why there is no Milvus, None where there is one."""
    if find_spec("pymilvus") is None:
        return "no pymilvus"
    if os.environ.get("LEXLIP_MILVUS_URI") or find_spec("milvus_lite") is not None:
        return None
    return "no Milvus: neither LEXLIP_MILVUS_URI nor milvus-lite"


class Milvus:
    """A server or a file, and places for indexes in it.

    Attributes
    ----------
    uri : str
        URL, or the path of a file.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._name = f"lexlip_test_{uuid4().hex}"
        self._made = 0

    def place(self) -> str:
        """Return a place where no index is."""
        self._made += 1
        return f"{self.uri}/{self._name}_{self._made}"

    def clean(self) -> None:
        """Delete what was made here."""
        from pymilvus import MilvusClient

        client = MilvusClient(self.uri)
        for name in client.list_collections():
            if name.startswith(self._name):
                with suppress(Exception):  # Milvus Lite has no aliases in its version 2
                    client.drop_alias(name.rpartition("_")[0])
                client.drop_collection(name)
        client.close()


class StartedServer:
    """A server of one's own on 127.0.0.1, which may be killed.

    Parameters
    ----------
    folder
        Where it keeps its data: they are there after another start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self._port = one.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        code = "from milvus_lite.cmdline import main; main()"
        words = ["server", "--data-dir", self._folder / "data", "--host", "127.0.0.1"]
        with open(self._folder / "server.txt", "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, words), "--port", str(self._port)],
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"no server: {(self._folder / 'server.txt').read_text()[-1000:]}")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(_PATIENCE)

    def stop(self) -> None:
        """Shut it down, and wait for it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def a_milvus(folder: Path) -> Iterator[Milvus]:
    """Yield a Milvus that answers: that of LEXLIP_MILVUS_URI, or a file in a folder."""
    running = os.environ.get("LEXLIP_MILVUS_URI", "").rstrip("/")
    found = Milvus(running or str(folder / "lexlip.db"))
    try:
        yield found
    finally:
        if running:
            found.clean()
