"""Trackers get what the log gets, and none is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from accelerate import tracking as trackers
from accelerate.tracking import GeneralTracker

from lexlip.errors import LexLIPError
from pretrain import dense, tracking
from pretrain.settings import Settings

seen: dict = {}


class Recorder(GeneralTracker):
    """Keeps what it is given."""

    name = "recorder"
    requires_logging_directory = True

    def __init__(self, run_name, logging_dir, **kwargs):
        super().__init__()
        seen.update(run=run_name, folder=logging_dir, rows=[], finished=False)

    @property
    def tracker(self):
        return None

    def store_init_configuration(self, values):
        seen["config"] = values

    def log(self, values, step, **kwargs):
        seen["rows"].append((step, values))

    def finish(self):
        seen["finished"] = True


def test_a_tracker_sees_the_settings_and_every_row_of_the_log(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setitem(trackers.LOGGER_TYPE_TO_CLASS, "recorder", Recorder)
    chosen = ["tracker=recorder", "dense.steps=2", "dense.save_every=99"]
    dense.main(tiny_run, str(tmp_path), False, chosen)
    assert seen["run"] == "tiny-dense" and seen["finished"]
    assert Path(seen["folder"]) == tmp_path / "tracker"
    assert seen["config"]["dense.batch_size"] == 40 and seen["config"]["tracker"] == "recorder"
    logged = [json.loads(line) for line in (tmp_path / "dense.jsonl").read_text().splitlines()]
    assert [step for step, _ in seen["rows"]] == [row["step"] for row in logged] == [2]
    values = seen["rows"][-1][1]
    assert {"contrast", "seconds", "t2i_R@1"} <= values.keys()
    assert values["contrast"] == pytest.approx(logged[-1]["contrast"], abs=1e-5)


def test_without_one_nothing_is_tracked():
    accelerator = tracking.accelerator_for(Settings(precision="no"), "run/stage1")
    assert accelerator.trackers == []
    tracking.track(accelerator, {"step": 1, "contrast": 0.5})
    tracking.finish(accelerator)


def test_an_unknown_tracker_is_named(tmp_path):
    with pytest.raises(LexLIPError, match="no tracker 'tensorbord': set tracker to one of .*wandb"):
        tracking.accelerator_for(Settings(tracker="tensorbord", precision="no"), "run/stage1")


def test_a_tracker_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(trackers, "get_available_trackers", list)
    with pytest.raises(LexLIPError, match="pip install comet-ml"):
        tracking.accelerator_for(Settings(tracker="comet_ml", precision="no"), "run/stage1")
