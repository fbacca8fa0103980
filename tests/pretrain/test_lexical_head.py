"""Lexicon heads: centring and weights by hand, and the code that a checkpoint keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexlip.models.lexical.code import WordCode
from pretrain.lexical_head import LexicalHead
from tests.support.cones import cones


def test_each_kind_is_centred_on_its_own_mean():
    torch.manual_seed(0)
    head = LexicalHead(5, 4)
    vectors = torch.randn(8, 4) + 3
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    head.image_mean.copy_(unit.mean(0))
    centred = unit - unit.mean(0)
    centred = centred / centred.norm(dim=1, keepdim=True)
    by_hand = torch.log1p(torch.relu(centred @ head.words.T + head.bias))
    assert torch.allclose(head(vectors, "image"), by_hand, atol=1e-6)
    # Not the length of an embedding, but its kind, matters.
    assert torch.allclose(head(7 * vectors, "image"), by_hand, atol=1e-6)
    assert not torch.allclose(head(vectors, "text"), by_hand, atol=1e-2)


def test_the_code_of_a_head_weighs_as_the_head_does():
    world = cones(pictures=60, words=40)
    code = WordCode.fit(world.words, world.pictures)
    head = LexicalHead.of(code)
    assert torch.equal(head.words.detach(), torch.from_numpy(code.atoms))
    head.bias.data -= 0.1
    kept = head.code(code)
    with torch.no_grad():
        weights = head(torch.from_numpy(world.captions[:5]), "text").numpy()
    assert kept.project(kept.centred(world.captions[:5], "text")) == pytest.approx(
        weights, abs=1e-5
    )
    assert np.array_equal(kept.atoms, code.atoms)
