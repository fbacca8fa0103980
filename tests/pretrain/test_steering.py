"""Sparsity on a budget: asked for so many terms, training ends with about so many."""

from __future__ import annotations

import json
import math

import pytest
import torch

from lexlip.errors import LexLIPError
from lexlip.models.pooling import log_saturate
from pretrain import objectives, stage1, stage2
from pretrain.settings import Sparsity
from pretrain.steering import EVERY, LEAST, MOST, START, Steering, count

WEIGHTS = {"image_sparsity": 1e-2, "text_sparsity": 1e-2}


def trained(target: int, steps: int = 320, rate: float = 2e-2) -> tuple[float, list[float]]:
    """Terms of 64 items after a linear head learned 20 of 400 words each, and all counts."""
    torch.manual_seed(0)
    items, words = torch.randn(64, 32), torch.zeros(64, 400)
    words[torch.arange(64)[:, None], torch.rand(64, 400).topk(20).indices] = 1
    head = torch.nn.Linear(32, 400)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate)
    steering, counts = Steering({"image": target} if target else {}), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        pooled = head(items)
        factor = steering.factor("image") or START
        loss = objectives.grounding(pooled, words)
        loss = loss + WEIGHTS["image_sparsity"] * factor * objectives.flops(log_saturate(pooled))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if steering.due(step):
            counts.append(count(head(items)).mean().item())
            steering.update({"image_terms": counts[-1]}, step / steps)
    return count(head(items)).mean().item(), counts


@pytest.mark.parametrize("target", [12, 24, 48])
def test_training_ends_with_as_many_terms_as_were_asked_for(target):
    end, _ = trained(target)
    assert end == pytest.approx(target, rel=0.15)


def test_a_fixed_weight_leaves_what_it_leaves():
    end, _ = trained(0)
    assert end > 80


def test_the_goal_is_reached_on_a_path_and_not_at_once():
    _, counts = trained(12)
    assert counts[3] > 3 * 12  # a tenth of the way


def test_a_factor_rises_with_too_many_terms_and_falls_with_too_few():
    for terms, rises in ((100.0, True), (10.0, False)):
        steering = Steering({"image": 32})
        steering.update({"image_terms": terms}, 1.0)
        moved = math.log(steering.factor("image")) - math.log(START)
        assert (moved > 0) == rises and abs(moved) <= MOST + 1e-9


def test_a_factor_that_had_to_fall_for_long_is_soon_back():
    steering = Steering({"image": 32})
    for _ in range(60):
        steering.update({"image_terms": 20.0}, 0.7)
    assert steering.factor("image") == pytest.approx(LEAST)
    for _ in range(12):
        steering.update({"image_terms": 64.0}, 0.8)
    assert steering.factor("image") > 1


def test_sides_are_steered_apart_and_unasked_ones_not_at_all():
    both = Steering.of(Sparsity(target_terms=32, text_terms=8), WEIGHTS)
    both.update({"image_terms": 32.0, "text_terms": 32.0}, 1.0)
    assert both.factor("text") > both.factor("image") == pytest.approx(START)
    assert Steering.of(Sparsity(target_terms=32), WEIGHTS).targets == {"image": 32, "text": 32}
    only = Steering.of(Sparsity(text_terms=8), WEIGHTS)
    assert only.factor("image") is None and not Steering.of(Sparsity(), WEIGHTS).due(0)


@pytest.mark.parametrize(
    ("settings", "weights", "says"),
    [
        (
            Sparsity(target_terms=32),
            {**WEIGHTS, "text_sparsity": 0.0},
            "text_sparsity has weight 0",
        ),
        (Sparsity(target_terms=-1), WEIGHTS, "give numbers above 0"),
    ],
)
def test_what_cannot_be_steered_is_an_error(settings, weights, says):
    with pytest.raises(LexLIPError, match=says):
        Steering.of(settings, weights)


def test_no_item_with_a_term_does_not_end_in_infinity():
    steering = Steering({"image": 32})
    for _ in range(50):
        steering.update({"image_terms": 0.0}, 1.0)
    assert 0 < steering.factor("image") < START


def test_stage_2_counts_steers_logs_and_resumes_as_if_nothing_had_happened(
    tiny_run, tmp_path, monkeypatch
):
    """Killed between two counts: weights, factors and the log are those of one run."""
    budget = ["sparsity.target_terms=4", "sparsity.text_terms=6", "stage2.epochs=4"]
    stage1.main(tiny_run, f"{tmp_path}/run", False, [])
    stage2.main(tiny_run, f"{tmp_path}/run", False, budget)
    whole = (tmp_path / "run" / "stage2.jsonl").read_text()
    rows = [json.loads(line) for line in whole.splitlines()]
    assert rows[-1]["image_factor"] > START < rows[-1]["text_factor"]
    assert {"stop_word_share", "dead_terms", "overlap", "batch_image_terms"} <= set(rows[-1])

    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "stage1").symlink_to(tmp_path / "run" / "stage1")
    update = Steering.update

    def killed(self, terms, progress):
        if progress * 24 >= 2 * EVERY:
            raise KeyboardInterrupt
        update(self, terms, progress)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Steering, "update", killed)
        stage2.main(tiny_run, str(stopped), False, budget)
    stage2.main(tiny_run, str(stopped), True, budget)
    for name in ("model.safetensors", "train_state/state.safetensors"):
        one, other = (tmp_path / f / "stage2" / name for f in ("run", "stopped"))
        assert one.read_bytes() == other.read_bytes()
    again = [json.loads(line) for line in (stopped / "stage2.jsonl").read_text().splitlines()]
    for row in (*rows, *again):
        del row["seconds"]
    assert again == rows
