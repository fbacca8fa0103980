"""The default model: in a made-up cache of the hub, from a mirror on this machine, and missing."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lexlip.models.default import DEFAULT, HubModel

HEAVY = ("torch", "transformers", "pandas", "sklearn", "pyserini", "pyarrow", "datasets", "numba")
_MODULES = "import sys; print([name for name in {names} if name in sys.modules], file=sys.stderr)"


@pytest.fixture
def run(tmp_path):
    """Return a function: run Python with a cache of the hub and an environment of its own."""

    def run(code, cache, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        kept.pop("HF_HUB_OFFLINE", None)
        own = {"HF_HUB_CACHE": str(cache), "XDG_DATA_HOME": str(tmp_path / "data"), **environment}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=kept | own, capture_output=True, text=True, timeout=120)

    return run


def command(*arguments, after=""):
    """Code that runs the command line, and something after it."""
    asked = [str(argument) for argument in arguments]
    return (
        f"import sys\nsys.argv = ['lexlip', *{asked!r}]\nfrom lexlip.cli.__main__ import main\n"
        f"try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n{after}\nsys.exit(code)"
    )


def test_one_command_searches_a_folder_by_the_default_model(run, hub, album):
    asked = command("search", album, "a red dog", "-k", 3, "--paths")
    first = run(asked, hub, HF_HUB_OFFLINE="1")
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) == 3 and "12 new" in first.stderr
    assert "skipped: " in first.stderr and "broken.png" in first.stderr
    loaded = _MODULES.format(names=HEAVY + ("huggingface_hub",))
    again = run(command("search", album, "a red dog", "-k", 3, "--paths", after=loaded), hub,
                HF_HUB_OFFLINE="1")  # fmt: skip
    assert again.returncode == 0 and again.stdout == first.stdout
    assert again.stderr.strip() == "[]"  # nothing is said, and nothing heavy was loaded
    picture = album / "01.png"
    found = run(
        command("search", album, "--image", picture, "-k", 1, "--paths", after=loaded), hub,
        HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert found.stdout.strip() == str(picture) and found.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "127.0.0.1 cannot be reached"),
        ({"HTTP_PROXY": "http://127.0.0.1:9", "HF_ENDPOINT": "http://hub.example"},
         "hub.example cannot be reached"),
    ],
)  # fmt: skip
def test_without_a_network_one_line_says_what_to_do(run, album, tmp_path, environment, reason):
    code = "import time; start = time.time()\n" + command(
        "search", album, "a dog", after="print(time.time() - start)"
    )
    done = run(code, tmp_path / "nothing", **environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert reason in done.stderr and "HF_ENDPOINT" in done.stderr and "-m FOLDER" in done.stderr
    assert not (tmp_path / "data").exists()
    assert float(done.stdout) < 20  # two seconds of a machine with nothing else to do


class Mirror(BaseHTTPRequestHandler):
    """As much of the hub as a download needs."""

    def __init__(self, folder, asked, *arguments):
        self.folder, self.asked = folder, asked
        super().__init__(*arguments)

    def do_HEAD(self):  # noqa: N802
        self._answer(False)

    def do_GET(self):  # noqa: N802
        self._answer(True)

    def _answer(self, whole):
        name, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        path = self.folder / file
        self.asked.append((name, revision, file))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", revision)
        self.end_headers()
        if whole:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(graphs):
    """Return the address of a server of the model's files, and what it was asked for."""
    asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Mirror, graphs, asked))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


FETCH = """
from dataclasses import replace
from lexlip.errors import LexLIPError
from lexlip.models.default import DEFAULT, fetch
files = {{name: (size, {digest!r}) for name, (size, _) in DEFAULT.files.items()}}
try:
    print(fetch(replace(DEFAULT, files=files), print))
    print(fetch(replace(DEFAULT, files=files), print))
except LexLIPError as error:
    print(error)
"""


def test_a_mirror_is_asked_once_for_the_pinned_files_alone(run, mirror, tmp_path):
    address, asked = mirror
    done = run(FETCH.format(digest=""), tmp_path / "hub", HF_ENDPOINT=address)
    said, *folders = done.stdout.splitlines()
    assert "156 MB" in said and "MIT" in said and DEFAULT.name in said, done.stderr
    assert len(folders) == 2 and folders[0] == folders[1]
    asked = [it for it in asked if not it[0].startswith("api/")]  # huggingface_hub's own
    assert {file for _, _, file in asked} == set(DEFAULT.files)
    assert {(name, revision) for name, revision, _ in asked} == {(DEFAULT.name, DEFAULT.revision)}


def test_other_bytes_than_expected_are_refused_and_fetched_again(run, mirror, tmp_path):
    address, _ = mirror
    done = run(FETCH.format(digest="0" * 64), tmp_path / "hub", HF_ENDPOINT=address)
    assert "another file than expected" in done.stdout
    files = [path for path in (tmp_path / "hub").rglob("config.json") if path.is_file()]
    assert not files


def test_a_file_that_the_hub_lacks_is_one_line(run, mirror, tmp_path):
    address, _ = mirror
    code = FETCH.format(digest="").replace("in DEFAULT.files.items()}", "in [('gone', (1, ''))]}")
    done = run(code, tmp_path / "hub", HF_ENDPOINT=address)
    assert "cannot be fetched" in done.stdout.splitlines()[-1]


def test_the_default_model_is_pinned_and_its_size_is_known():
    assert isinstance(DEFAULT, HubModel) and len(DEFAULT.revision) == 40
    assert 150e6 < DEFAULT.bytes < 160e6 and DEFAULT.license == "MIT"
    graphs = [digest for name, (_, digest) in DEFAULT.files.items() if name.endswith(".onnx")]
    assert len(graphs) == 2 and all(len(digest) == 64 for digest in graphs)
    other = replace(DEFAULT, revision="0" * 40)
    assert other.place["revision"] == "0" * 40


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_search_takes_little_memory(run, hub, album):
    asked = command("search", album, "a red dog", after=(
        "status = open('/proc/self/status').read()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024, file=sys.stderr)"
    ))  # fmt: skip
    run(asked, hub, HF_HUB_OFFLINE="1")
    done = run(asked, hub, HF_HUB_OFFLINE="1")
    assert done.returncode == 0
    assert int(done.stderr.splitlines()[-1]) < 250


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "ALBUM", "a dog", "-m", "some/model"),
        ("index", "ALBUM", "-o", "OUT", "-m", "some/model"),
        ("words", "a dog", "-m", "some/model"),
        ("lexicalise", "ALBUM", "--clip", "some/model", "-o", "OUT"),
    ],
)
def test_a_name_that_cannot_be_asked_for_is_one_line(run, album, tmp_path, arguments):
    """huggingface_hub would try again for half a minute per file."""
    places = {"ALBUM": str(album), "OUT": str(tmp_path / "out")}
    code = command(*(places.get(word, word) for word in arguments))
    done = run(code, tmp_path / "nothing", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "some/model" in done.stderr and "127.0.0.1 cannot be asked" in done.stderr
    assert not (tmp_path / "out").exists()
