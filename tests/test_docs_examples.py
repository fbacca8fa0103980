"""Queries about scenes that pages, help and the web page show: the shipped model answers them."""

from __future__ import annotations

import re

import pytest

from lexlip import Index
from lexlip.data.draw import COLOURS, GROUNDS, SHAPES
from lexlip.data.grammar import SIZE_WORDS, TEXTURE_WORDS, vocabulary
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


FIELDS = {
    "shape": {form: shape for shape in SHAPES for form in (shape, _plural(shape))},
    "colour": {colour: colour for colour in COLOURS},
    "size": {word: size for size, words in SIZE_WORDS.items() for word in words},
    "texture": {word: kind for kind, words in TEXTURE_WORDS.items() for word in words},
    "count": {"two": 2, "pair": 2, "three": 3},
}


def meaning(text):
    """Read one noun phrase, perhaps with a ground, as a predicate; None without a shape."""
    words = text.split()
    said = {
        field: next((table[word] for word in words if word in table), None)
        for field, table in FIELDS.items()
    }
    if said["shape"] is None:
        return None
    ground = next((word for word in words if word in GROUNDS), None)
    return Predicate((Pattern(**said),), ground=ground)


def parts(query):
    """Split a query at its signs: what is wanted, and what must not be there."""
    wanted, excluded = [], []
    for piece in re.split(r"\s\+\s|\s(?=-)", query):
        hard = re.fullmatch(r"-([a-z]+)", piece.strip())
        soft = piece.startswith("-")
        found = meaning(OPERATOR.sub(" ", hard[1] if hard else piece))
        if found is not None and not (soft and not hard):
            (excluded if hard else wanted).append(found)
    return wanted, excluded


def examples():
    """Strings in quotes that hold words of scenes and signs only, and name a shape."""
    known = set(vocabulary())
    for path in SHOWN:
        text = path.read_text("utf-8")
        for _, quoted in re.findall(r"(['\"])((?:(?!\1)[^\n])+)\1", text):
            words = OPERATOR.sub(" ", quoted.replace(" -", " ")).split()
            if len(words) > 1 and set(words) <= known and parts(quoted)[0]:
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
    assert len(EXAMPLES) > 8 and "a large red heart" in EXAMPLES
    wanted, excluded = parts("two red hearts + 2:moon -star -0.5:bow must:blue>=30")
    assert [p.patterns[0].shape for p in wanted] == ["heart", "moon"]
    assert wanted[0].patterns[0].count == 2 and wanted[0].patterns[0].colour == "red"
    assert [p.patterns[0].shape for p in excluded] == ["star"]


@pytest.mark.parametrize("query", EXAMPLES)
def test_the_best_pictures_of_an_example_are_right(index, drawn, query):
    wanted, excluded = parts(query)

    def right(scene):
        said = any(matches(one, scene) for one in wanted)
        return said and not any(matches(one, scene) for one in excluded)

    there = sum(map(right, drawn.values()))
    hits = index.search(query, k=5)
    found = sum(right(drawn[hit.id.removesuffix(".png")]) for hit in hits)
    assert there and found >= 0.8 * min(5, there)
