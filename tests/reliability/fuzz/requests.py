"""Requests as bytes on a socket, to a real `lexlip serve` of a small index that may be changed."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h11

from tests.reliability.fuzz.harness import Harness
from tests.reliability.fuzz.mutations import mutated
from tests.reliability.fuzz.texts import ODD, Filters, Queries

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]*\r\n[a-z-]+: ")
_UNFINISHED = 0.02  # seconds until a client leaves that sent half a request
_LOOK = 500  # requests between two looks at the health of the server

_HEADERS = (
    b"Host: 127.0.0.1\r\n", b"Host: evil\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 99999999999\r\n", b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Origin: null\r\n",
    b"Content-Type: application/json\r\n", b"Content-Type: multipart/form-data; boundary=x\r\n",
    b"Content-Type: multipart/form-data\r\n", b"Content-Type: text/plain; charset=utf-16\r\n",
    b"Upgrade: websocket\r\n", b"Range: bytes=0-5,9-\r\n", b"If-None-Match: *\r\n",
    b"Cookie: a=b\r\n",
    b"X-Forwarded-For: 1.2.3.4\r\n", b"Sec-Fetch-Site: cross-site\r\n", b"X-API-Key: \xff\r\n",
    b"If-Range: x\r\n", b"Range: bytes=-1\r\n", b"If-Modified-Since: x\r\n",
)  # fmt: skip


def get(path: str, headers: bytes = b"") -> bytes:
    """Return a GET request."""
    return b"GET " + path.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers + b"\r\n"


def post(path: str, kind: bytes, body: bytes) -> bytes:
    """Return a POST request."""
    return (
        b"POST " + path.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: " + kind
        + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )  # fmt: skip


def form(path: str, parts: dict[bytes, bytes]) -> bytes:
    """Return a form; a part with a file's name is a file."""
    body = b""
    for name, held in parts.items():
        file = b'; filename="a.png"\r\nContent-Type: image/png' if name == b"file" else b""
        body += b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n' % (name, file)
        body += held + b"\r\n"
    return post(path, b"multipart/form-data; boundary=x", body + b"--x--\r\n")


def whole(data: bytes) -> bool:
    """Return whether bytes hold a request that a server answers without waiting for more."""
    reader = h11.Connection(h11.SERVER)
    try:
        reader.receive_data(data)
        while True:
            event = reader.next_event()
            if event is h11.NEED_DATA:
                return False
            if event is h11.PAUSED or isinstance(event, h11.EndOfMessage):
                return True
    except h11.RemoteProtocolError:
        return True


def with_length(data: bytes) -> bytes:
    """Return a request whose Content-Length is right."""
    head, end, body = data.partition(b"\r\n\r\n")
    told = b"Content-Length: %d" % len(body)
    return re.sub(rb"(?i)content-length: *\d+", told, head) + end + body


class Requests(Harness):
    """No answer is a 500, none takes long, and the server lives on."""

    name = "requests"
    seconds = 10.0
    megabytes = 1000
    tokens = (
        b"\r\n", b"\r\n\r\n", b"GET ", b"POST ", b"DELETE ", b"HEAD ", b"PUT ", b" HTTP/1.0",
        b"/search?q=",
        b"/images", b"/explain?", b"&k=", b"&k=99999999999", b"&offset=-1", b"&where=",
        b"&rerank=vectors",
        b"&min_fit=nan", b"%00", b"%ff", b"%2e%2e/", b"../", b"?", b"#", b";", b"0\r\n\r\n",
        b"ffffffff\r\n",
        b"--x\r\n", b"--x--\r\n", b'filename="', b'name="file"', b"{", b"}", b"[" * 200, b'"q":',
        b"null",
        b"NaN", b"1e999", b"\\ud800", b'"words": {"red": 1}', *_HEADERS, *ODD,
    )  # fmt: skip

    def open(self) -> None:
        from tests.reliability.fuzz.indexes import small_index
        from tests.reliability.fuzz.pictures import seeds

        self._pictures = [data for data in seeds() if len(data) < 3000][::2]
        self._home = Path(tempfile.mkdtemp())
        small_index(self._home / "i.lex")
        self._count = 0
        self._start()

    def _start(self) -> None:
        self._log = (self._home / "log").open("ab")
        command = [sys.executable, "-m", "lexlip.cli", "serve", str(self._home / "i.lex")]
        self._server = subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=self._log,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self._server.stdout is not None
        for line in self._server.stdout:
            if found := re.search(rb"http://127\.0\.0\.1:(\d+)", line):
                self._port = int(found[1])
                return
        raise RuntimeError((self._home / "log").read_text(errors="replace")[-2000:])

    def pid(self) -> int:
        return self._server.pid

    def seeds(self) -> list[bytes]:
        queries = [it.decode() for it in (*Queries().seeds(), *Filters().seeds())]
        bodies = [
            {"q": "a red heart -moon", "k": 3}, {"q": "must:red", "words": {"red": 40,
            "blue": -10}},
            {"q": "star", "where": "year >= 2003", "explain": False, "offset": 1, "depth": 10},
            {"q": "red", "rerank": "terms", "min_fit": 0.1, "more": ["MS5wbmc"],
            "less": ["Mi5wbmc"]},
        ]  # fmt: skip
        plain = [
            "/", "/static/app.css", "/healthz", "/livez", "/stats", "/status", "/columns", "/words",
            "/metrics", "/openapi.json", "/images?limit=3&offset=1&where=year%20%3E%202001",
            "/images/MS5wbmc?size=full", "/images/MS5wbmc", "/images/MS5wbmc/facts",
            "/explain?image=MS5wbmc&q=red", "/compare?q=red&k=2", "/nowhere",
            "/facets?column=word&column=year&q=red&where=odd&most=2", "/facets",
            "/search?q=red&k=3&more=MS5wbmc&less=Mi5wbmc&rerank=none",
        ]  # fmt: skip
        from urllib.parse import quote

        made = [get(path) for path in plain]
        made += [get(f"/search?k=2&q={quote(q)}") for q in queries[:15]]
        made += [get(f"/search?k=2&q=red&where={quote(q)}") for q in queries[15:]]
        made += [post("/search", b"application/json", json.dumps(it).encode()) for it in bodies]
        made += [post("/words", b"application/json", b'{"q": "a red star"}')]
        made += [
            b"DELETE /images/MS5wbmc HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b'Transfer-Encoding: chunked\r\n\r\n9\r\n{"q":"red\r\n2\r\n"}\r\n0\r\n\r\n',
            get("/livez") + get("/search?q=red") + get("/nowhere"),
        ]
        for data in self._pictures:
            made.append(form("/images", {b"file": data, b"metadata": b'{"year": 2020}'}))
            made.append(form("/search", {b"file": data, b"query": b'{"q": "red", "k": 2}'}))
        return made

    def mutate(self, raw: bytes, dice: random.Random) -> bytes:
        """Change the line, headers or the body; two times of three its length stays right."""
        head, end, body = raw.partition(b"\r\n\r\n")
        match dice.randrange(4):
            case 0:
                head = mutated(head, dice, self.tokens)
            case 1:
                lines = head.split(b"\r\n")
                lines.insert(dice.randrange(1, len(lines) + 1), dice.choice(_HEADERS)[:-2])
                head = b"\r\n".join(lines)
            case _ if body:
                body = mutated(body, dice, self.tokens)
            case _:
                line, space, rest = head.partition(b" HTTP/")
                head = mutated(line, dice, self.tokens) + space + rest
        raw = head + end + body
        return with_length(raw) if dice.random() < 0.67 else raw

    def attempt(self, data: bytes) -> None:
        self._count += 1
        answer = self._ask(data, self.seconds if whole(data) else _UNFINISHED)
        for status in _STATUS.findall(answer):
            assert status not in (b"500", b"504"), f"{status.decode()}: {self._last()}"
        if whole(data):
            assert answer or b"HTTP" not in data[:200], f"no answer: {self._last()}"
        if self._count % _LOOK == 0:
            health = self._ask(get("/healthz", b"Connection: close\r\n"), self.seconds)
            assert b'"ok"' in health, f"health: {health[-300:]!r}"
        if self._server.poll() is not None:
            died = f"the server ended with {self._server.returncode}: {self._last()}"
            self._start()
            raise AssertionError(died)

    def _ask(self, data: bytes, seconds: float) -> bytes:
        """Send bytes; return what comes until an answer is whole, or for some seconds."""
        answer, end = b"", time.monotonic() + seconds
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.sendall(data)
                while (
                    not _answered(answer, data.startswith(b"HEAD"))
                    and (left := end - time.monotonic()) > 0
                ):
                    client.settimeout(left)
                    part = client.recv(2**16)
                    if not part:
                        break
                    answer += part
        except OSError:  # closed while it was sent to, or nothing came in time
            pass
        return answer

    def _last(self) -> str:
        self._log.flush()
        return (self._home / "log").read_text(errors="replace")[-1500:]

    def close(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(30)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        assert self._server.stdout is not None
        self._server.stdout.close()
        self._log.close()
        shutil.rmtree(self._home, ignore_errors=True)


def _answered(answer: bytes, head_only: bool) -> bool:
    """Return whether bytes hold a whole answer, by its length; that of HEAD is no body's."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        head, end, body = body.partition(b"\r\n\r\n")
    if not end:
        return False
    told = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
    return (
        told is None or head_only or len(body) >= int(told[1]) or head.startswith(b"HTTP/1.1 304")
    )
