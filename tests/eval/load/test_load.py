"""A real server under load: clients, the soak, its verdicts, and the figures."""

from __future__ import annotations

import http.server
import json
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from eval.load import attacked, decoding, soak
from eval.load.clients import Answers, Client, form, load
from eval.load.served import ROOT, Served
from eval.load.work import Work
from lexlip import Index
from lexlip.data.images import read_image
from lexlip.data.jpeg import count_scans
from lexlip.data.scenes import make_scenes
from lexlip.errors import LexLIPError
from lexlip.models.shipped import SHIPPED, load_shipped


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number, scene in enumerate(make_scenes(12, 3)):
        scene.draw(64).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def served(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "i.lex"
    Index.create(path, load_shipped(), pictures, checkpoint=SHIPPED).close()
    with Served(path) as server:
        yield server


@pytest.mark.parametrize("kept", [True, False])
def test_clients_count_every_answer(served, kept):
    answers = load(served.port, 3, 30, kept)
    assert answers.statuses == {200: 30} and len(answers.seconds) == 30 and not answers.errors
    assert 0 < answers.share(0.5) <= answers.share(0.99) <= 1000 * answers.wall
    assert answers.rate == 30 / answers.wall
    assert load(served.port, 2, 4, kept, ["/nowhere"]).statuses == {404: 4}
    assert served.memory() > 50 and served.memory("VmHWM") >= served.memory()
    assert served.descriptors() > 5 and served.alive


def test_requests_without_an_answer_are_errors():
    answers = load(1, 2, 4, True)
    assert len(answers.errors) == 4 and not answers.seconds and answers.share(0.5) == 0


def test_a_form_is_posted(served, pictures):
    body = form((pictures / "001.png").read_bytes(), json.dumps({"year": 2000}))
    status, read, _ = Client(served.port).ask("/images", "POST", *body)
    assert status == 200 and len(json.loads(read)["added"]) == 1


def test_a_server_that_does_not_start_is_one_line(tmp_path):
    with pytest.raises(LexLIPError, match="does not start"):
        Served(tmp_path / "gone", log=tmp_path / "log")
    assert "no index" in (tmp_path / "log").read_text()


def samples(memory, files=None):
    return [
        {"minute": n / 12, "MB": float(mb), "descriptors": files[n] if files else 30}
        for n, mb in enumerate(memory)
    ]


def test_a_leak_is_found_and_noise_is_none():
    dice, at = np.random.default_rng(0), np.arange(360)
    noise = 300 + dice.normal(0, 3, 360)
    warm = noise + 100 * (1 - np.exp(-at / 10))  # caches that fill in the first minutes
    spikes = noise + 200 * (at % 24 == 0)  # replacements
    for steady in (noise, warm, spikes):
        assert soak.verdict(samples(steady), [])[1] == []
    leak = noise + at * 0.1  # 36 MB in half an hour
    found, (reason,) = soak.verdict(samples(leak), [])
    assert "memory grows" in reason and found["slope"] == pytest.approx(72, abs=10)
    assert soak.verdict(samples(leak[::-1]), [])[1] == []
    spiky = [30 + 60 * (n % 20 == 19) for n in range(360)]  # a writer, for a moment
    assert soak.verdict(samples(noise, spiky), [])[1] == []
    files = [30 + n // 10 for n in range(360)]
    assert "open files" in soak.verdict(samples(noise, files), [])[1][0]
    assert soak.verdict(samples(noise), ["minute 1: it failed"])[1] == ["minute 1: it failed"]


def test_a_short_soak(pictures, tmp_path):
    settings = [
        "minutes=0.2", f"out={tmp_path}", f"pictures={pictures}", "every=0.5", "replace=4",
        "pause=0.05",
    ]  # fmt: skip
    done = CliRunner().invoke(soak.app, settings)
    told = json.loads((tmp_path / "soak.json").read_text())
    # Memory is not judged in seconds: caches fill.
    assert [line for line in told["failed"] if "memory" not in line] == []
    assert done.exit_code == bool(told["failed"])
    assert {"search", "why", "picture", "post", "damaged"} <= set(told["requests"])
    assert told["requests"]["search"]["200"] > 20 and len(told["samples"]) > 5
    assert [what for _, what in told["events"]].count("replaced") > 0
    assert (tmp_path / "soak.svg").read_bytes().startswith(b"<?xml")


def test_wrong_answers_and_none_are_found(pictures, tmp_path):
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if "heart" in self.path:
                self.send_error(500)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever).start()
        settings = soak.Settings(clients=2, pause=0.01, replace=1000)
        work = Work(server.server_port, tmp_path / "i", None, pictures, [], settings)
        work.start()
        time.sleep(1)
        work.stop()
        server.shutdown()
    assert any("search: 500" in line for line in work.wrong)
    assert any("RemoteDisconnected" in line for line in work.wrong)


def test_scans_are_repeated():
    buffer = BytesIO()
    Image.new("RGB", (40, 30), (90, 120, 30)).save(buffer, "JPEG", progressive=True)
    many = decoding.with_scans(buffer.getvalue(), 50)
    assert count_scans(many) == 50
    assert read_image(many).getpixel((5, 5)) == read_image(buffer.getvalue()).getpixel((5, 5))


def test_decoding_is_measured_or_refused(tmp_path):
    decoding.noise(600).save(tmp_path / "a.png")
    seconds, memory, said = decoding.decode(tmp_path / "a.png", ROOT)
    assert 0 < seconds < 10 and 0 < memory < 100 and not said
    (tmp_path / "b.png").write_bytes(b"nothing")
    assert "not a picture" in decoding.decode(tmp_path / "b.png", ROOT)[2]
    names = list(decoding.dearest(40))
    assert len(names) >= 12 and any("TIFF" in name for name in names)
    done = CliRunner().invoke(
        decoding.app, ["side=200", "runs=1", f"before={ROOT}", "only=300 scans"]
    )
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1].count("refused in") == 2


def test_figures_stand_side_by_side(pictures):
    settings = ["engines=postings", "rounds=1", "requests=16", "short=20", "many=40"]
    done = CliRunner().invoke(attacked.app, [*settings, f"before={ROOT}", f"pictures={pictures}"])
    assert done.exit_code == 0, done.output
    lines = done.output.strip().splitlines()
    assert lines[0] == "| postings | before | now |" and len(lines) == 9
    assert all(line.count("|") == 4 for line in lines)
    assert "/s, " in lines[2] and "MB, " in lines[-1]


def test_what_is_no_success_is_told():
    wrong = Answers([0.1, 0.2], errors=["ConnectionResetError()"], wall=1.0)
    wrong.statuses.update([200, 503])
    assert attacked.told([wrong]) == "2/s, 200.0, 200.0, {503: 1}, 1 lost"
