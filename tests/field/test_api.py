"""The Python API: what people give has its obvious meaning, or one line says what to give."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
from PIL import Image

from lexlip import Index, LexLIPError, Query
from lexlip.build.encode import as_source
from lexlip.data.collection import Collection
from lexlip.models.lexical.lexicalise import lexicalise
from tests.support.clips import WORDS, small_clip, small_tokenizer


def one_line(call, *parts):
    with pytest.raises(LexLIPError) as caught:
        call()
    said = str(caught.value)
    assert len(said.splitlines()) == 1 and all(part in said for part in parts), said


@pytest.fixture(scope="module")
def index(model, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("api") / "photos.lex"
    with Index.create(path, model, photos, engine="postings") as index:
        yield index


# --- texts and pictures to encode -----------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(images, tmp_path_factory):
    """A dual encoder in words."""
    folder = small_clip(tmp_path_factory.mktemp("clip"), small_tokenizer())
    return lexicalise(folder, images, WORDS)


@pytest.fixture(params=["network", "table", "dual encoder"])
def speaker(request, model, word_table, clip):
    return {"network": model, "table": word_table, "dual encoder": clip}[request.param]


def test_one_text_is_one_row(speaker):
    for encode in (speaker.encode_text, speaker.encode_query, speaker.encode_document):
        row = encode(["red circle"])
        assert encode("red circle").shape[0] == 1 and (encode("red circle") != row).nnz == 0


@pytest.mark.parametrize(
    "kind", [list, tuple, iter, np.array, pandas.Series], ids=lambda k: k.__name__
)
def test_any_iterable_of_texts_is_read(speaker, kind):
    texts = ["red circle", "a star"]
    assert (speaker.encode_query(kind(texts)) != speaker.encode_query(texts)).nnz == 0


@pytest.mark.parametrize("texts", [{"q": "red"}, [b"red"], b"red", ["red", None], [1], 5, None,
                                   [["red"]]], ids=repr)  # fmt: skip
def test_no_texts_are_said_so(speaker, texts):
    one_line(lambda: speaker.encode_query(texts))


@pytest.mark.parametrize("kind", ["network", "dual encoder"])
def test_one_picture_is_one_row(kind, model, clip, images, photos):
    model = {"network": model, "dual encoder": clip}[kind]
    wanted = model.encode_image([photos / "00.png"]).toarray()
    path = photos / "00.png"
    for one in (path, str(path), path.read_bytes(), images[0], np.asarray(images[0]), [str(path)],
                iter([path]), bytearray(path.read_bytes())):  # fmt: skip
        assert np.allclose(model.encode_image(one).toarray(), wanted, atol=1e-5)
    for one in (path, str(path), [str(path)], images[0], np.asarray(images[0])):
        assert np.allclose(model.encode_document(one).toarray(), wanted, atol=1e-5)
    many = np.stack([np.asarray(image) for image in images[:3]])
    assert np.allclose(model.encode_image(many).toarray(), model.encode_image(images[:3]).toarray())


def test_no_pictures_are_said_so(model, images):
    one_line(lambda: model.encode_image(5), "list")
    one_line(lambda: model.encode_image([5]), "int")
    one_line(lambda: model.encode_image({"a": images[0]}))
    one_line(lambda: model.encode_document([images[0], "a star"]), "separately")
    one_line(lambda: model.encode_document({"a": "a star"}))


# --- queries --------------------------------------------------------------------------------------


def test_the_name_of_a_picture_is_that_picture(index, model, photos, monkeypatch):
    path = photos / "04.png"
    hits = index.search(path, 3)
    assert hits[0].id == "04.png"
    assert index.search(str(path), 3) == index.search(path.read_bytes(), 3) == hits
    assert model.words_of(str(path)) == model.words_of(path) != []
    monkeypatch.chdir(photos)
    assert index.search("04.png", 3) == index.search("./04.png", 3) == hits
    assert index.explain("04.png", "04.png")


def test_a_picture_that_is_not_there_is_no_text(index, model):
    one_line(lambda: index.search("a.jpg"), "a.jpg", "no such file")
    one_line(lambda: model.words_of("photos/a.jpg"), "no such file")
    one_line(lambda: index.search("https://example.com/a.jpg"), "URL")
    assert index.search(Query.text("red.jpg")) == index.search(Query.text("red . jpg"))
    assert index.search("a red circle as in a.jpg")  # several words are a text


NO_QUERIES = (["red", "blue"], ("red",), [], None, 5, 2.5, True, {"red"}, iter(["red"]))


@pytest.mark.parametrize("item", NO_QUERIES, ids=lambda item: repr(item).split(" object")[0])
def test_no_query_is_said_so(index, item):
    for call in (index.search, index.query, index.prepare):
        one_line(lambda call=call: call(item))
    one_line(lambda: index.explain("00.png", item))


def test_words_with_weights_are_a_query(index):
    assert index.search({"red": 64, "blue": -3}) == index.search(
        Query.from_words({"red": 64, "blue": -3})
    )
    one_line(lambda: index.search({"xyzzy": 3}), "lexicon")
    one_line(lambda: index.search({"red": "much"}), "weight")


@pytest.mark.parametrize("where", [5, ["bytes > 3"], {"bytes": 3}, True], ids=repr)
def test_no_filter_is_said_so(index, where):
    one_line(lambda: index.search("red", where=where), "where")


def test_other_arguments_are_said_so(index):
    one_line(lambda: index.search("red", rerank="nothing"))
    one_line(lambda: index.explain("none.png", "red"), "none.png")
    one_line(lambda: index.delete("00.png"), "list")
    one_line(lambda: index.delete([5]), "5")
    assert len(index) == 12


# --- sources --------------------------------------------------------------------------------------


def read(source, **options):
    """Ids, and the pictures or texts of a source."""
    found = as_source(source, **options)
    if not isinstance(found, Collection):
        return dict(found)
    return {name: found.image(i).tobytes() for i, name in enumerate(found.ids)}


def ids_of(model, tmp_path, source):
    with Index.create(tmp_path / "x.lex", model, source, engine="postings") as index:
        assert index.engine.stats()["postings"]
        return {hit.id for hit in index.search({t: 1 for t in model.lexicon.ids.tolist()}, 99)}


@pytest.fixture
def pixels(images):
    return [image.tobytes() for image in images]


def test_a_mapping_of_ids_to_paths_is_of_pictures(model, photos, pixels, tmp_path):
    for kind in (Path, str):
        source = {"a": kind(photos / "00.png"), "b": kind(photos / "01.png")}
        assert read(source) == {"a": pixels[0], "b": pixels[1]}
    assert ids_of(model, tmp_path, source) == {"a", "b"}


@pytest.mark.parametrize("number", [int, np.int64, np.uint8])
def test_ids_may_be_numbers(model, images, tmp_path, number):
    assert read({number(1): "a red circle"}) == {"1": "a red circle"}
    assert list(read({number(7): images[0]})) == ["7"]
    assert ids_of(model, tmp_path, {number(3): "a red circle", number(4): "a star"}) == {"3", "4"}


def test_lists_and_generators_of_paths_keep_them_as_ids(photos, pixels, monkeypatch):
    monkeypatch.chdir(photos.parent)
    paths = [f"{photos.name}/00.png", f"{photos.name}/01.png"]
    wanted = dict(zip(paths, pixels[:2], strict=True))
    for source in (paths, tuple(paths), map(Path, paths), (path for path in paths),
                   np.array(paths), pandas.Series(paths)):  # fmt: skip
        assert read(source) == wanted


def test_pairs_are_a_mapping(images, pixels):
    assert read(zip("ab", images, strict=False)) == {"a": pixels[0], "b": pixels[1]}
    assert read([(1, "a red circle"), (2, "a star")]) == {"1": "a red circle", "2": "a star"}


def table(photos):
    return {
        "image_id": [10, 11],
        "path": [str(photos / "00.png"), str(photos / "01.png")],
        "caption": ["a red circle", None],
        "year": [2019, None],
        "note": ["x", "y"],
    }


def frames(photos):
    columns = table(photos)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [pandas.DataFrame(columns), pyarrow.table(columns), datasets.Dataset.from_dict(columns),
            datasets.DatasetDict(train=datasets.Dataset.from_dict(columns)), rows, iter(rows),
            datasets.Dataset.from_dict(columns).to_iterable_dataset()]  # fmt: skip


@pytest.mark.parametrize("number", range(7))
def test_tables_give_pictures_captions_and_metadata(photos, pixels, number):
    found = as_source(frames(photos)[number])
    assert found.ids == ["10", "11"] and found.captions == [["a red circle"], []]
    assert [found.image(i).tobytes() for i in range(2)] == pixels[:2]
    assert found.columns == {"year": [2019, None], "note": ["x", "y"]}


def test_dates_and_missing_values_of_a_frame(photos):
    frame = pandas.DataFrame(table(photos))
    frame["taken"] = pandas.to_datetime(["2024-05-01", None])
    frame["kind"] = pandas.array(["a", pandas.NA], dtype="string")
    found = as_source(frame).columns
    assert found["taken"] == ["2024-05-01T00:00:00", None] and found["kind"] == ["a", None]


def test_data_sets_of_pictures_are_decoded_one_at_a_time(model, photos, images, pixels, tmp_path):
    columns = {"image": [str(photos / "00.png"), str(photos / "01.png")], "label": [0, 1]}
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    data = datasets.Dataset.from_dict(columns, features=features)
    assert read(data) == read(data.to_iterable_dataset()) == {"0": pixels[0], "1": pixels[1]}
    assert as_source(data).columns == {"label": [0, 1]}
    shown = datasets.Features(image=datasets.Image())
    embedded = datasets.Dataset.from_dict({"image": images[:2]}, features=shown)
    assert read(embedded) == {"0": pixels[0], "1": pixels[1]}
    assert ids_of(model, tmp_path, embedded) == {"0", "1"}


def test_tables_of_texts_are_texts():
    columns = {"id": [1, 2], "text": ["a red circle", "a star"]}
    for source in (pandas.DataFrame(columns), datasets.Dataset.from_dict(columns)):
        assert read(source) == {"1": "a red circle", "2": "a star"}


def test_several_splits_ask_for_one(photos):
    data = datasets.Dataset.from_dict(table(photos))
    both = datasets.DatasetDict(train=data, test=data)
    one_line(lambda: as_source(both), "train, test")
    assert as_source(both, split="test").ids == ["10", "11"]


PICTURE = Image.new("RGB", (9, 9))
BAD = {
    "a number": (5, "no source"),
    "None": (None, "no source"),
    "a picture": (PICTURE, "no source"),
    "bytes": (b"x", "no source"),
    "no items": ([], "empty"),
    "texts": (["a dog", "a cat"], "no ids"),
    "pictures": ([PICTURE], "no ids"),
    "numbers": ([1, 2], "no ids"),
    "ids of None": ({None: "a dog"}, "NoneType"),
    "ids of tuples": ({(1, 2): "a dog"}, "tuple"),
    "ids of truth": ({True: "a dog"}, "bool"),
    "one id twice": ({1: "a dog", "1": "a cat"}, "'1'"),
    "values of None": ({"a": None}, "NoneType"),
    "values of lists": ({"a": ["b"]}, "list"),
    "both kinds": ({"a": "a dog", "b": "b.jpg"}, "separately"),
    "no picture column": (pandas.DataFrame({"x": [1]}), "x"),
    "a row without picture": ([{"image": 5}], "row 0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_other_sources_are_refused_in_one_line(model, tmp_path, kind):
    source, part = BAD[kind]
    one_line(lambda: Index.create(tmp_path / "x.lex", model, source, engine="postings"), part)
    assert list(tmp_path.iterdir()) == []
