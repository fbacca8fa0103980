"""Queries about scenes that pages, help and the web page show use words that the model knows well.

A bag of words does not bind them: "red heart" also finds a red moon beside a blue heart. So the
words of an example are asked one by one. `EXACT` are right as sentences.
"""

from __future__ import annotations

import re

import pytest

from lexlip import Index
from lexlip.data.draw import COLOURS, SHAPES
from lexlip.data.grammar import vocabulary
from lexlip.data.scenes import Pattern, Predicate, make_scenes, matches
from lexlip.models.shipped import load_shipped
from tests.support.pages import PAGES, ROOT

LIBRARY = ROOT / "lexlip"
SHOWN = [
    *PAGES,
    LIBRARY / "__init__.py",
    *(LIBRARY / "cli").glob("*.py"),
    *(LIBRARY / "server").rglob("*.py"),
    LIBRARY / "server" / "static" / "grammar.js",
]
OPERATOR = re.compile(r"(?:must|not|boost|missing):\S*|[+\-]?\d*\.?\d*:|\^-?\d+|[+\"()]")


def _plural(shape):
    return shape + ("es" if shape.endswith("s") else "s")


NAMES = {form: Predicate((Pattern(shape=one),)) for one in SHAPES for form in (one, _plural(one))}
NAMES |= {colour: Predicate((Pattern(colour=colour),)) for colour in COLOURS}
EXACT = {
    "a heart": Predicate((Pattern(shape="heart"),)),
    "a heart in the snow": Predicate((Pattern(shape="heart"),), ground="snow"),
    "a bow at night": Predicate((Pattern(shape="bow"),), ground="night"),
    "red on the snow": Predicate((Pattern(colour="red"),), ground="snow"),
    "two hearts": Predicate((Pattern(shape="heart", count=2),)),
}


def words_of(query):
    """Shapes and colours of an example, as they stand in it."""
    return {word for word in OPERATOR.sub(" ", query.replace(" -", " ")).split() if word in NAMES}


def examples():
    """Strings in quotes that hold words of scenes and signs only, and name a shape."""
    known = set(vocabulary())
    for path in SHOWN:
        text = path.read_text("utf-8")
        for _, quoted in re.findall(r"(['\"])((?:(?!\1)[^\n])+)\1", text):
            words = OPERATOR.sub(" ", quoted.replace(" -", " ")).split()
            if len(words) > 1 and set(words) <= known and words_of(quoted) & {*SHAPES}:
                yield quoted


EXAMPLES = sorted(set(examples()))


@pytest.fixture(scope="module")
def drawn():
    return {scene.id: scene for scene in make_scenes(500, 11)}


@pytest.fixture(scope="module")
def index(drawn, tmp_path_factory):
    home = tmp_path_factory.mktemp("drawn")
    for name, scene in drawn.items():
        scene.draw().save(home / f"{name}.png", compress_level=1)
    path = tmp_path_factory.mktemp("index") / "scenes.lex"
    with Index.create(path, load_shipped(), home, engine="postings") as made:
        yield made


def test_examples_are_found():
    assert len(EXAMPLES) > 8 and "a heart in the snow" in EXAMPLES
    assert words_of("two red hearts + 2:moon -star must:blue>=30") == {
        "red",
        "hearts",
        "moon",
        "star",
    }


@pytest.mark.parametrize("word", sorted(set().union(*map(words_of, EXAMPLES))))
def test_a_word_of_the_examples_finds_what_it_names(index, drawn, word):
    hits = index.search(word, k=5)
    found = [matches(NAMES[word], drawn[hit.id.removesuffix(".png")]) for hit in hits]
    assert sum(found) >= 4


@pytest.mark.parametrize("query", EXACT)
def test_examples_of_the_demo_are_right_as_sentences(index, drawn, query):
    there = sum(matches(EXACT[query], scene) for scene in drawn.values())
    hits = index.search(query, k=5)
    found = [matches(EXACT[query], drawn[hit.id.removesuffix(".png")]) for hit in hits]
    assert there and sum(found) >= 0.8 * min(5, there)
