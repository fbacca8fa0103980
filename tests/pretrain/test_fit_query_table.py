"""Fitting a query table: regression by hand, gradients by definition, and a run from end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.impacts import unit_normalise
from lexlip.lexicon import Lexicon
from lexlip.models.lexical.lexicalise import lexicalise
from lexlip.models.query_table import QueryTable
from pretrain.fit_query_table import (
    Fit,
    Ranker,
    bags,
    fit_table,
    frequent_pairs,
    heaviest,
    learn_to_rank,
    main,
    regress,
)
from tests.support.clips import small_clip, small_tokenizer

SIZE = 10
LEXICON = Lexicon(tuple("abcdefghij"), np.array([2, 4, 5, 7]))


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [rng.integers(1, 9, rng.integers(1, 6)) for _ in range(80)]


@pytest.fixture(scope="module")
def target():
    rng = np.random.default_rng(1)
    return unit_normalise(csr_array(rng.random((80, 4)))).astype(np.float32)


def test_bags_are_what_stands_in_a_text(texts):
    pairs = frequent_pairs(texts, SIZE, 3)
    bag = bags(texts, SIZE, pairs).toarray()
    for row, ids in zip(bag, texts, strict=True):
        assert set(np.flatnonzero(row[:SIZE])) == set(ids.tolist())
        adjacent = {(a, b) for a, b in zip(ids[:-1], ids[1:], strict=True)}
        known = [divmod(int(pair), SIZE) in adjacent for pair in pairs]
        assert row[SIZE:].tolist() == [float(k) for k in known]
    assert bag[:, SIZE:].sum(0).min() >= 3 and len(frequent_pairs(texts, SIZE, 0)) == 0


def test_regression_is_the_ridge_around_own_words(texts, target):
    bag = bags(texts, SIZE, np.zeros(0, dtype=np.int64))
    rows = regress(bag, target, LEXICON, ridge=2.0).toarray()
    x, y = bag.toarray().astype(float), target.toarray()
    own = np.zeros((SIZE, 4))
    own[LEXICON.ids, np.arange(4)] = 1
    weight = (y * (x @ own)).sum() / (x @ own).sum()
    change = np.linalg.solve(x.T @ x + 2 * np.eye(SIZE), x.T @ (y - x @ own * weight))
    assert rows == pytest.approx(weight * own + change, abs=1e-4)


def test_pairs_take_what_is_left(texts, target):
    pairs = frequent_pairs(texts, SIZE, 3)
    bag = bags(texts, SIZE, pairs)
    rows = regress(bag, target, LEXICON, ridge=2.0).toarray()
    alone = regress(bag[:, :SIZE], target, LEXICON, ridge=2.0).toarray()
    assert rows[:SIZE] == pytest.approx(alone, abs=1e-6)
    x = bag.toarray()
    left = target.toarray() - x[:, :SIZE] @ alone
    by_hand = x[:, SIZE:].T @ left / (x[:, SIZE:].sum(0)[:, None] + 8)
    assert rows[SIZE:] == pytest.approx(by_hand, abs=1e-5)


def test_the_heaviest_of_either_sign_stay():
    rows = csr_array(np.array([[1.0, -3.0, 2.0], [0.0, 0.5, 0.0]]))
    assert heaviest(rows, 2).toarray().tolist() == [[0, -3, 2], [0, 0.5, 0]]


def test_a_ranker_adds_up_rows_and_its_gradient_is_the_definition(texts, target):
    rows = heaviest(regress(bags(texts, SIZE, np.zeros(0, np.int64)), target, LEXICON, 2.0), 3)
    bag = bags(texts[:7], SIZE, np.zeros(0, dtype=np.int64))
    ranker = Ranker(rows)
    queries = ranker(bag)
    assert queries.detach().numpy() == pytest.approx(
        np.maximum((bag @ rows).toarray(), 0), abs=1e-6
    )
    queries.square().sum().backward()
    step, number = 1e-3, 4
    up = csr_array(rows, copy=True)
    up.data[number] += step
    change = np.square(np.maximum((bag @ up).toarray(), 0)).sum() - queries.square().sum().item()
    assert ranker.values.grad[number].item() == pytest.approx(change / step, rel=0.05, abs=1e-2)


def test_learning_to_rank_finds_more_pictures():
    """Tokens come in synonyms that regression cannot know: only the ranking tells them apart."""
    rng = np.random.default_rng(2)
    pictures = unit_normalise(csr_array(rng.random((40, 12)) * (rng.random((40, 12)) < 0.4)))
    texts = [np.array([i % 40, 40 + i % 12]) for i in range(200)]
    owner = np.arange(200) % 40
    bag = bags(texts, 52, np.zeros(0, dtype=np.int64))
    target = pictures[owner].astype(np.float32)
    rows = csr_array(rng.random((52, 12)).astype(np.float32))
    fit = Fit(epochs=40, batch_size=100, pictures=40, lr=3e-2)

    def top1(rows):
        scores = unit_normalise(csr_array(bag @ rows).maximum(0)) @ pictures.T
        return (scores.toarray().argmax(1) == owner).mean()

    learned = learn_to_rank(rows, bag, target, owner, pictures.astype(np.float32), fit)
    assert top1(learned) > 0.9 > 0.3 > top1(rows)


def test_a_table_is_near_the_network_it_stands_for(model, captions, images):
    texts = [f"{a} and {b}" for a in captions for b in captions]
    pictures = model.encode_image(images)
    fit = Fit(terms=20, pair_count=2, epochs=0)
    owner = np.arange(len(texts)) % len(images)
    table = fit_table(model, texts, owner, pictures, fit)
    assert isinstance(table, QueryTable) and table.fingerprint == model.fingerprint
    assert len(table.pairs) and np.diff(table.rows.indptr).max() <= 20
    special = model.processor.tokenizer.all_special_ids
    assert np.diff(table.rows.indptr)[special].max() == 0
    assert not set(special) & set((table.pairs // len(table.lexicon.tokens)).tolist())
    near = (
        unit_normalise(table.encode_text(texts)) * unit_normalise(model.encode_text(texts))
    ).sum(1)
    assert near.mean() > 0.9
    ranked = fit_table(model, texts, owner, pictures, replace(fit, epochs=2, batch_size=32))
    assert ranked.rows.shape == table.rows.shape
    assert torch.isfinite(torch.tensor(ranked.rows.data)).all()


def test_a_dual_encoder_in_words_needs_no_table(images, tiny_run, tmp_path):
    clip = small_clip(tmp_path / "clip", small_tokenizer())
    lexicalise(clip, images, ("red", "circle")).save_pretrained(tmp_path / "stage2")
    with pytest.raises(LexLIPError, match="only the texts of a LexLIP"):
        main(["queries.terms=4"], tiny_run, str(tmp_path))
    assert not (tmp_path / "stage2" / "queries").exists()


@pytest.mark.slow
def test_a_table_is_fitted_beside_its_checkpoint(model, tiny_run, tmp_path, capsys):
    model.save_pretrained(tmp_path / "stage2")
    fit = ["terms=8", "pair_count=3", "epochs=1", "batch_size=32"]
    main([f"queries.{one}" for one in fit], tiny_run, str(tmp_path))
    table = QueryTable.from_pretrained(tmp_path / "stage2")
    assert table.fingerprint == model.fingerprint
    manifest = json.loads((tmp_path / "stage2" / "queries" / "manifest.json").read_text())
    assert set(manifest["dev"]) == {"network", "table"} and manifest["fit"]["terms"] == 8
    printed = capsys.readouterr().out
    assert "queries by network" in printed and "queries by table" in printed
