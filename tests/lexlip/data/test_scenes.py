"""Scenes: captions are true and complete, files are reproducible."""

from __future__ import annotations

import json
import random
import re
import statistics
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest

from lexlip.data.draw import COLOURS, GROUNDS, RADII, REGIONS, SHAPES, TEXTURES, Group, visible
from lexlip.data.grammar import make_captions
from lexlip.data.scenes import (
    Pattern,
    Predicate,
    Scene,
    make_scenes,
    matches,
    relevance,
    vocabulary,
    write_scenes,
)
from lexlip.errors import LexLIPError
from tests.support.scenes import true_words

# --- an independent reading of captions: regular expressions on the text --------------------------

NOUN = re.compile(
    r"\b(?P<count>a pair of|a single|an|a|one|two|three)"
    r"(?: (?P<size>small|little|large|big))?"
    r"(?: (?P<texture>plain|solid|striped|dotted|spotted|hollow|empty))?"
    rf"(?: (?P<colour>{'|'.join(COLOURS)}))?"
    rf" (?P<shape>{'|'.join(SHAPES)}|shape)(?:e?s)?\b"
)
SAME = {
    **{"a": 1, "an": 1, "one": 1, "a single": 1, "two": 2, "a pair of": 2, "three": 3},
    **{"little": "small", "big": "large", "solid": "plain", "spotted": "dotted", "empty": "hollow"},
}
PLACE = re.compile(r"(?:on|at|in) the (top left|top right|bottom left|bottom right|left|right|top"
                   r"|bottom|middle|center)(?: corner| side)?(?! of)")  # fmt: skip
RELATION = re.compile(r"\b(left of|right of|above|over|below|under|beside|next to)\b")
GROUND = {
    **{"snow": "snow", "sand": "sand", "beach": "sand", "grass": "grass", "lawn": "grass"},
    **{"sky": "sky", "stone": "stone", "wall": "stone", "night": "night", "dark": "night"},
}


def side(group, word):
    """Tell from coordinates whether a group is on this side of the picture."""
    x, y = REGIONS[group.region]
    return {"left": x < 0.4, "right": x > 0.6, "top": y < 0.4, "bottom": y > 0.6}[word]


def related(a, b, words):
    left, right = (
        side(a, "left") and side(b, "right"),
        side(a, "right") and side(b, "left"),
    )
    above = side(a, "top") and side(b, "bottom")
    below = side(a, "bottom") and side(b, "top")
    return {
        **{"left of": left, "right of": right, "above": above, "over": above},
        **dict.fromkeys(("below", "under"), below),
        **dict.fromkeys(("beside", "next to"), (left or right) and not (above or below)),
    }[words]


def reads_true(text, ground, groups):
    """Decide from the words alone whether a caption is true."""
    nouns = list(NOUN.finditer(text))
    assert nouns, text
    tails = [
        text[noun.end() : following.start() if following else len(text)]
        for noun, following in zip(nouns, [*nouns[1:], None], strict=True)
    ]

    def fits(noun, tail, group):
        for name in ("size", "texture", "colour", "shape"):
            word = SAME.get(noun[name], noun[name])
            if word not in (None, "shape", getattr(group, name)):
                return False
        place = PLACE.search(tail)
        if place and place[1] in ("middle", "center") and REGIONS[group.region] != (0.5, 0.5):
            return False
        if place and place[1] not in ("middle", "center"):
            if not all(side(group, word) for word in place[1].split()):
                return False
        return SAME[noun["count"]] == group.count

    if any(word in GROUND and GROUND[word] != ground for word in text.split()):
        return False
    if {"only", "just", "alone", "nothing"} & set(text.split()) and len(groups) > 1:
        return False
    relation = RELATION.search(tails[0])
    return any(
        all(map(fits, nouns, tails, chosen))
        and (relation is None or related(chosen[0], chosen[1], relation[1]))
        for chosen in permutations(groups, len(nouns))
    )


def variants(scene, rng):
    """Yield scenes that differ from this one in little, so that captions may just fail or hold."""
    for i, group in enumerate(scene.groups):
        for change in (
            {"count": rng.randint(1, 3)},
            {"size": rng.choice(list(RADII))},
            {"texture": rng.choice(TEXTURES)},
            {"region": rng.choice(list(REGIONS))},
            {"colour": rng.choice(list(COLOURS))},
            {"shape": rng.choice(list(SHAPES))},
        ):
            groups = list(scene.groups)
            groups[i] = replace(group, **change)
            yield replace(scene, groups=tuple(groups))
    yield replace(scene, ground=rng.choice(list(GROUNDS)))
    yield replace(scene, groups=scene.groups[:1])
    yield replace(scene, groups=scene.groups[::-1])
    extra = Group("star", "red", "plain", "small", 1, "middle")
    yield replace(scene, groups=(*scene.groups, extra))


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(500, seed=11)


def test_meaning_agrees_with_the_words(scenes):
    rng = random.Random(3)
    answers = []
    for scene in scenes[:250]:
        for other in [scene, *variants(scene, rng)]:
            for caption in scene.captions:
                told = reads_true(caption.text, other.ground, other.groups)
                assert matches(caption.predicate, other) == told, (caption.text, other)
                answers.append(told)
    assert 0.2 < statistics.mean(answers) < 0.9  # both answers occur often


def test_relevance_is_complete(scenes):
    some = scenes[:150]
    # One scene twice under two names: each must be found for the captions of the other.
    some = [*some, replace(some[0], id="again")]
    found = relevance(some)
    assert len(found) == 5 * len(some)
    for scene in some:
        for i, caption in enumerate(scene.captions):
            true = {s.id for s in some if reads_true(caption.text, s.ground, s.groups)}
            assert found[f"{scene.id}#{i}"] == true
    assert found["again#0"] >= {"again", some[0].id}


def test_semantics_stated_in_the_docstring():
    def scene(*groups, ground="snow"):
        return Scene("s", ground, groups, (), "0")

    two = Group("circle", "red", "striped", "small", 2, "top left")
    one = Group("square", "blue", "plain", "large", 1, "right")
    both = scene(two, one)
    assert matches(Predicate((Pattern("circle", "red", count=2),)), both)
    assert not matches(Predicate((Pattern("circle", "red", count=1),)), both)
    assert matches(Predicate((Pattern("circle", place="top"),)), both)
    assert not matches(Predicate((Pattern("square", place="top"),)), both)
    assert matches(Predicate((Pattern("circle"), Pattern("square")), "left"), both)
    assert matches(Predicate((Pattern("circle"), Pattern("square")), "beside"), both)
    assert not matches(Predicate((Pattern("circle"), Pattern("square")), "above"), both)
    assert not matches(Predicate((Pattern("circle"), Pattern(colour="red"))), both)
    assert not matches(Predicate((Pattern("square"),), alone=True), both)
    assert matches(Predicate((Pattern("square"),), alone=True), scene(one))
    assert not matches(Predicate((Pattern("square"),), ground="night"), scene(one))


def test_scenes_are_well_formed(scenes):
    assert len({scene.structure for scene in scenes}) == len(scenes)
    for scene in scenes:
        assert len({c.text for c in scene.captions}) == len(scene.captions) == 5
        assert len({g.shape for g in scene.groups}) == len(scene.groups)
        assert len({g.colour for g in scene.groups}) == len(scene.groups)
        assert all(visible(g.colour, scene.ground) for g in scene.groups)
    for name in ("shape", "colour", "texture", "size", "count", "region"):
        seen = {getattr(g, name) for scene in scenes for g in scene.groups}
        assert len(seen) == {"shape": 10, "colour": 9, "texture": 4, "size": 2, "count": 3}.get(
            name, len(REGIONS)
        )


def test_colours_are_well_separated():
    for table, least in ((COLOURS, 80), (GROUNDS, 40)):
        pairs = combinations(table.values(), 2)
        assert min(float(np.linalg.norm(np.subtract(a, b))) for a, b in pairs) > least


# --- words ----------------------------------------------------------------------------------------


def test_words_are_of_the_vocabulary_and_true(scenes):
    known = set(vocabulary())
    assert vocabulary() == sorted(known)
    by_id = {scene.id: scene for scene in scenes}
    used = set()
    for query, fitting in relevance(scenes).items():
        name, _, number = query.rpartition("#")
        words = set(by_id[name].captions[int(number)].text.split())
        used |= words
        for other in fitting:
            assert words <= true_words(by_id[other])
    assert used == known


@pytest.mark.parametrize("number", [0, 1, 2, 5, 9])
def test_every_true_word_can_be_said(scenes, number):
    """No word is credited to a scene that its grammar would never use of it."""
    scene = scenes[number]
    said = set()
    for seed in range(500):
        captions = make_captions(scene.groups, scene.ground, random.Random(seed))
        said |= {word for caption in captions for word in caption.text.split()}
    assert said <= true_words(scene)
    assert true_words(scene) - said <= {"an"}  # rare: needs a noun phrase without its first words


def test_a_bag_of_words_can_find_them(scenes):
    """The benchmark is winnable by what the encoder is: a bag of true words for each picture."""
    rng = np.random.default_rng(0)
    column = {word: i for i, word in enumerate(vocabulary())}
    bags = np.zeros((len(scenes), len(column)), dtype=np.int64)
    for row, scene in zip(bags, scenes, strict=True):
        row[[column[word] for word in true_words(scene)]] = 1
    found = relevance(scenes)
    hits = []
    for scene in scenes:
        for i, caption in enumerate(scene.captions):
            scores = bags[:, [column[word] for word in set(caption.text.split())]].sum(axis=1)
            best = rng.choice(np.flatnonzero(scores == scores.max()))
            hits.append(scenes[best].id in found[f"{scene.id}#{i}"])
    assert statistics.mean(hits) >= 0.93
    assert statistics.median(len(fitting) for fitting in found.values()) <= 3


def test_same_seed_same_scenes_same_bytes():
    first, again = make_scenes(20, seed=5), make_scenes(30, seed=5)[:20]
    assert first == again
    assert all(a.draw().tobytes() == b.draw().tobytes() for a, b in zip(first, again, strict=True))
    assert {s.structure for s in first}.isdisjoint({s.structure for s in make_scenes(20, seed=6)})


# --- files ----------------------------------------------------------------------------------------


def test_written_scenes(tmp_path):
    datasets = pytest.importorskip("datasets")
    folder = write_scenes(tmp_path / "scenes", train=30, dev=10, test=8, seed=1)
    scenes = make_scenes(48, seed=1)
    for split, part in {"train": scenes[:30], "dev": scenes[30:40], "test": scenes[40:]}.items():
        path = folder / f"{split}-00000-of-00001.parquet"
        table = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
        assert isinstance(table.features["image"], datasets.Image)
        assert table["image_id"][:] == [s.id for s in part]
        assert table["captions"][:] == [[c.text for c in s.captions] for s in part]
        assert table[0]["image"].format == "PNG"
        assert table[0]["image"].tobytes() == part[0].draw().tobytes()
        lines = (folder / f"qrels-{split}.tsv").read_text().splitlines()
        true = {
            f"{s.id}#{i}\t0\t{other.id}\t1"
            for s in part
            for i, c in enumerate(s.captions)
            for other in part
            if matches(c.predicate, other)
        }
        assert len(lines) == len(set(lines)) and set(lines) == true
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "scenes"]


def test_writing_again(tmp_path):
    sizes = {"train": 4, "dev": 2, "test": 0}
    folder = write_scenes(tmp_path / "a", **sizes, seed=3)
    assert not (folder / "test-00000-of-00001.parquet").exists()
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}
    write_scenes(folder, **sizes, seed=3)
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()} == before
    other = write_scenes(tmp_path / "b", **sizes, seed=3)
    assert all((other / name).read_bytes() == data for name, (_, data) in before.items())
    with pytest.raises(LexLIPError, match="something else"):
        write_scenes(folder, **sizes, seed=4)
    assert json.loads((folder / "manifest.json").read_text())["seed"] == 3


def test_other_files_are_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(LexLIPError):
        write_scenes(tmp_path, train=1, dev=0, test=0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(LexLIPError):
        write_scenes(tmp_path / "new", train=-1)


def test_a_crash_leaves_nothing(tmp_path, monkeypatch):
    def crash(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lexlip.data.scenes._write_split", crash)
    with pytest.raises(LexLIPError, match="No space"):
        write_scenes(tmp_path / "scenes", train=1, dev=1, test=1)
    assert not list(tmp_path.iterdir())
