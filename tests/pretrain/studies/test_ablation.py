"""Studies train variants as the stages would, share an equal stage 1, and go on after a stop."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from pretrain import loop, settings, stage1, stage2
from pretrain.studies import ablation

SHORT = ["stage1.steps=2", "stage2.steps=2"]


@pytest.fixture(scope="module")
def command():
    return lambda *args: CliRunner().invoke(ablation.app, list(args))


def test_variants_are_what_the_stages_train_and_share_an_equal_stage_1(
    tiny_run, tmp_path, command, monkeypatch
):
    trained, train = [], loop.train

    def noted(task, bench, stage, out, resume):
        trained.append(out)
        train(task, bench, stage, out, resume=resume)

    monkeypatch.setattr(loop, "train", noted)
    where = ["--config", tiny_run, "--run", f"{tmp_path}/study"]
    picked = ["only=whole,no queue", "only=no bottlenecks"]
    done = command(*where, *picked, *SHORT)
    assert done.exit_code == 0, done.output
    assert [out.removeprefix(f"{tmp_path}/study/") for out in trained] == [
        *("whole/stage1", "whole/stage2", "no-queue/stage2"),
        *("no-bottlenecks/stage1", "no-bottlenecks/stage2"),
    ]
    found = json.loads((tmp_path / "study" / "objectives.json").read_text())["variants"]
    assert list(found) == ["stage 1 alone", "whole", "no queue", "no bottlenecks"]
    monkeypatch.undo()
    stage1.main(tiny_run, f"{tmp_path}/own", False, SHORT)
    stage2.main(tiny_run, f"{tmp_path}/own", False, [*SHORT, "stage2.queue_size=0"])
    own = json.loads((tmp_path / "own" / "stage2.jsonl").read_text().splitlines()[-1])
    assert {k: round(v, 5) for k, v in found["no queue"].items()} == {
        k: own[k] for k in found["whole"]
    }
    assert found["whole"] != found["no bottlenecks"]
    assert "| no queue |" in done.output

    # A variant more joins those that were measured before, in the order of the study.
    again = command(*where, "only=no own MLM", *SHORT)
    assert again.exit_code == 0
    found = json.loads((tmp_path / "study" / "objectives.json").read_text())["variants"]
    assert list(found)[-2:] == ["no bottlenecks", "no own MLM"]

    other = command(*where, "only=no queue", "stage1.steps=3")
    assert other.exit_code == 2 and "other settings: give another --run" in other.output


def test_the_frontier_is_drawn(tiny_run, tmp_path, command):
    pytest.importorskip("matplotlib")
    done = command(
        *("study=frontier", "--config", tiny_run, "--run", f"{tmp_path}/study"),
        *("only=grounding 0.1,grounding 0.3", *SHORT),
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "study" / "frontier.svg").read_text().count("grounding") >= 2


@pytest.mark.parametrize("study", ablation.STUDIES.values(), ids=ablation.STUDIES)
def test_every_variant_is_a_change_that_settings_know(study):
    plain = settings.load("flickr8k-tiny")
    for name, changes in study.items():
        changed = settings.load("flickr8k-tiny", changes)
        assert (changed == plain) == (name == "whole")


def test_unknown_names_are_told(command, tiny_run):
    for args, says in (
        (["study=objective"], "choose from objectives, frontier"),
        (["only=no luck"], "choose from whole"),
    ):
        done = command("--config", tiny_run, *args)
        assert done.exit_code == 2 and says in done.output
