"""`lexlip serve` as a process of its own, for tests that harm it."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


class Served:
    """A running server: its process, its port, and what it logs."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def ask(self, path, method="GET", body=None, headers=(), seconds=20):
        """Return status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def search(self, query="red"):
        """Return the ids of a search."""
        status, body = self.ask(f"/search?q={query}&k=50")
        assert status == 200, body
        return [hit["id"] for hit in json.loads(body)["hits"]]

    def post(self, name, data, **options):
        """Post a picture."""
        head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + b"\r\n--b--\r\n"
        kind = [("Content-Type", "multipart/form-data; boundary=b")]
        return self.ask("/images", "POST", body, kind, **options)

    def memory(self):
        """Return the resident megabytes of the process."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


@contextmanager
def served(index, log, *options, first="", within=()):
    """Serve an index by the command line.

    `first` are commands of a shell before it, such as ``ulimit``, and `within` is a command that
    runs that shell, such as ``unshare``.
    """
    command = f'{first} exec "$0" -m lexlip.cli serve "$@"'
    shell = [*within, "/bin/sh", "-c", command, sys.executable]
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [*shell, str(index), "--port", "0", *options],
            stdout=subprocess.PIPE, stderr=file, text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        try:
            line = process.stdout.readline()
            found = re.search(r":(\d+) ", line)
            assert found, (line, Path(log).read_text())
            yield Served(process, int(found[1]), Path(log))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
