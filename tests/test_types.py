"""The types that programs see: a program of ten typical uses runs, and two checkers accept it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import lexlip
from lexlip.data.scenes import make_scenes
from tests.typed import uses

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "typed" / "uses.py"


def checked(command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_program_runs(checkpoint, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, scene in enumerate(make_scenes(24, 1)):
        scene.draw().save(photos / f"{number:03}.png")
    uses.main(checkpoint, photos, tmp_path)


def test_mypy_accepts_it_in_its_strict_mode(tmp_path):
    settings = tmp_path / "mypy.ini"
    settings.write_text(f"""
[mypy]
strict = true
follow_imports = silent
python_version = 3.11
cache_dir = {tmp_path}
explicit_package_bases = true
ignore_missing_imports = true

# Reading all of torch takes minutes, and no type of it is used.
[mypy-torch.*,transformers.*,scipy.*,huggingface_hub.*]
follow_imports = skip
""")
    checked([sys.executable, "-m", "mypy", "--config-file", str(settings), str(PROGRAM)])


@pytest.mark.skipif(not find_spec("basedpyright"), reason="basedpyright is not installed")
def test_pyright_accepts_it_in_its_strict_mode(tmp_path):
    settings = {
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": "error",
        "pythonVersion": "3.11",
        "include": [str(PROGRAM)],
        "extraPaths": [str(ROOT)],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    where = ["--project", str(tmp_path), "--pythonpath", sys.executable]
    checked([sys.executable, "-m", "basedpyright", *where])


def test_the_package_lists_its_public_names():
    assert set(lexlip.__all__) <= set(dir(lexlip))
    for name in lexlip.__all__:
        assert getattr(lexlip, name) is not None
    assert not {name for name in dir(lexlip) if name.startswith("_") and name[:2] != "__"}
