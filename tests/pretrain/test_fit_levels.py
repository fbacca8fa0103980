"""Levels fitted to a checkpoint: hubs of a training set lose their length."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lexlip import LexLIP
from lexlip.errors import LexLIPError
from lexlip.models.levels import Levels
from pretrain.fit_levels import Fit, bank_of_training, main, measure
from pretrain.loop import Workbench


def test_a_bank_is_fitted_beside_its_checkpoint(model, tiny_run, tmp_path, capsys):
    model.save_pretrained(tmp_path / "stage2")
    main(["levels.pictures=7", "levels.texts=9", "levels.power=0.5"], tiny_run, str(tmp_path))
    said = capsys.readouterr().out
    bench = Workbench.open(tiny_run, [])
    found = LexLIP.from_pretrained(tmp_path / "stage2").levels
    assert found.power == 0.5 and found.model == model.fingerprint
    assert (found.bank["pictures"].shape[0], found.bank["texts"].shape[0]) == (7, 9)
    told = json.loads((tmp_path / "stage2" / "levels" / "manifest.json").read_text())
    assert (told["bank_pictures"], told["bank_texts"]) == (7, 9)
    # What it prints is what it measured.
    lines = dict(line.split(": ", 1) for line in said.splitlines() if line.startswith(("be", "af")))
    measured = measure(model, bench, found)
    for name in ("before", "after"):
        assert json.loads(lines[name]) == pytest.approx(measured[name], abs=1e-3)
    assert measured["before"].keys() == {f"{w}_R@{k}" for w in ("t2i", "i2t") for k in (1, 5, 10)}
    # A bank without power changes nothing.
    flat = Levels.fit(found.bank, model.fingerprint, power=0.0)
    same = measure(model, bench, flat)
    assert same["before"] == same["after"] == measured["before"]


def test_the_bank_is_drawn_from_training_by_the_seed(model, tiny_run):
    bench = Workbench.open(tiny_run, [])
    first, again = (bank_of_training(model, bench, Fit(pictures=5, texts=6)) for _ in range(2))
    other = bank_of_training(model, Workbench.open(tiny_run, ["seed=4"]), Fit(pictures=5, texts=6))
    for kind in ("pictures", "texts"):
        assert (first[kind] != again[kind]).nnz == 0
        assert np.abs((first[kind] - other[kind]).toarray()).max() > 0


@pytest.mark.parametrize("wrong", ["levels.pictures=0", "levels.texts=0", "levels.temperature=0"])
def test_a_bank_of_nothing_is_one_line(model, tiny_run, tmp_path, wrong):
    model.save_pretrained(tmp_path / "stage2")
    with pytest.raises(LexLIPError, match="a bank needs"):
        main([wrong], tiny_run, str(tmp_path))
    assert not (tmp_path / "stage2" / "levels").exists()
