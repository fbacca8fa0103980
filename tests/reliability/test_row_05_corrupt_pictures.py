"""Row 5 of the failure matrix: corrupt pictures, odd names and odd dates cost a line each."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lexlip import Index, LexLIPError
from lexlip.data.images import read_image


def _chunks(data):
    at = 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def _png(chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _shortened(data, share):
    """The same PNG with a part of its rows, in a stream that is whole by all its checksums."""
    parts = list(_chunks(data))
    raw = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    pixels = zlib.compress(raw[: int(len(raw) * share)])
    head = [part for part in parts if part[0] not in (b"IDAT", b"IEND")]
    return _png([*head, (b"IDAT", pixels), (b"IEND", b"")])


MODES = ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_row_05_a_stream_that_ends_early_is_refused(tmp_path, mode, kind):
    if mode == "I;16":
        image = Image.fromarray(np.full((50, 41), 999, np.uint16))
    else:
        image = Image.new("RGB", (41, 50), "white").convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    data = file.getvalue()
    for share in (0.999, 0.97, 0.5, 0.1):
        short = _shortened(data, share)
        if kind == "file":
            (tmp_path / "a.png").write_bytes(short)
        with pytest.raises(LexLIPError, match="truncated picture"):
            read_image(short if kind == "bytes" else tmp_path / "a.png")
    read_image(_shortened(data, 1))


def test_row_05_interlaced_pixels_count_too():
    """7 x 5 grey pixels, as the seven passes have them: width and rows of each."""
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 1), (3, 3), (7, 2)]
    raw = b"".join((b"\0" + b"\xff" * width) * rows for width, rows in passes)
    head = struct.pack(">IIBBBBB", 7, 5, 8, 0, 0, 0, 1)

    def png(pixels):
        return _png([(b"IHDR", head), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")])

    assert np.asarray(read_image(png(raw))).min() == 255
    with pytest.raises(LexLIPError, match="truncated picture"):
        read_image(png(raw[:-8]))


def test_row_05_black_pictures_are_pictures():
    for interlaced in (False, True):
        file = io.BytesIO()
        Image.new("RGB", (30, 20)).save(file, "PNG", interlace=interlaced)
        assert read_image(file.getvalue()).getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize("year", [-9000, 1, 9999, 12_000, 100_000])
def test_row_05_an_odd_date_ends_no_indexing(lexlip, photos, checkpoint, tmp_path, no_flush, year):
    folder = shutil.copytree(photos, tmp_path / "photos")
    odd = next(folder.glob("*.png"))
    try:
        os.utime(odd, ((year - 1970) * 31_556_952,) * 2)
    except (OSError, OverflowError):
        pytest.skip("this file system has no such dates")
    done = lexlip("index", folder, "-o", tmp_path / "i.lex", "-m", checkpoint)
    assert done.exit_code == 0, done.output
    with Index.open(tmp_path / "i.lex") as index:
        assert odd.name in index.engine.ids()


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_row_05_a_name_that_is_no_unicode_costs_a_line(
    lexlip, photos, checkpoint, tmp_path, no_flush
):
    folder = shutil.copytree(photos, tmp_path / "photos")
    try:
        shutil.copy(next(folder.glob("*.png")), os.fsencode(folder) + b"/bad\xff\x1b[31m.png")
    except OSError:
        pytest.skip("this file system takes no such names")
    done = lexlip("index", folder, "-o", tmp_path / "i.lex", "-m", checkpoint)
    assert done.exit_code == 0 and "\x1b" not in done.output
    assert sum("skipped" in line for line in done.stderr.splitlines()) >= 1
    with Index.open(tmp_path / "i.lex") as index:
        assert len(index) == 12  # all but broken.png, and that one


@pytest.mark.parametrize("most, code", [(None, 0), (0.08, 0), (0.07, 2), (0, 2)])
def test_row_05_more_bad_pictures_than_expected_are_an_error(
    lexlip, photos, checkpoint, tmp_path, no_flush, most, code
):
    """One of the thirteen pictures is broken, and what could be read is kept."""
    options = [] if most is None else ["--max-skipped", most]
    for documents in (12, 12):  # a new index, and an addition
        done = lexlip("index", photos, "-o", tmp_path / "i.lex", "-m", checkpoint, *options)
        assert done.exit_code == code, done.output
        if code:
            assert "1 of 13 pictures were skipped" in done.stderr.splitlines()[-1]
        with Index.open(tmp_path / "i.lex") as index:
            assert len(index) == documents


def test_row_05_a_replacement_with_too_many_bad_pictures_is_none(
    build, lexlip, photos, checkpoint, tmp_path
):
    out = build(count=3)
    command = ["index", photos, "-o", out, "-m", checkpoint, "--replace", "--max-skipped"]
    done = lexlip(*command, 0.05)
    assert done.exit_code == 2 and "1 of 13 pictures were skipped" in done.stderr
    with Index.open(out) as index:
        assert len(index) == 3
    assert lexlip(*command, 0.1).exit_code == 0
    with Index.open(out) as index:
        assert len(index) == 12


def test_row_05_a_bulk_build_with_too_many_bad_pictures_replaces_nothing(
    build, photos, checkpoint, tmp_path
):
    from indexing.build import build as bulk_build
    from indexing.settings import read

    out = build(count=3)
    settings = [f"data={photos}", f"model={checkpoint}", f"out={out}", "engine=postings"]
    with pytest.raises(LexLIPError, match="1 of 13 pictures were skipped"):
        bulk_build(*read(None, None, [*settings, "max_skipped=0.05"], "index"))
    with Index.open(out) as index:
        assert len(index) == 3
    bulk_build(*read(None, None, [*settings, "max_skipped=0.1"], "index")).close()
    with Index.open(out) as index:
        assert len(index) == 12


@pytest.mark.parametrize("most", [-0.1, 1.1, "nan"])
def test_row_05_a_share_is_a_share(lexlip, photos, checkpoint, tmp_path, most):
    done = lexlip("index", photos, "-o", tmp_path / "i.lex", "-m", checkpoint,
                  f"--max-skipped={most}")  # fmt: skip
    assert done.exit_code == 2 and "share from 0 to 1" in done.stderr
    assert not (tmp_path / "i.lex").exists()
