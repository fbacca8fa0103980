"""Documents are encoded again: those that are there, all or none."""

from __future__ import annotations

import shutil

import pytest

from lexlip import Index
from lexlip.errors import LexLIPError


@pytest.fixture
def index(kind, model, photos, tmp_path):
    """An index of the pictures 00 to 05."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        shutil.copy2(photos / f"{number:02}.png", folder)
    with Index.create(tmp_path / "i.lex", model, folder, engine=kind) as made:
        yield made


def best(index, picture):
    return index.search(picture, 1)[0].id


def test_what_is_there_is_replaced(index, photos, images, tmp_path):
    assert best(index, images[1]) == "01.png"
    done = index.update({"01.png": photos / "09.png", "02.png": images[8]})
    assert (done.written, done.unchanged, done.skipped) == (2, 0, ())
    assert len(index) == 6 and best(index, images[9]) == "01.png"
    assert best(index, images[8]) == "02.png" and best(index, images[1]) != "01.png"
    # Metadata too: a picture in memory has neither folder nor size.
    first, second = index.engine.fetch(["01.png", "02.png"])
    assert first["bytes"] == (photos / "09.png").stat().st_size and second == {}
    # What has not changed is encoded as well.
    again = index.update(tmp_path / "pictures")
    assert (again.written, again.unchanged) == (6, 0)
    assert best(index, images[1]) == "01.png"


def test_new_documents_are_refused_and_nothing_is_written(index, photos, images):
    before = index.search(images[9], 6)
    with pytest.raises(LexLIPError, match=r"1 of 2 .* not in .*'new.png'.*add them with add"):
        index.update({"01.png": photos / "09.png", "new.png": photos / "08.png"})
    assert len(index) == 6 and index.search(images[9], 6) == before
    with Index.open(index.path, index.model) as reader:
        with pytest.raises(LexLIPError, match="open for reading"):
            reader.update({"01.png": photos / "09.png"})


def test_what_cannot_be_read_stays_as_it_was(index, photos, images):
    done = index.update({"01.png": photos / "broken.png", "02.png": photos / "09.png"})
    assert done.written == 1 and [name for name, _ in done.skipped] == ["01.png"]
    assert best(index, images[1]) == "01.png" and best(index, images[9]) == "02.png"
