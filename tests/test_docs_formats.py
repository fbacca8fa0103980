"""docs/formats.md describes the files that are written, and only those."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from tests.support.cone_speaker import cone_speaker, picture
from tests.support.pages import DOCS, ROOT

FORMATS = DOCS / "formats.md"
GENERATIONS = "Folders of generations"


def tables(text):
    """The rows of all tables of a page: dicts by column, with the heading above the table."""
    found, heading, columns = [], "", None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            columns = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if columns is None:
            columns = cells
        elif not set(line) <= set("|-: "):
            found.append({"section": heading, **dict(zip(columns, cells, strict=True))})
    return found


def documented(sections, prefix=""):
    """Pattern of a file name -> its rows in docs/formats.md; numbers stand for any number."""
    found = {}
    for row in tables(FORMATS.read_text("utf-8")):
        if row["section"] in sections:
            for name in re.findall(r"`([^`]+)`", row.get("file", row.get("file or folder", ""))):
                pattern = re.sub(r"\d+", r"\\d+", re.escape(prefix + name))
                found.setdefault(pattern, []).append(row)
    assert found
    return found


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }


SMALLEST = {"uint8", "uint16", "int32", "int64"}


def fits(array, row):
    """Whether an array is of a type and has as many dimensions as its row says."""
    kinds = set(re.findall(r"[a-z]+\d*", row["dtype"]))
    kinds = kinds - {"smallest"} | SMALLEST if "smallest" in kinds else kinds
    return str(array.dtype) in kinds and array.ndim == row["shape"].partition("]")[0].count(",") + 1


def undocumented(folder, patterns):
    """Files of a folder that no pattern fits, or whose arrays are not as the page says."""
    wrong = []
    for name, path in files_in(folder).items():
        rows = [row for pattern in patterns if re.fullmatch(pattern, name) for row in
                patterns[pattern]]  # fmt: skip
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            rows = [row for row in rows if fits(array, row)]
            name = f"{name} {array.dtype} {array.shape}"
        if not rows:
            wrong.append(name)
    return wrong


@pytest.fixture(scope="module")
def full_index(make_model, model_with_heads, photos, tmp_path_factory):
    """An index with everything that an index can hold."""
    from lexlip import Index
    from lexlip.measure.systems import DenseVectors
    from lexlip.models.dense_control import DenseDualEncoder

    folder = tmp_path_factory.mktemp("full")
    pictures = shutil.copytree(photos, folder / "pictures")
    rows = ["file_name,year,private,size"]
    rows += [f"{n:02}.png,{2000 + n},{n % 2 == 0},{n / 2}" for n in range(9)]
    (pictures / "metadata.csv").write_text("\n".join(rows))
    index = Index.create(
        folder / "full.lex", model_with_heads, pictures, engine="postings", keep_floats=True,
        keep_views=True, exclude=["*.tmp.png"],
    )  # fmt: skip
    make_model(kind=DenseDualEncoder).save_pretrained(folder / "dense")
    with index:
        DenseVectors.create(index, folder / "dense")
        index.second_stage.save({"filip": 0.5}, None)
        index.delete(["03.png"])
    return folder / "full.lex"


@pytest.fixture(scope="module")
def vector_index(tmp_path_factory):
    """An index of a speaker with vectors, its vectors by id as Lucene's are, and encoded parts."""
    from lexlip import Index
    from lexlip.build.encode import encode_pictures
    from lexlip.build.encoded_parts import Encoded
    from lexlip.build.recipe import Recipe
    from lexlip.data.collection import Collection
    from lexlip.storage.vectors import VectorStore

    folder = tmp_path_factory.mktemp("vectors")
    speaker, _ = cone_speaker(30, 20)
    ids, recipe = [f"{n}" for n in range(9)], Recipe(engine="postings", max_terms=9)
    source = Collection(ids, [[] for _ in ids], [picture(n) for n in range(9)])
    with Encoded.plan(folder / "parts", speaker, source, recipe) as encoded:
        encoded.write(0, encode_pictures(speaker, source, range(9), recipe=recipe))
        chunk = encoded.read(0)
    Index.from_encoded(folder / "i.lex", folder / "parts", speaker, recipe).close()
    store = VectorStore(folder / "i.lex" / "vectors", "w")
    store.write(chunk.ids, chunk.vectors)
    store.close()
    return folder


def index_patterns():
    sections = ("Index", "The postings engine", "Float vectors", "Facts of files",
                "The forward store")  # fmt: skip
    patterns = documented([*sections, "Vectors that order", "Dense vectors"])
    for store in ("engine/", "floats/", "files/", "views/", "vectors/"):
        patterns |= documented([GENERATIONS], store)
    return patterns


def test_the_files_of_an_index_are_documented(full_index):
    patterns = index_patterns()
    assert undocumented(full_index, patterns) == []
    assert undocumented(full_index, documented(["Index"])) != []  # these can fail
    for rows in patterns.values():
        rows[:] = [
            {**row, "dtype": row.get("dtype", "").replace("float32", "int8")} for row in rows
        ]
    wrong = [name for name in undocumented(full_index, patterns) if "weights.npy float32" in name]
    assert len(wrong) == 1
    assert (full_index / "skipped.jsonl").exists()


def test_the_files_of_vectors_are_documented(vector_index):
    assert undocumented(vector_index / "i.lex", index_patterns()) == []
    assert undocumented(vector_index / "parts", documented(["Encoded parts"])) == []
    names = set(files_in(vector_index / "parts"))
    for pattern in documented(["Encoded parts"]):
        if "LOCK" not in pattern and "views" not in pattern:
            assert any(re.fullmatch(pattern, name) for name in names), pattern


def test_documented_files_of_an_index_are_written(full_index, vector_index, tmp_path):
    from lexlip.storage.codecs import CODECS
    from lexlip.storage.forward import ForwardStore
    from lexlip.storage.views import Views

    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(20, 4, 8)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    nothing = np.zeros((20, 0), np.float32)
    views = Views(tokens, np.full(20, 4, np.int32), nothing, nothing)
    written = set(files_in(full_index)) | set(files_in(vector_index / "i.lex"))
    for codec in CODECS:
        store = ForwardStore(tmp_path / codec / "views", "w", codec=codec)
        store.write([f"{n}" for n in range(20)], views)
        store.close()
        assert undocumented(tmp_path / codec, index_patterns()) == []
        written |= set(files_in(tmp_path / codec))
    for pattern in index_patterns():
        if not pattern.endswith("/"):
            assert any(re.fullmatch(pattern, name) for name in written), pattern


def test_the_files_of_checkpoints_and_parts_are_documented(demo_home, checkpoint):
    assert undocumented(checkpoint, documented(["Checkpoint"])) == []
    parts = documented(["Encoded parts"])
    assert undocumented(demo_home / "photos.parts", parts) == []
    assert any(re.fullmatch(pattern, "part-000000/weights.npz") for pattern in parts)


def test_formats_are_documented():
    source = "\n".join(
        path.read_text() for job in ("lexlip", "pretrain") for path in (ROOT / job).rglob("*.py")
    )
    written = set(re.findall(r'"(lexlip-[a-z]+[-/]\d+)"', source))
    described = set(re.findall(r"`(lexlip-[a-z]+[-/]\d+)`", FORMATS.read_text("utf-8")))
    assert "lexlip-index/2" in written
    assert written == described


def keys_in(section):
    """The keys that a table of docs/formats.md lists."""
    rows = [row for row in tables(FORMATS.read_text("utf-8")) if row["section"] == section]
    return {key for row in rows if "key" in row for key in re.findall(r"`(\w+)`", row["key"])}


def test_the_keys_of_a_manifest_are_documented(full_index):
    assert json.loads((full_index / "manifest.json").read_text()).keys() == keys_in("Index")
