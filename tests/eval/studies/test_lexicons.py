"""The study of lexicons and banks: a code that is given what it lacks ranks better."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.studies import lexicons
from lexlip.errors import LexLIPError
from lexlip.models.lexical.code import unit
from tests.support.cones import cones


def test_recall_is_of_all_documents_and_words_help():
    world = cones(pictures=120, words=150)
    first = np.array([np.flatnonzero(world.owner == n)[0] for n in range(60, 120)])
    given = world.pictures[:60], world.pictures[60:], world.captions[first], world.captions[:0]
    many = lexicons.recall(world.words, *given, terms=40)
    few = lexicons.recall(world.words[:4], *given, terms=4)
    assert set(many) == {"R@1", "R@5", "R@10"}
    assert many["R@1"] <= many["R@5"] <= many["R@10"] <= 100
    assert many["R@10"] > few["R@10"] + 10


@pytest.fixture
def captions(tmp_path, monkeypatch):
    """Captions of 700 pictures, and an encoder that hashes words into a space."""
    rng = np.random.default_rng(0)
    nouns = rng.choice(["dog", "boat", "tree", "girl", "street", "horse", "ball", "snow"], (700, 3))
    rows = [[f"a {a} and a {b} number {n}", f"{b}, {a}", f"the {c}"] for n, (a, b, c) in
            enumerate(nouns)]  # fmt: skip
    (tmp_path / "captions").mkdir()
    with gzip.open(tmp_path / "captions" / "flickr30k_en_safe.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"captions": row}) + "\n" for row in rows)
    monkeypatch.setenv("LEXLIP_DATA", str(tmp_path))
    known: dict[str, np.ndarray] = {}

    def encode(texts):
        parts = [[known.setdefault(w, rng.normal(size=24)) for w in t.split()] for t in texts]
        return unit(np.array([np.sum(p, 0) for p in parts], np.float32).reshape(-1, 24))

    monkeypatch.setattr(lexicons, "encoder", lambda: encode)


def test_the_study_measures_each_bank_with_each_lexicon(captions):
    keys = ["sample=100", "gallery=150", "size=60", "terms=8"]
    done = CliRunner().invoke(lexicons.app, keys)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if "R@1" in line]
    assert len(lines) == 6 and len({line.split("R@1")[0] for line in lines}) == 6


def test_too_few_captions_are_one_line(captions):
    with pytest.raises(LexLIPError, match="too few"):
        lexicons.main(["sample=600", "gallery=600"])
