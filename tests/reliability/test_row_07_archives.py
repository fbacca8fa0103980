"""Row 7 of the failure matrix: archives. None is unpacked: nothing leads out of its place."""

from __future__ import annotations

import io
import re
import resource
import tarfile
import zipfile
from pathlib import Path

import numpy as np
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


def test_row_07_an_archive_is_refused_in_one_line_or_read_where_it_is(
    archive, lexlip, checkpoint, tmp_path
):
    done = lexlip("index", archive, "-o", tmp_path / "i.lex", "-m", checkpoint)
    if archive.suffix == ".tar":  # read where it is, as webdataset's are
        assert done.exit_code == 0 and "1 pictures (1 skipped)" in done.stdout, done.output
        assert "climbed.png: its name leads out of the tar" in done.stderr
    else:
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


def test_row_07_nothing_is_unpacked():
    """Two modules read archives, of numpy and of webdataset, and take members by name."""
    for path in (ROOT / "lexlip").rglob("*.py"):
        text = path.read_text("utf-8")
        assert not re.search(r"unpack_archive|\.extract(all)?\(", text), path
        assert not re.search(r"\btarfile\b", text) or path.name == "tars.py", path
        assert "zipfile" not in text or path.name == "npz.py", path


BOMBS = {
    "expands": {"ids.npy": b"\0" * 2**20 * 700},
    "claims": {},
    "climbs": {"../../climbed.png": b"x", "/climbed.png": b"x"},
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_row_07_an_archive_of_vectors_expands_within_bounds(lexlip, tmp_path, bomb):
    """`lexlip import` of an archive that is made to fill memory, or to write elsewhere."""
    path, header = tmp_path / "bomb.npz", io.BytesIO()
    shape = 10**13 if bomb == "claims" else 3
    facts = {"descr": "<i8", "fortran_order": False, "shape": (shape,)}
    np.lib.format.write_array_header_1_0(header, facts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("format", "shape", "indptr"):
            file.writestr(f"{name}.npy", header.getvalue() + b"\0" * 24)
        for name, data in BOMBS[bomb].items():
            file.writestr(name, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = lexlip("import", path, "-o", tmp_path / "i.lex")
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output
    assert ("expand" in done.stderr) == (bomb == "expands")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # 512 MiB
    assert not (tmp_path / "i.lex").exists() and not list(tmp_path.parent.glob("**/climbed.png"))
