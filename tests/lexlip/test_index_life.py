"""An index lives: pictures are added, change, go; a search can be filtered and explained."""

from __future__ import annotations

import csv
import os
import shutil

import numpy as np
import pytest

from lexlip import Index
from lexlip.build.encode import chunks
from lexlip.data.collection import load_collection
from lexlip.engines.base import Hit
from lexlip.errors import LexLIPError
from lexlip.impacts import document_impacts, quantise_query


@pytest.fixture
def engine(kind):
    return kind


@pytest.fixture
def pictures(photos, tmp_path):
    """Pictures 00 to 05 in two folders, that may be changed."""
    for number in range(6):
        folder = tmp_path / "pictures" / ("trip" if number % 2 else "home")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(photos / f"{number:02}.png", folder)
    return tmp_path / "pictures"


def ids(hits):
    return [hit.id for hit in hits]


def holds_exactly(index, model, source):
    """The index answers as the dot products of all pictures that are in the folder now."""
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.png"))
    assert len(index) == len(names)
    weights = model.encode_image([source / name for name in names])
    impacts, _ = document_impacts(weights, 64, index.manifest["scale"])
    for text in ("a red circle", "two blue squares", "star"):
        query = quantise_query(model.encode_query([text]))
        scores = (impacts.astype(int) @ query.astype(int).T).toarray()[:, 0]
        hits = [Hit(name, int(s)) for name, s in zip(names, scores, strict=True) if s]
        assert index.search(text, 100) == sorted(hits, key=lambda hit: (-hit.score, hit.id))


def test_adding_again_writes_only_what_changed(model, pictures, photos, engine, tmp_path):
    with Index.create(tmp_path / "i.lex", model, pictures, engine=engine) as index:
        assert len(index) == 6
        again = index.add(pictures)
        assert (again.written, again.unchanged, again.skipped) == (0, 6, ())
        shutil.copy2(photos / "06.png", pictures / "trip")  # new
        shutil.copy(photos / "07.png", pictures / "home" / "00.png")  # changed
        os.utime(pictures / "home" / "00.png", (1e9, 1e9))
        (pictures / "trip" / "bad.png").write_bytes(b"no picture")
        news = index.add(pictures)
        assert (news.written, news.unchanged) == (2, 5)
        assert [name for name, _ in news.skipped] == ["trip/bad.png"]
        os.remove(pictures / "trip" / "bad.png")
        holds_exactly(index, model, pictures)
        assert index.add(pictures, force=True).written == 7
        assert index.delete(["trip/06.png", "nowhere.png"]) == 1
        os.remove(pictures / "trip" / "06.png")
        index.compact()
        holds_exactly(index, model, pictures)
        assert index.check() == []
    with Index.open(tmp_path / "i.lex", model) as index:
        holds_exactly(index, model, pictures)


def test_a_reader_sees_a_commit_when_it_reopens(model, pictures, photos, engine, tmp_path):
    with Index.create(tmp_path / "i.lex", model, pictures, engine=engine) as writer:
        with Index.open(tmp_path / "i.lex", model) as reader:
            writer.add({"new": photos / "08.png"})
            assert len(reader) == 6 and len(writer) == 7
            assert reader.reopen() and len(reader) == 7 and not reader.reopen()
        with pytest.raises(LexLIPError, match="open"):
            Index.open(tmp_path / "i.lex", model, mode="w")


def test_an_interrupted_build_goes_on(model, pictures, engine, tmp_path, monkeypatch):
    """The first chunk is an index already; the rest is added to it."""
    monkeypatch.setitem(chunks.__kwdefaults__, "size", 2)
    calls = []
    encode = type(model).encode_image

    def dies(self, images, *rest):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, images, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "encode_image", dies)
        with pytest.raises(KeyboardInterrupt):
            Index.create(tmp_path / "i.lex", model, pictures, engine=engine)
    with Index.open(tmp_path / "i.lex", model, mode="w") as index:
        assert len(index) == 4
        done = index.add(pictures)
        assert (done.written, done.unchanged) == (2, 4)
        holds_exactly(index, model, pictures)


def test_filters_see_folders_sizes_dates_and_given_columns(model, pictures, engine, tmp_path):
    with open(pictures / "metadata.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "year", "caption"])
        for number in range(5):  # the sixth has no year
            folder = "trip" if number % 2 else "home"
            table.writerow([f"{folder}/{number:02}.png", 2018 + number, "a red circle"])
    os.utime(pictures / "home" / "04.png", (1e9, 1e9))  # 2001
    with Index.create(tmp_path / "i.lex", model, pictures, engine=engine) as index:
        everything = index.search("a red circle", 10)
        assert len(everything) == 6

        def found(where, k=10):
            return index.search("a red circle", k, where)

        for where, wanted in (
            ("folder == 'trip'", {"trip/01.png", "trip/03.png", "trip/05.png"}),
            ("year >= 2020", {"home/02.png", "trip/03.png", "home/04.png"}),
            ("year >= 2020 and folder == 'home'", {"home/02.png", "home/04.png"}),
            ("not (year < 2022)", {"home/04.png", "trip/05.png"}),
            ("modified < '2002'", {"home/04.png"}),
            ("bytes > 0", set(ids(everything))),
        ):
            # Filtered first, then the best: the order of the others is that of all.
            assert found(where) == [hit for hit in everything if hit.id in wanted], where
        assert found("year >= 2020", 1) == found("year >= 2020")[:1]
        with pytest.raises(LexLIPError, match="yaer.*year"):
            found("yaer > 3")


def test_an_explanation_adds_up_to_the_score(model, pictures, engine, tmp_path):
    with Index.create(tmp_path / "i.lex", model, pictures, engine=engine) as index:
        for query in ("a red circle above two blue squares", pictures / "trip" / "01.png"):
            terms = index.query(query)
            for hit in index.search(query, 10):
                words = index.explain(hit.id, query)
                assert sum(word.score for word in words) == hit.score
                assert [w.score for w in words] == sorted((w.score for w in words), reverse=True)
                asked = dict(index.words(terms))
                assert all(asked[word.word] == word.query for word in words)
        with pytest.raises(LexLIPError, match="nobody.png"):
            index.explain("nobody.png", "star")


def test_texts_are_found_by_pictures(model, captions, images, engine, tmp_path):
    texts = {f"t{i}": text for i, text in enumerate(captions)}
    with Index.create(tmp_path / "i.lex", model, texts, engine=engine) as index:
        impacts, _ = document_impacts(model.encode_text(list(captions)), 64)
        for image in images[:3]:
            query = quantise_query(model.encode_image([image]), max_terms=5)
            terms = index.query(image, max_terms=5)
            assert len(terms) <= 5
            scores = (impacts.astype(int) @ query.astype(int).T).toarray()[:, 0]
            order = sorted(range(len(texts)), key=lambda i: (-scores[i], f"t{i}"))
            assert ids(index.search(terms, 4)) == [f"t{i}" for i in order if scores[i]][:4]


def test_pictures_come_in_any_form(model, images, photos, tmp_path):
    forms = {
        "path": photos / "00.png",
        "bytes": (photos / "01.png").read_bytes(),
        "array": np.asarray(images[2]),
        "picture": images[3],
    }
    with Index.create(tmp_path / "i.lex", model, forms, engine="postings") as index:
        for number, name in enumerate(forms):
            assert index.search(images[number], 1)[0].id == name
        # Arrays have no size to be known by: encoded again; files and bytes are not.
        assert index.add(forms).unchanged == 2
    with Index.create(tmp_path / "one.lex", model, photos / "05.png", engine="postings") as index:
        assert ids(index.search(images[5])) == ["05.png"]
    with pytest.raises(LexLIPError, match="texts and pictures: index them separately"):
        Index.create(tmp_path / "no.lex", model, {"a": "text", "b": photos / "00.png"})


def test_chunks_do_not_change_what_is_encoded(model, photos):
    collection = load_collection(photos)
    whole = list(chunks(model, collection))
    parts = list(chunks(model, collection, size=5, batch_size=2))
    assert [len(part.ids) for part in parts] == [5, 5, 2] and len(whole) == 1
    assert [name for part in parts for name in part.ids] == whole[0].ids
    stacked = np.vstack([part.weights.toarray() for part in parts])
    assert np.allclose(stacked, whole[0].weights.toarray(), atol=1e-5)
    assert sum((part.skipped for part in parts), []) == whole[0].skipped != []
