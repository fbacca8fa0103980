"""Row 7 of the failure matrix: archives. lexlip opens none, so nothing unpacks out of its place."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["zip", "tar", "tgz"])
def archive(request, tmp_path, photos):
    """An archive with a picture, and one that climbs out of its folder."""
    path, data = tmp_path / f"pictures.{request.param}", (photos / "00.png").read_bytes()
    if request.param == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("../../climbed.png", data)
            file.writestr("0.png", data)
        return path
    with tarfile.open(path, "w:gz" if request.param == "tgz" else "w") as file:
        for name in ("../../climbed.png", "0.png"):
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            file.addfile(facts, io.BytesIO(data))
    return path


def test_row_07_an_archive_is_refused_in_one_line(archive, lexlip, checkpoint, tmp_path):
    done = lexlip("index", archive, "-o", tmp_path / "i.lex", "-m", checkpoint)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output
    assert not (tmp_path / "i.lex").exists()
    assert not list(tmp_path.rglob("climbed.png")) and not list(tmp_path.parent.glob("climbed.png"))


def test_row_07_an_archive_among_pictures_is_counted_and_not_opened(
    archive, lexlip, checkpoint, photos, tmp_path, no_flush
):
    folder = tmp_path / "mixed"
    folder.mkdir()
    archive.rename(folder / archive.name)
    (folder / "a.png").write_bytes((photos / "01.png").read_bytes())
    done = lexlip("index", folder, "-o", tmp_path / "i.lex", "-m", checkpoint)
    assert done.exit_code == 0 and "1 pictures" in done.stdout, done.output
    assert archive.suffix in done.stderr  # nothing is left out in silence


def test_row_07_no_module_unpacks_archives():
    for path in (ROOT / "lexlip").rglob("*.py"):
        assert not re.search(r"\b(tarfile|zipfile|unpack_archive)\b", path.read_text("utf-8")), path
