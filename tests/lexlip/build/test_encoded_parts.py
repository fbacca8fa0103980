"""Encoded documents on disk: what is sound stays, what is not is known, nothing is mixed."""

from __future__ import annotations

import errno
import os
import shutil

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.build import encoded_parts as encoded_module
from lexlip.build.encode import Chunk, encode_pictures
from lexlip.build.encoded_parts import Encoded
from lexlip.build.recipe import Recipe
from lexlip.data.collection import Collection, load_collection
from lexlip.errors import LexLIPError
from lexlip.impacts import top_terms


@pytest.fixture
def pictures(photos, tmp_path):
    """A folder of five pictures and a broken one, that may be changed."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("00.png", "01.png", "02.png", "03.png", "04.png", "broken.png"):
        shutil.copy2(photos / name, folder)
    return folder


RECIPE = Recipe(max_terms=8)


def fill(folder, model, pictures, recipe=RECIPE, part_size=2):
    """Encode what is missing, in parts of two; return the numbers of the parts that were."""
    source = load_collection(pictures)
    with Encoded.plan(folder, model, source, recipe, part_size=part_size) as encoded:
        missing = encoded.missing()
        for number in missing:
            encoded.write(number, encode_pictures(model, source, encoded.rows(number)))
        assert encoded.missing() == []
    return missing


def test_what_is_written_is_read(model, pictures, photos, images, tmp_path):
    assert fill(tmp_path / "parts", model, pictures) == [0, 1, 2]
    encoded = Encoded.open(tmp_path / "parts")
    chunks = list(encoded)
    assert len(encoded) == 3 and [len(chunk.ids) for chunk in chunks] == [2, 2, 1]
    assert [name for chunk in chunks for name in chunk.ids] == [f"{i:02}.png" for i in range(5)]
    exact = top_terms(model.encode_image(images[:5]), 8)
    found = np.vstack([chunk.weights.toarray() for chunk in chunks])
    assert found.dtype == np.float32 and np.allclose(found, exact.toarray(), atol=1e-5)
    assert all(np.diff(chunk.weights.indptr).max() <= 8 for chunk in chunks)
    (skipped,) = chunks[2].skipped
    assert skipped[0] == "broken.png" and "damaged" in skipped[1]
    size = (photos / "04.png").stat().st_size
    assert chunks[2].columns["bytes"] == [size] and chunks[2].columns["folder"] == [""]
    assert encoded.origin["model"] == model.fingerprint
    assert encoded.origin["source"] == str(pictures)


@pytest.mark.parametrize(
    "values",
    [["é", None, "\n\x00"], [1, 2**53, None], [True, None, False], [0.1, -1e300, float("inf")]],
)
def test_metadata_come_back_as_they_were(model, photos, tmp_path, values):
    paths = [photos / f"{i:02}.png" for i in range(3)]
    source = Collection(list("abc"), [[], [], []], paths, columns={"x": values, "none": [None] * 3})
    with Encoded.plan(tmp_path / "parts", model, source, RECIPE) as encoded:
        encoded.write(0, encode_pictures(model, source, encoded.rows(0)))
        columns = encoded.read(0).columns
    assert columns["x"] == values and list(map(type, columns["x"])) == list(map(type, values))
    assert columns["none"] == [None] * 3


def test_sound_parts_stay(model, pictures, tmp_path):
    fill(tmp_path / "parts", model, pictures)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("part-*/*")}
    assert len(before) == 9
    assert fill(tmp_path / "parts", model, pictures) == []
    assert before == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "parts").glob("part-*/*")
    }


@pytest.mark.parametrize("name", ["weights.npz", "documents.json", "manifest.json"])
def test_a_flipped_byte_is_noticed(model, pictures, tmp_path, name):
    fill(tmp_path / "parts", model, pictures)
    path = tmp_path / "parts" / "part-000001" / name
    sound = path.read_bytes()
    for place in np.linspace(0, len(sound) - 1, 7).astype(int).tolist():
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        encoded = Encoded.open(tmp_path / "parts")
        if name == "manifest.json" and not sound[place : place + 1].strip():
            continue  # white space between two values
        assert encoded.missing() == [1], place
        with pytest.raises(LexLIPError, match="part 1 of .* cannot be used .*encode again"):
            list(encoded)
    path.unlink()
    assert fill(tmp_path / "parts", model, pictures) == [1]


def test_other_models_budgets_and_pictures_are_encoded_anew(model, make_model, pictures, tmp_path):
    folder = tmp_path / "parts"
    fill(folder, model, pictures)
    assert fill(folder, model, pictures, Recipe(max_terms=7)) == [0, 1, 2]
    assert fill(folder, make_model(seed=1), pictures) == [0, 1, 2]
    other = make_model(seed=1)
    other.lexicon_ids[0] += 1
    assert fill(folder, other, pictures) == [0, 1, 2]
    assert fill(folder, model, pictures) == [0, 1, 2]
    os.utime(pictures / "02.png", (1e9, 1e9))
    assert fill(folder, model, pictures) == [1]
    (pictures / "metadata.csv").write_text("file_name,year\n04.png,2020\n")
    assert fill(folder, model, pictures) == [0, 1, 2]  # each has a year now, if a missing one
    (pictures / "metadata.csv").write_text("file_name,year\n04.png,2021\n")
    assert fill(folder, model, pictures) == [2]
    (pictures / "00.png").unlink()
    assert fill(folder, model, pictures) == [0, 1, 2]
    assert fill(folder, model, pictures, part_size=3) == [0, 1]
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["part-000000", "part-000001"]


def test_parts_of_two_models_are_never_mixed(model, make_model, pictures, tmp_path):
    fill(tmp_path / "parts", model, pictures)
    source = load_collection(pictures)
    with Encoded.plan(
        tmp_path / "parts", make_model(seed=1), source, RECIPE, part_size=2
    ) as encoded:
        encoded.write(0, encode_pictures(model, source, encoded.rows(0)))
        assert encoded.missing() == [1, 2]  # killed here
    with pytest.raises(LexLIPError, match="part 1 .*from another model"):
        list(Encoded.open(tmp_path / "parts"))


def test_what_a_kill_left_is_swept(model, pictures, tmp_path):
    left = tmp_path / "parts" / ".part-000001.tmp-0123"
    left.mkdir(parents=True)
    (left / "weights.npz").write_bytes(b"half")
    assert fill(tmp_path / "parts", model, pictures) == [0, 1, 2]
    assert not left.exists()


def test_one_process_at_a_time(model, pictures, tmp_path):
    source = load_collection(pictures)
    with Encoded.plan(tmp_path / "parts", model, source, RECIPE):
        with pytest.raises(LexLIPError, match=f"open for writing elsewhere .*{os.getpid()}"):
            fill(tmp_path / "parts", model, pictures)
    assert fill(tmp_path / "parts", model, pictures) == [0, 1, 2]


def test_other_folders_are_left_alone(model, pictures, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "manifest.json").write_text('{"format": "lexlip-index/2"}')
    (tmp_path / "file").write_text("mine")
    for name, message in (
        ("notes", "is not empty"),
        ("index", "has format 'lexlip-index/2'"),
        ("file", "is a file"),
    ):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(LexLIPError, match=message):
            fill(tmp_path / name, model, pictures)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(LexLIPError, match="no encoded documents in .*nowhere"):
        Encoded.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Collection([], [], [], source="nothing"), "no picture in nothing"),
        (Collection(["a", "b"], [[], []], [b"", b""], columns={"x": [1, "y"]}), "column 'x'"),
    ],
)
def test_what_no_index_takes_is_said_at_once(model, tmp_path, source, message):
    with (
        pytest.raises(LexLIPError, match=message),
        Encoded.plan(tmp_path / "p", model, source, RECIPE),
    ):
        pass
    assert not (tmp_path / "p").exists()


def test_a_full_disk_is_one_line_and_leaves_no_part(model, pictures, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = load_collection(pictures)
    with Encoded.plan(tmp_path / "parts", model, source, RECIPE, part_size=2) as encoded:
        chunk = encode_pictures(model, source, encoded.rows(0))
        with monkeypatch.context() as patch:
            patch.setattr(encoded_module, "save_npz", full)
            with pytest.raises(LexLIPError, match="part-000000 cannot be written: No space left"):
                encoded.write(0, chunk)
        assert not list(encoded.folder.glob("*part-*")) and encoded.missing() == [0, 1, 2]
        encoded.write(0, chunk)
        assert encoded.missing() == [1, 2]


def test_a_part_without_a_readable_picture(model, pictures, tmp_path):
    source = load_collection(pictures).select([5])
    with Encoded.plan(tmp_path / "parts", model, source, RECIPE) as encoded:
        encoded.write(0, encode_pictures(model, source, encoded.rows(0)))
        chunk = encoded.read(0)
    assert chunk.ids == [] and chunk.weights.shape == (0, len(model.lexicon.tokens))
    assert isinstance(chunk, Chunk) and isinstance(chunk.weights, csr_array)
    assert [name for name, _ in chunk.skipped] == ["broken.png"]
