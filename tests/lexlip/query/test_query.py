"""Query algebra: what a sum is, and how it is written and read; no model needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lexlip import Query
from lexlip.errors import LexLIPError
from lexlip.models.typed import _DASHES, _MINUSES, as_meant
from lexlip.query.query import Part


def test_operators_build_what_the_grammar_reads():
    built = Query.text("flower") + 2 * Query.text("bee") - Query.text("people") * 0.5
    built = built.must("bridge").exclude("car", at_least=40).boost("red", 2).penalise(3)
    written = "flower + 2:bee -0.5:people must:bridge -car>=40 boost:red^2 missing:3"
    assert str(built) == written and built == Query.parse(written)
    assert eval(repr(built), {"Query": Query}) == built
    assert -Query.text("a") == Query.parse("-1:a") != Query.parse("b -a")
    assert np.float32(2) * Query.text("a") == Query.text("a") * np.int64(2) == Query.parse("2:a")


def test_sums_keep_what_both_sides_demand():
    one = Query.text("a").must("x").exclude("y").boost("z", 2).penalise(3)
    two = Query.text("b").must("x").must("w").boost("z", 3)
    both = one - two
    assert both.musts == Query.text("a").must("x").must("w").musts
    assert both.exclusions == one.exclusions and both.penalty == 3
    assert both.boosts == (("z", 2.0), ("z", 3.0))
    assert [part.weight for part in both.parts] == [1, -1]


def test_parts_of_weight_zero_are_gone():
    assert 0 * Query.text("a") + Query.text("b") == Query.text("b")
    assert Query.parse("0:a b red^0") == Query.text("b")


def test_words_are_edited():
    query = Query.from_words({"red": 64, "circle": 58, "people": -3.5})
    assert str(query) == "red^64 circle^58 people^-3.5"
    words = query.words()
    assert words == {"red": 64, "circle": 58, "people": -3.5}
    del words["people"]
    assert Query.from_words(words) == Query.parse("red^64 circle^58")
    assert Query.from_words([("red", 1), ("car", 2)]).words() == {"car": 2, "red": 1}
    assert (3 * query - Query.from_words({"red": 4})).words()["red"] == 188


WORD = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).filter(
    lambda word: as_meant(word).strip()  # more than characters without width
)
WEIGHT = st.one_of(st.integers(-64, 64), st.floats(-1e6, 1e6)).filter(bool)


@given(
    st.lists(st.tuples(WORD, WEIGHT), max_size=3),
    st.lists(st.dictionaries(WORD, WEIGHT, min_size=1, max_size=4), max_size=3),
    st.lists(st.tuples(WORD, st.integers(1, 255), st.booleans()), max_size=3),
    st.lists(st.tuples(WORD, st.floats(0, 1e6)), max_size=2),
    st.integers(0, 255),
)
def test_what_is_printed_is_read_again(texts, words, phrases, boosts, penalty):
    query = Query().penalise(penalty)
    for text, weight in texts:
        query += weight * Query.text(text)
    for some in words:
        query -= 2 * Query.from_words(some)
    for text, at_least, needed in phrases:
        query = query.must(text, at_least) if needed else query.exclude(text, at_least)
    for word, factor in boosts:
        query = query.boost(word, factor)
    assert str(query) == "" if query == Query() else Query.parse(str(query)) == query


@pytest.mark.parametrize("dash", sorted(set(_DASHES) - set(_MINUSES)))
@pytest.mark.parametrize(
    "text",
    [
        "sun {}",
        "t{}shirt 11{}",
        '"sun {}" -blue',
        'must:"sun {}" {}"red car" {}x',
        '2:"a {}"',
        '2:l:"{}" 3:l:"{}" x',
        '"a {}\\" b"',
    ],
)
def test_a_dash_at_the_end_is_read_again(text, dash):
    query = Query.parse(text.replace("{}", dash))
    assert Query.parse(str(query)) == query
    if dash == "–" and "must" in text:
        assert [phrase.text for phrase in query.musts] == ["sun –"]
        assert [phrase.text for phrase in query.exclusions] == ["red car", "x"]


def test_pictures_are_paths_or_what_they_show(images, tmp_path):
    path = tmp_path / "a b.png"
    images[0].save(path)
    assert Query.parse(str(Query.image(path))) == Query.image(str(path)) != Query.text(str(path))
    array = np.asarray(images[0]).copy()
    query = Query.image(array)
    array[:] = 0  # the query has its own
    assert query == Query.image(images[0]) == Query.image(path.read_bytes())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Query.text(""),
        lambda: Query.text(7),
        lambda: Query.image("https://example.com/a.jpg"),
        lambda: Query.image(Path("http:/example.com/a.jpg")),
        lambda: Query.image("data:image/png;base64,xx"),
        lambda: Query.image(b"no picture"),
        lambda: Query.image(np.zeros(3)),
        lambda: Query.from_words({}),
        lambda: Query.from_words({"red": 0}),
        lambda: Query.from_words({"red": "2"}),
        lambda: Query.from_words({"red": float("nan")}),
        lambda: Query.from_words({7: 2}),
        lambda: Query.text("a") * float("inf"),
        lambda: 1e300 * Query.text("a"),
        lambda: Query.text("a").must(""),
        lambda: Query.text("a").must("b", 0),
        lambda: Query.text("a").exclude("b", 2.5),
        lambda: Query.text("a").exclude("b", True),
        lambda: Query.text("a").boost("b", -1),
        lambda: Query.text("a").boost("b", None),
        lambda: Query.text("a").penalise(256),
        lambda: Query.text("a").words(),
        lambda: sum([Query.text(f"a{i}") for i in range(65)], Query()),
    ],
)
def test_mistakes_are_readable(wrong):
    with pytest.raises(LexLIPError) as caught:
        wrong()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("other", ["a", 2, None, {"red": 2}])
def test_only_queries_are_added(other):
    with pytest.raises(TypeError):
        Query.text("a") + other
    with pytest.raises(TypeError):
        Query.text("a") * "2"


def test_a_part_without_words_is_kept_apart_from_none():
    assert Query((Part(()),)) != Query()
    picture = Query.image(Image.new("RGB", (4, 4)))
    assert str(2 * picture) == "2:img:(a picture)"
