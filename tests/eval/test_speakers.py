"""Jobs take any speaker: a CLIP with a lexicon, and not LexLIP alone."""

from __future__ import annotations

import json
from importlib import import_module

import pytest
from typer.testing import CliRunner

from lexlip.models.lexical.lexicalise import lexicalise
from tests.support.clips import WORDS, small_clip, small_tokenizer


@pytest.fixture(scope="module")
def clip(images, tmp_path_factory):
    """The folder of a tiny CLIP with a lexicon."""
    folder = tmp_path_factory.mktemp("clips")
    lexicalise(small_clip(folder / "clip", small_tokenizer()), images, WORDS).save_pretrained(
        folder / "words"
    )
    return folder / "words"


def run(job, *keys):
    return CliRunner().invoke(import_module(job).app, [str(key) for key in keys])


@pytest.mark.parametrize("job", ["eval.bench.benchmark", "eval.studies.budget"])
def test_jobs_measure_a_clip_with_a_lexicon(job, clip, table, tmp_path):
    keys = [f"model={clip}", f"data={table}", "split=dev", f"out={tmp_path / 'out'}"]
    keys += ["engine=postings"] + (["bm25=false"] if "bench" in job else [])
    result = run(job, *keys)
    assert result.exit_code == 0, result.output
    [file] = [tmp_path / "out" / name for name in ("metrics.json", "budget.json")
              if (tmp_path / "out" / name).exists()]  # fmt: skip
    assert str(clip) in file.read_text()
    if "bench" in job:
        systems = json.loads(file.read_text())["systems"]
        assert {"lexlip", "lexlip, words alone"} <= set(systems)
        for system in systems.values():
            assert 0 <= system["t2i"]["R@1"] <= 1 and 0 <= system["i2t"]["R@10"] <= 1
        assert (
            systems["lexlip"]["bytes_per_image"] > systems["lexlip, words alone"]["bytes_per_image"]
        )


@pytest.mark.parametrize(
    ("job", "complaint"),
    [
        (
            "eval.studies.rerank",
            "LexicalSpeaker has no heads to rerank with: use a model with heads",
        ),
        ("eval.studies.rerank rerankers=filip", "LexicalSpeaker has no heads to rerank with"),
        (
            "eval.studies.planted",
            "LexicalSpeaker has no heads to rerank with: use a model with heads",
        ),
        ("eval.studies.joint", "LexicalSpeaker adds up vectors, not words"),
    ],
)
def test_a_job_that_needs_more_than_words_says_so_in_one_line(job, complaint, clip, tmp_path):
    keys = [f"model={clip}", f"out={tmp_path / 'out'}"]
    job, *more = job.split()
    result = run(job, *keys, *more)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert complaint in result.stderr
    assert not (tmp_path / "out").exists()
