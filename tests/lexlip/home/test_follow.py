"""Following folders: made once, kept up to date, interrupted and resumed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from lexlip import Index, LexLIP
from lexlip.build.manifest import is_index
from lexlip.build.progress import Progress
from lexlip.errors import LexLIPError
from lexlip.home import Following, follow, place_of
from lexlip.home.background import Background
from lexlip.home.follow import Often
from lexlip.home.remembering import Remembering
from lexlip.models import load
from lexlip.models.dual import open_dual_encoder
from lexlip.server import growing


def ids(done: Following) -> set[str]:
    with Index.open(done.index) as index:
        return set(index.engine.ids())


def everything(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*.png")} - {"broken.png"}


def test_a_folder_is_indexed_and_followed(album, graphs, home, images):
    said = []
    done = follow([album], model=str(graphs), say=said.append)
    assert done.made and done.index == place_of([album], model=str(graphs)).index
    assert home in done.index.parents and ids(done) == everything(album)
    assert [name for name, _ in done.news] == ["broken.png"]
    assert any("words" in line for line in said)
    with Index.open(done.index) as index:
        assert index.manifest["engine"] == "postings"
        assert index.search(images[4], 1)[0].id == "04.png"

    again = follow([album], model=str(graphs))
    assert not again.made and again.added.unchanged == 12 and not again.added.written
    assert not again.news  # it was said before

    (album / "00.png").parent.mkdir(exist_ok=True)
    images[0].rotate(90).save(album / "new.png")
    (album / "04.png").unlink()
    third = follow([album], model=str(graphs))
    assert (third.added.written, third.added.pruned) == (1, 1)
    assert ids(third) == everything(album)


def test_several_folders_share_an_index(album, graphs, home, images, tmp_path):
    (tmp_path / "more").mkdir()
    images[1].rotate(90).save(tmp_path / "more" / "other.png")
    both = [album, tmp_path / "more"]
    assert place_of(both) == place_of(both[::-1]) != place_of([album])
    done = follow(both, index=tmp_path / "both.lex", model=str(graphs))
    assert done.index == tmp_path / "both.lex" and not home.exists()
    assert ids(done) == everything(album) | {"more/other.png"}
    assert follow(both, index=tmp_path / "both.lex").added.unchanged == 13


def test_each_model_has_an_index_of_its_own(album, graphs, checkpoint, home, monkeypatch):
    first = follow([album], model=str(graphs))
    second = follow([album], model=str(checkpoint))  # a LexLIP has words already
    assert first.index != second.index
    with Index.open(second.index) as index:
        assert isinstance(index.model, LexLIP) or index.model.fingerprint
        assert index.manifest["checkpoint"] == str(checkpoint)
    monkeypatch.setenv("LEXLIP_MODEL", str(checkpoint))
    assert follow([album]).index == second.index


class Interrupted(Often):
    """Is interrupted after some pictures."""

    first, chunk = 4, 2

    def __init__(self, after: int) -> None:
        self.left = after

    def begin(self, total, unit="document"):
        self.unit = unit

    def advance(self, count):
        if self.unit == "picture":
            self.left -= count
            if self.left < 0:
                raise KeyboardInterrupt

    def end(self):
        pass


def test_an_interruption_keeps_what_is_done(album, graphs, home):
    follow([album], model=str(graphs), progress=Interrupted(10**6))  # the lexicon is kept
    index = place_of([album], model=str(graphs)).index
    with Index.open(index, mode="w") as opened:
        opened.delete(list(everything(album)))
    with pytest.raises(KeyboardInterrupt):
        follow([album], model=str(graphs), progress=Interrupted(5))
    with Index.open(index) as opened:
        assert 0 < len(opened) < 12
    assert follow([album], model=str(graphs)).added.written < 12
    with Index.open(index) as opened:
        assert len(opened) == 12


def test_an_index_that_another_process_writes_is_searched_as_it_is(album, graphs, home):
    done = follow([album], model=str(graphs))
    with Index.open(done.index, mode="w"):
        busy = follow([album], model=str(graphs))
    assert busy.busy and busy.index == done.index


def test_what_is_no_folder(tmp_path, home, graphs):
    with pytest.raises(LexLIPError, match="no folder at"):
        follow([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(LexLIPError, match="no picture in"):
        follow([tmp_path / "empty"])  # before a model is asked for
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"nothing")
    with pytest.raises(LexLIPError, match=r"a\.png"):
        follow([tmp_path / "bad"], model=str(graphs))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("dear")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.png").write_bytes((tmp_path / "bad" / "a.png").read_bytes())
    with pytest.raises(LexLIPError, match="something else"):
        follow([tmp_path / "good"], index=tmp_path / "taken", model=str(graphs))


def test_a_sample_is_encoded_once_and_a_lexicon_once_for_all(graphs, images, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder = open_dual_encoder(graphs)
    calls = []

    class Counting:
        def __getattr__(self, name):
            return getattr(encoder, name)

        def embed_image(self, pictures, batch_size=32):
            calls.append(len(pictures))
            return encoder.embed_image(pictures, batch_size)

        def embed_text(self, texts, batch_size=128):
            calls.append(-len(texts))
            return encoder.embed_text(texts, batch_size)

    remembering = Remembering(Counting())
    wanted = encoder.embed_image(images)
    np.testing.assert_allclose(remembering.embed_image(images[:5]), wanted[:5], atol=1e-5)
    np.testing.assert_allclose(remembering.embed_image(images), wanted, atol=1e-5)
    assert calls == [5, 7]
    assert remembering.embed_image([]).shape == (0, encoder.width)
    texts = [f"word {number}" for number in range(300)]
    vectors = encoder.embed_text(texts)
    np.testing.assert_allclose(remembering.embed_text(texts), vectors, atol=1e-5)
    before = len(calls)
    np.testing.assert_allclose(Remembering(Counting()).embed_text(texts), vectors, atol=1e-5)
    assert len(calls) == before
    (file,) = (tmp_path / "lexlip" / "words").iterdir()
    file.write_bytes(b"damaged")
    np.testing.assert_allclose(Remembering(Counting()).embed_text(texts), vectors, atol=1e-5)


def test_an_index_is_served_while_it_grows(album, graphs, home, monkeypatch):
    monkeypatch.setattr(Often, "first", 4)
    monkeypatch.setattr(Often, "chunk", 2)
    gate, advance = threading.Event(), Progress.advance

    place = place_of([album], model=str(graphs))

    def patient(self, count):
        if is_index(place.index):  # after the first commit
            gate.wait(20)
        advance(self, count)

    follow([album], index=home / "warm.lex", model=str(graphs))  # the lexicon is in the cache
    monkeypatch.setattr(Progress, "advance", patient)
    following = Background([album], model=str(graphs))
    index = following.wait()
    with Index.open(index) as opened:
        assert 0 < len(opened) < 12
    progress = growing.Progress()
    thread = threading.Thread(target=following.job, args=(progress,))
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    gate.set()
    thread.join(20)
    progress.stopped.set()
    assert progress.growth().done == progress.growth().total == 13
    with Index.open(index) as opened:
        assert len(opened) == 12


def test_what_fails_in_the_background_is_raised(tmp_path, home):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LexLIPError, match="no picture in"):
        Background([tmp_path / "empty"]).wait()


def test_a_speaker_of_a_folder_says_where_its_encoder_is(album, graphs, home):
    follow([album], model=str(graphs))
    place = place_of([album], model=str(graphs))
    assert not (place.model / "encoder").exists()
    assert load(place.model).encode_text(["red"]).nnz
