"""Row 9 of the failure matrix: a checkpoint from anybody runs no code, and is cheap to refuse."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lexlip import LexLIPError
from lexlip.models import bounds, load
from lexlip.models.dual import open_dual_encoder
from lexlip.models.export_files import FOLDER
from lexlip.models.query_table import QueryTable
from tests.support.clips import small_clip, small_tokenizer

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return small_clip(tmp_path_factory.mktemp("row09") / "clip", small_tokenizer())


@pytest.fixture(params=["lexlip", "clip"])
def opened(request, checkpoint, tmp_path):
    """A copy of a checkpoint, and the function that opens it."""
    sound = checkpoint if request.param == "lexlip" else request.getfixturevalue("clip")
    ignored = shutil.ignore_patterns(FOLDER)
    folder = shutil.copytree(sound, tmp_path / "hostile", ignore=ignored)
    return folder, load if request.param == "lexlip" else open_dual_encoder


def _change(folder, file, places, value):
    settings = json.loads((folder / file).read_text())
    inner = settings
    for place in places[:-1]:
        inner = inner[place]
    inner[places[-1]] = value
    (folder / file).write_text(json.dumps(settings))


HOSTILE = [
    (("_attn_implementation",), "hub/kernel", "asks for code of a hub"),
    (("attn_implementation",), "hub/kernel", "asks for code of a hub"),
    (("text_config", "_attn_implementation"), "hub/kernel@main", "asks for code of a hub"),
    (("text_config", "num_hidden_layers"), 10**6, "num_hidden_layers = 1000000"),
    (("vision_config", "num_hidden_layers"), 10**18, "num_hidden_layers = 1e"),
    (("vision_config", "num_hidden_layers"), 1e6, "num_hidden_layers = 1000000"),
    (("text_config", "hidden_size"), 10**6, "hostile"),
    (("text_config", "vocab_size"), 10**9, "hostile"),
    (("vision_config", "hidden_act"), "evil", "hostile"),
    (("vision_config", "num_attention_heads"), 0, "hostile"),
    (("vision_config",), "evil", "hostile"),
    (("text_config", "hidden_size"), "evil", "hostile"),
    (("dtype",), "float999", "hostile"),
    (("quantization_config",), {"quant_method": "bitsandbytes", "load_in_8bit": True}, "hostile"),
]


@pytest.mark.parametrize("places, value, said", HOSTILE)
def test_row_09_a_hostile_config_is_one_line_at_once(opened, places, value, said):
    folder, open_it = opened
    _change(folder, "config.json", places, value)
    began, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LexLIPError, match=said) as caught:
        open_it(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert time.process_time() - began < 20  # 10**6 layers take over 45 s, 10**18 for ever
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2**20  # 1 GiB


@pytest.mark.parametrize("key", ["height", "shortest_edge"])
def test_row_09_pictures_are_not_blown_up(opened, key):
    """A size of a billion pixels a side would be resized to for each picture."""
    folder, open_it = opened
    _change(folder, "preprocessor_config.json", ("size",), {key: 10**9, "width": 10**9})
    with pytest.raises(LexLIPError, match="no model has more than 8,192"):
        open_it(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "tokenizer_config.json"])
def test_row_09_a_huge_text_file_is_not_parsed(opened, name):
    """183 MB of tokenizer.json took 26 s and 2.5 GB. Here the file is sparse: it takes no room."""
    folder, open_it = opened
    os.truncate(folder / name, 200 * 2**20)
    began = time.process_time()
    with pytest.raises(LexLIPError, match=rf"{name} has 200 MiB, no model needs more than"):
        open_it(folder)
    assert time.process_time() - began < 5


def test_row_09_a_huge_query_table_is_not_parsed(word_table, tmp_path):
    word_table.save_pretrained(tmp_path)
    os.truncate(tmp_path / "queries" / "tokenizer.json", 200 * 2**20)
    with pytest.raises(LexLIPError, match="no model needs more than 64"):
        QueryTable.from_pretrained(tmp_path)


def test_row_09_sound_checkpoints_pass(clip, checkpoint):
    for folder in (clip, checkpoint):
        bounds.check_bounds(folder)
    assert load(checkpoint).encode_text(["red"]).nnz and open_dual_encoder(clip).width == 8


@pytest.mark.parametrize("command", ["words", "index"])
def test_row_09_by_the_command_line(checkpoint, lexlip, photos, tmp_path, command):
    ignored = shutil.ignore_patterns(FOLDER)
    folder = shutil.copytree(checkpoint, tmp_path / "hostile", ignore=ignored)
    _change(folder, "config.json", ("text_config", "num_hidden_layers"), 10**6)
    rest = ["a red circle"] if command == "words" else [photos, "-o", tmp_path / "i.lex"]
    done = lexlip(command, *rest, "-m", folder)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output
    assert not (tmp_path / "i.lex").exists()


PICKLE = b"cos\nsystem\n(S'touch %s'\ntR."
"""A pickle that runs a command when it is loaded."""


def _payload(folder):
    return PICKLE % str(folder / "ran").encode()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "model.pt"])
def test_row_09_a_pickle_runs_nothing(opened, tmp_path, name):
    folder, open_it = opened
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(_payload(tmp_path))
    with pytest.raises(LexLIPError) as caught:
        open_it(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def test_row_09_a_plain_pickle_of_tensors_is_not_read_either(opened):
    """No pickle at all: whether one is harmless is known only after it was read."""
    import torch
    from safetensors.torch import load_file

    folder, open_it = opened
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(LexLIPError):
        open_it(folder)


def test_row_09_objects_in_arrays_are_refused(build, tmp_path):
    """A .npy with Python objects holds a pickle."""
    from lexlip import Index

    path = build()
    (part, *_) = sorted((path / "engine").glob("part-*"))
    for array in part.rglob("*.npy"):
        sound = array.read_bytes()
        with open(array, "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|O", "fortran_order": False, "shape": (1,)}
            )
            file.write(_payload(tmp_path))
            file.truncate(len(sound))
        with pytest.raises(LexLIPError):
            with Index.open(path) as index:
                assert index.check() == []
                raise LexLIPError("opened")
        array.write_bytes(sound)
    assert not (tmp_path / "ran").exists()


EVIL = """
import pathlib
from transformers import CLIPModel as Evil
pathlib.Path({0!r}).touch()
"""


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_row_09_code_of_a_checkpoint_does_not_run(opened, tmp_path, where):
    """Not even with a "y" on the standard input, where transformers asks."""
    folder, _ = opened
    (folder / "evil.py").write_text(EVIL.format(str(tmp_path / "ran")))
    classes = {"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
    _change(folder, where, ("auto_map",), {**classes, "AutoConfig": "evil.Evil"})
    script = "import sys; from lexlip.cli.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "words", "red", "-m", str(folder)],
        input="y\ny\ny\n", capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "ran").exists()
