"""Queries about drawn scenes that pages, help and docstrings show find what they ask for.

They are collected from the files, so a new example is tested as soon as it is written. They are
asked on both collections that a reader has: the pictures of `lexlip demo`, and those that
`make demo` indexes. What pictures show is known from how they were drawn.
"""

from __future__ import annotations

import json
import re
from urllib.parse import unquote_plus

import pytest

from lexlip import Index
from lexlip.data.draw import SHAPES
from lexlip.data.scenes import make_scenes
from lexlip.home.demo import SCENES, SEED, demonstration
from lexlip.models.shipped import load_shipped
from lexlip.query.query import Query
from tests.support import demo_picture
from tests.support.pages import DOCS, PAGES, ROOT, name_of
from tests.support.scene_truth import SHAPE_NAMES, WORDS, asked, plural

LIBRARY = ROOT / "lexlip"
GRAMMAR = {LIBRARY / "data" / f"{name}.py" for name in ("draw", "grammar", "meaning", "scenes")}
"""Modules that make captions: their texts are no queries."""
SHOWN = [
    *PAGES,
    ROOT / "Makefile",
    DOCS / "tour.ipynb",
    *sorted(set(LIBRARY.rglob("*.py")) - GRAMMAR),
    *sorted(one for one in (LIBRARY / "server" / "static").iterdir() if one.suffix != ".css"),
]
LIMITS = {"a red heart": "docs/tutorial.md"}
"""Examples of what goes wrong, and the page that shows them as such."""
BEST = 5
ENOUGH = 0.8
QUOTED = re.compile(r"(['\"`])((?:(?!\1)[^\n])+)\1")
IN_URL = re.compile(r"[?&]q=([^&'\"\s]+)")
TERM = r'(?:(\d+\.?\d*) \* )?Query\.text\("([^"]+)"\)'
SUM = re.compile(rf"{TERM}(?: [+-] {TERM})*")
WEIGHED = re.compile(r"\{((?:\"\w+\": -?\d+(?:, )?)+)\}")


def texts_of(path):
    """The lines of a file, of a notebook those of its cells."""
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text.splitlines()
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells).splitlines()


def strings_in(line):
    """All strings of a line that may be queries: quoted, added, in an address, as weights."""
    for _, quoted in QUOTED.findall(line):
        yield quoted
        yield from (inner for _, inner in QUOTED.findall(quoted))
    yield from map(unquote_plus, IN_URL.findall(line))
    for added in SUM.finditer(line):
        yield re.sub(TERM, lambda one: f'{one[1] or 1}:"{one[2]}"', added[0])
    for pairs in WEIGHED.findall(line):
        yield " ".join(f"{w}^{n}" for w, n in re.findall(r'"(\w+)": (-?\d+)', pairs))


def about_scenes(text):
    """Whether a string is a query of words of scenes, and names a shape."""
    words = set(re.findall(r"[^\W\d_]+", text))
    return bool(words & SHAPE_NAMES.keys()) and not text.isalpha() and asked(text) is not None


def examples():
    """Example -> the places where it stands."""
    found = {query: ["docs/demo.webp"] for query in demo_picture.QUERIES}
    for path in SHOWN:
        for number, line in enumerate(texts_of(path), 1):
            for text in filter(about_scenes, strings_in(line)):
                found.setdefault(text, []).append(f"{name_of(path)}:{number}")
    return found


EXAMPLES = examples()


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """Name -> index and its scenes by id, of both demonstrations; one model reads both."""
    demo = Index.open(demonstration(tmp_path_factory.mktemp("demo")), load_shipped())
    # As pretrain/configs/scenes.toml splits them: 6,000 to train, 200 for dev, then the test's.
    scenes = make_scenes(6700, 0)[6200:]
    pictures = {scene.id: scene.draw() for scene in scenes}
    home = tmp_path_factory.mktemp("made")
    made = Index.create(home / "made.lex", load_shipped(), pictures, engine="postings")
    drawn = {f"{n:03}.png": scene for n, scene in enumerate(make_scenes(SCENES, SEED))}
    with demo, made:
        yield {"lexlip demo": (demo, drawn), "make demo": (made, {s.id: s for s in scenes})}


def share_right(collection, query):
    """The share of right pictures among the best, at most as many as there are right ones."""
    index, scenes = collection
    meant = asked(query)
    there = sum(map(meant.fits, scenes.values()))
    assert there, f"no picture has what {query!r} asks for"
    hits = index.search(Query.parse(query), k=BEST)
    return sum(meant.fits(scenes[hit.id]) for hit in hits) / min(BEST, there)


def test_examples_are_collected():
    assert {"a heart in the snow", "a red heart"} <= EXAMPLES.keys() and len(EXAMPLES) > 8
    line = """curl 'h/search?q=two+hearts+-moon' -d '{"words": {"red": 40, "moon": -10}}' `a bow`"""
    assert {*filter(about_scenes, strings_in(line))} == {
        "two hearts -moon", "red^40 moon^-10", "a bow"
    }  # fmt: skip
    line = 'q = Query.text("heart") + 2 * Query.text("moon") - 0.5 * Query.image("a.png")'
    assert {*filter(about_scenes, strings_in(line))} == {'1:"heart" + 2:"moon"'}
    assert asked("a moon beside a bee") is None and asked("heart") is not None
    assert not about_scenes("only two") and not about_scenes("red^64 heart^58 people^-10")


def test_what_a_query_asks_for_is_read():
    scene = make_scenes(1, 0)[0]
    group = scene.groups[0]
    other = next(shape for shape in SHAPES if shape not in {one.shape for one in scene.groups})
    number = {1: "one", 2: "two", 3: "three"}
    wrong = number[group.count % 3 + 1]
    assert asked(f"{group.colour} {group.shape} + 2:{group.shape} -{other}").fits(scene)
    assert asked(f"{number[group.count]} {group.size} {plural(group.shape)}").fits(scene)
    assert asked(f"{group.shape}^64 {group.colour}^20 {other}^-9 must:{group.shape}>=9").fits(scene)
    assert asked(f"{group.shape} -0.5:{other}").fits(scene)
    for query in (f"{wrong} {plural(group.shape)}", other, f"{group.colour} -{group.shape}",
                  f"{group.shape} must:{other}", f"{group.shape} + {other}"):  # fmt: skip
        assert not asked(query).fits(scene), query
    for caption in scene.captions:
        assert asked(caption.text).fits(scene), caption.text


@pytest.mark.parametrize("query", sorted(EXAMPLES.keys() - LIMITS.keys()))
def test_an_example_finds_what_it_asks_for(collections, query):
    right = {name: share_right(one, query) for name, one in collections.items()}
    assert min(right.values()) >= ENOUGH, f"{query!r} in {', '.join(EXAMPLES[query])}: {right}"


@pytest.mark.parametrize("query", demo_picture.QUERIES)
def test_all_pictures_in_the_readme_are_right(collections, query):
    assert share_right(collections["lexlip demo"], query) == 1


@pytest.mark.parametrize("query", sorted(LIMITS))
def test_an_example_of_a_limit_is_one(collections, query):
    assert {place.partition(":")[0] for place in EXAMPLES[query]} == {LIMITS[query]}
    assert min(share_right(one, query) for one in collections.values()) < ENOUGH


@pytest.mark.parametrize("shape", SHAPES)
def test_a_word_alone_finds_what_it_names(collections, shape):
    for one in collections.values():
        assert share_right(one, shape) >= ENOUGH


def test_words_are_those_of_captions():
    assert WORDS >= SHAPE_NAMES.keys()
