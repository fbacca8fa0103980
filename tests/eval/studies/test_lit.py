"""Where things are, by geometry; and what is counted when the lit patch is known."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.studies import lit
from lexlip.data.draw import RADII, REGIONS
from lexlip.data.scenes import make_scenes
from lexlip.errors import LexLIPError
from lexlip.models.localisation.results import Provenance

SCENES = make_scenes(30, seed=3)


def test_groups_are_where_they_were_drawn():
    """The shapes of a group lie around the centre of its region, and cover what they should."""
    seen = 0
    for scene in SCENES:
        for group in scene.groups:
            there = lit.covered(scene, group, (64, 64))  # a patch a pixel
            ys, xs = np.nonzero(there)
            x, y = REGIONS[group.region]
            assert abs(xs.min() + xs.max() + 1 - 128 * x) / 128 < 0.11
            assert abs(ys.min() + ys.max() + 1 - 128 * y) / 128 < 0.11
            share = there.sum() / (group.count * (2 * RADII[group.size] * 64) ** 2)
            assert 0.25 < share < 1.6, group  # of a square around it; outlines are thick
            seen += 1
    assert seen > 40


def test_groups_of_one_scene_do_not_share_pixels():
    for scene in SCENES:
        masks = [lit.covered(scene, group, (64, 64)) for group in scene.groups]
        assert np.sum(masks, axis=0).max() == 1


def test_patches_that_overlap_are_those_with_a_pixel():
    for scene in SCENES[:10]:
        for group in scene.groups:
            pixels = lit.covered(scene, group, (64, 64))
            coarse = pixels.reshape(8, 8, 8, 8).any((1, 3))
            np.testing.assert_array_equal(lit.covered(scene, group, (8, 8)), coarse)


def test_a_case_is_judged_by_its_patch():
    there = np.zeros((4, 4), bool)
    there[1, 1] = True
    heat = np.zeros((4, 4), np.float32)
    heat[0, 1] = heat[2, 1] = 1  # the centre between them is on it
    lost = np.zeros((4, 4), np.float32)
    lost[3, 3] = 1
    found = Provenance((4, 4), {7: 1, 8: 5, 9: 15}, {7: heat, 8: heat, 9: heat})
    assert lit.judge(found, lost, 7, there) == {
        "lit": 0, "near": 1, "centre": 1, "hidden": 0, "chance": 1 / 16, "chance near": 9 / 16
    }  # fmt: skip
    assert lit.judge(found, there.astype(np.float32), 8, there)["hidden"] == 1
    assert [lit.judge(found, lost, term, there)["lit"] for term in (8, 9)] == [1, 0]
    assert lit.judge(found, lost, 9, there)["near"] == 0


@pytest.fixture
def planted():
    """A model whose patches are told: right for colours, wrong for all else."""
    tokens = ["circle", "circles", "red", "purple", "star", "stars", "blue", "large", "small"]
    lookup = iter(())

    def locate(picture, terms):
        scene = next(lookup)
        patches, heat = {}, {}
        for term in terms:
            word = tokens[term]
            there = np.zeros((8, 8), bool)
            for group in scene.groups:
                if word in (name for _, name in lit.words_of(group)):
                    there |= lit.covered(scene, group, (8, 8))
            right = word in ("red", "purple", "blue")
            places = np.flatnonzero(there if right else ~there)
            patches[term] = -1 if word in ("large", "stars") else int(places[0])
            heat[term] = np.zeros((8, 8), np.float32)
            heat[term].flat[places[0]] = 1
        return Provenance((8, 8), patches, heat)

    def start(scenes):
        nonlocal lookup
        lookup = iter(scenes)
        return SimpleNamespace(
            lexicon=SimpleNamespace(tokens=tokens),
            locate=locate,
            locate_pixels=lambda picture, terms: {t: np.ones((8, 8)) for t in terms},
            aligns=False,
            **dict.fromkeys(("trace_text", "text_attention", "align"), print),  # not asked for
        )

    return start


def test_words_are_counted_by_kind(planted):
    rows = {row["kind"]: row for row in lit.measure(planted(SCENES), SCENES)}
    groups = [group for scene in SCENES for group in scene.groups]
    colours = sum(group.colour in ("red", "purple", "blue") for group in groups)
    shapes = sum(group.shape == "circle" or (group.shape, group.count) == ("star", 1)
                 for group in groups)  # fmt: skip
    assert rows["colour"]["cases"] == colours > 5 and rows["colour"]["lit"] == 1
    assert rows["shape"]["cases"] == shapes > 5 and rows["shape"]["lit"] == 0
    together = rows["shape + colour"]
    assert together["cases"] == colours + shapes
    assert together["lit"] == pytest.approx(colours / (colours + shapes))
    # A word of several groups is one case, and "large" is never had.
    small = sum(any(group.size == "small" for group in scene.groups) for scene in SCENES)
    assert rows["size"]["cases"] == small and "texture" not in rows
    assert lit.table(list(rows.values())).splitlines()[2].startswith("shape + colour")


def test_a_model_that_says_nothing(planted):
    with pytest.raises(LexLIPError, match="train the model first"):
        lit.measure(planted([]), [])


def test_only_scenes_can_be_measured():
    settings = SimpleNamespace(
        data="scenes", split="dev", limit=3, collection=SimpleNamespace(scenes={"train": 5})
    )
    assert lit.scenes_of(settings) == make_scenes(8, 0)[5:]
    for name, value in (("split", "val"), ("data", "flickr8k")):
        changed = SimpleNamespace(**{**vars(settings), name: value})
        with pytest.raises(LexLIPError, match=value):
            lit.scenes_of(changed)


def test_the_command_writes_its_numbers(checkpoint, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('[data]\nsource = "scenes"\nscenes = { train = 2, test = 4, size = 32 }\n')
    keys = [f"model={checkpoint}", "split=test", f"out={tmp_path}"]
    result = CliRunner().invoke(lit.app, ["--config", str(config), *keys])
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "lit.json").read_text())
    assert told["split"] == "test" and told["rows"][0]["kind"] == "shape + colour"
    assert all(0 <= row[name] <= 1 for row in told["rows"] for name in lit.MEASURES)
    gone = CliRunner().invoke(lit.app, ["--config", str(config), f"model={tmp_path / 'gone'}"])
    assert gone.exit_code == 2 and "lexlip: " in gone.output
