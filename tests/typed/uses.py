"""Ten typical uses of the library, as a program with types would write them.

`tests/test_types.py` runs this, and lets two type checkers read it in their strict modes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import assert_type

import lexlip
from lexlip import Added, Hit, Index, LexLIP, LexLIPError, OrderedHit, Query, RerankedHit
from lexlip.filters.columns import Value
from lexlip.models import load
from lexlip.models.shipped import load_shipped
from lexlip.models.speaker import Speaker


def a_model(checkpoint: Path) -> LexLIP:
    """Open a trained model, and read what it makes of a text."""
    model = LexLIP.from_pretrained(checkpoint)
    assert_type(model, LexLIP)
    words = model.words_of("a red heart", top_k=3)
    assert_type(words, list[tuple[str, float]])
    assert [word.upper() for word, weight in words if weight > 0.0]
    return model


def an_index(folder: Path, photos: Path) -> Index:
    """Make an index of a folder of pictures."""
    index = Index.create(folder / "photos.lex", load_shipped(), photos, keep_floats=True)
    assert_type(index, Index)
    assert index.skipped == ()
    return index


def a_search(index: Index) -> str:
    """Search, also for many queries at once, and read the hits."""
    many = index.search_many(["a heart", Query.text("a moon")], k=2, rerank="none")
    assert_type(many, list[Sequence[Hit]])
    hits = index.search("a red heart", k=3)
    assert_type(hits, Sequence[Hit | OrderedHit])
    best = hits[0]
    print(f"{best.id}: {best.score:.0f}")
    return best.id


def arithmetic(index: Index, photo: Path) -> None:
    """Add and subtract texts and pictures."""
    query = Query.text("heart") + 2 * Query.image(photo) - 0.5 * Query.text("snow")
    assert_type(query, Query)
    ids = [hit.id for hit in index.search(query.must("heart").exclude("moon"), 5)]
    assert_type(ids, list[str])
    assert index.search(photo, 1)[0].id == photo.name


def filters(index: Index) -> None:
    """Filter by metadata, and read them."""
    hits = index.search("a red heart", where="bytes > 10 and folder == ''", rerank="none")
    assert_type(hits, Sequence[Hit])
    facts = index.metadata([hit.id for hit in hits])
    assert_type(facts, list[dict[str, Value]])
    assert all(len(str(it["modified"])) == 19 for it in facts)
    for facet in index.facets(where="bytes > 10"):
        print(facet.name, [count for _, count in facet.values])


def reasons(index: Index, id: str) -> None:
    """Ask why a picture was found."""
    query = index.prepare("a red heart")
    score = sum(word.score for word in index.explain(id, query))
    assert_type(score, int)
    assert score == next(hit.score for hit in index.search(query) if hit.id == id)


def second_looks(index: Index) -> None:
    """Let something else order the hits: what it says is on them."""
    try:
        reranked = index.search("a red heart", rerank="filip")
        assert_type(reranked, Sequence[RerankedHit])
        print([hit.likeness for hit in reranked])
    except LexLIPError as error:  # an index without views says so in one line
        assert "\n" not in str(error)
    ordered = index.search("a red heart", rerank="terms")
    assert_type(ordered, Sequence[OrderedHit])
    print([hit.fit for hit in ordered])


def edited_words(index: Index) -> None:
    """Read the words of a query, change them, and search with them."""
    words = dict(index.words(index.query("a red heart")))
    assert_type(words, dict[str, int])
    words["heart"] = 2 * words.pop("heart")
    assert index.search(Query.from_words(words)) == index.search(words)


def documents(index: Index) -> None:
    """Look at what an index holds."""
    ids = list(index)
    assert_type(ids, list[str])
    assert len(ids) == len(index) and ids[0] in index and "nothing.png" not in index
    assert_type(index.words_of(ids[0]), list[tuple[str, int]])
    impacts = index.impacts(ids)
    assert impacts.shape == (len(ids), len(index.model.lexicon.tokens))


def vectors(model: Speaker, photos: Path) -> None:
    """Encode, under the names of sentence-transformers."""
    queries = model.encode_query("a red heart")
    pictures = model.encode_document([photos / "000.png", photos / "001.png"])
    assert len(model.decode(queries)) == 1 and len(model.decode(pictures)) == 2
    assert_type(model.decode(queries, top_k=2), list[list[tuple[str, float]]])


def changes(index: Index, photos: Path) -> None:
    """Add rows with metadata, replace and delete them."""
    rows = [{"id": n, "image": photos / f"00{n}.png", "taken": datetime(2024, 5, n + 1)}
            for n in range(2)]  # fmt: skip
    added = index.add(rows)
    assert_type(added, Added)
    assert added.written + added.alike == 2 and str(index.metadata("1")["taken"]) >= "2024-05-02"
    index.update({"1": photos / "002.png"})
    index.add(path for path in photos.glob("*.png"))
    assert index.delete(["0", "1"]) == 2


def main(checkpoint: Path, photos: Path, folder: Path) -> None:
    """Do all of it."""
    a_model(checkpoint)
    assert_type(load(checkpoint), Speaker)
    with an_index(folder, photos) as index:
        best = a_search(index)
        arithmetic(index, photos / best)
        filters(index)
        reasons(index, best)
        second_looks(index)
        edited_words(index)
        documents(index)
        vectors(index.model, photos)
        changes(index, photos)
        mistakes(index)
    print(lexlip.__version__)


def mistakes(index: Index) -> None:
    """Calls that type checkers refuse; the library does so too, in one line."""
    for call in (
        lambda: index.search(42),  # type: ignore
        lambda: index.search(["red", "blue"]),  # type: ignore
        lambda: index.search("red", rerank=1),  # type: ignore
        lambda: index.add(42),  # type: ignore
    ):
        try:
            call()
        except LexLIPError as error:
            assert "\n" not in str(error)
        else:
            raise AssertionError("nothing was refused")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
