"""The dearest pictures: processor seconds and memory of decoding them, or the refusal.

    python -m eval.load.decoding
    python -m eval.load.decoding before=../another-tree

Each file is decoded in a process of its own, at the scale that a server needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from PIL import Image

from eval.load.served import ROOT
from lexlip.cli.console import Job, Overrides
from lexlip.data.formats import formats
from lexlip.errors import LexLIPError
from lexlip.settings import from_overrides, option

_DECODE = """
import json, sys, time
from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from PIL import Image
read_image(Image.new("RGB", (9, 9)))
def most():
    said = open("/proc/self/status").read()  # ru_maxrss begins with that of whoever started it
    return int(said.partition("VmHWM:")[2].split()[0]) / 1024
data = open(sys.argv[1], "rb").read()
before, begun, said = most(), time.process_time(), ""
try:
    try:
        read_image(data, "it", 1024)
    except TypeError:
        read_image(data, "it")
except LexLIPError as error:
    said = str(error)
print(json.dumps([time.process_time() - begun, most() - before, said]))
"""


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    before: str = option("", "another tree of lexlip, measured beside this one")
    runs: int = option(3, "decodings of each; the median counts")
    only: str = option("", "only pictures whose name has this")
    side: int = option(8000, "pixels of the largest square that is decoded in full")


def decode(path: Path, tree: str | os.PathLike[str]) -> tuple[float, float, str]:
    """Decode a file by lexlip of a tree; return seconds, MB, and the refusal."""
    command = [sys.executable, "-c", _DECODE, str(path)]
    env = os.environ | {"PYTHONPATH": os.fspath(tree)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tree, env=env)
    if done.returncode:
        raise LexLIPError(f"{path.name} ends the process: {done.stderr.strip()[-200:]}")
    seconds, memory, said = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory, said


def noise(side: int, mode: str = "RGB") -> Image.Image:
    """Return a square picture of repeated noise."""
    tile = np.random.default_rng(0).integers(0, 256, (250, 250, 3), np.uint8)
    repeats = -(-side // 250)
    return Image.fromarray(np.tile(tile, (repeats, repeats, 1))[:side, :side]).convert(mode)


def smooth(side: int) -> Image.Image:
    """Return a square picture of soft noise: encoding sharp noise as HEIC takes minutes."""
    return noise(250).resize((side, side), Image.Resampling.BICUBIC)


def with_scans(data: bytes, count: int) -> bytes:
    """Return a progressive JPEG whose second scan is repeated until there are so many.

    Of a picture of one colour it has some bytes, and yet visits every block.
    """
    start = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    end = next(
        at
        for at in range(start + 2, len(data))
        if data[at] == 0xFF and data[at + 1] not in (0, *range(0xD0, 0xD8))
    )
    more = count - data.count(b"\xff\xda")
    return data[:end] + data[start:end] * max(0, more) + data[end:]


def dearest(side: int) -> dict[str, tuple[str, Callable[[Path], Any]]]:
    """Return what is tried: name to the suffix of the file, and what writes it.

    Parameters
    ----------
    side : int
        Of the largest square.
    """
    older, twice, eight = int(side * 0.7875), int(side * 1.41), int(side * 2.82)

    def scans(path: Path, size: int, count: int) -> None:
        Image.new("RGB", (size, size), (90, 120, 30)).save(path, progressive=True)
        path.write_bytes(with_scans(path.read_bytes(), count))

    def deep(path: Path, size: int) -> None:
        Image.fromarray(np.full((size, size), 30_000, np.uint16)).save(path, compress_level=1)

    made: dict[str, tuple[str, Callable[[Path], Any]]] = {
        f"PNG, 16 bits, {older}²": (".png", lambda path: deep(path, older)),
        f"JPEG, 300 scans, {older}²": (".jpg", lambda path: scans(path, older, 300)),
        "PNG, 1 x 40,000,000": (".png", lambda path: Image.new("L", (1, 40_000_000)).save(path)),
        f"PNG, 16 bits, {side}²": (".png", lambda path: deep(path, side)),
        f"PNG, RGBA, {side}²": (
            ".png",
            lambda path: Image.new("RGBA", (side, side), (9, 9, 9, 90)).save(path),
        ),
        f"JPEG, progressive, 12 scans, {twice}²": (".jpg", lambda path: scans(path, twice, 12)),
        f"JPEG, {side}²": (".jpg", lambda path: noise(side).save(path, quality=75)),
        f"JPEG, grey, {eight}²": (".jpg", lambda path: Image.new("L", (eight, eight)).save(path)),
        f"GIF, {side}²": (".gif", lambda path: noise(side, "L").save(path)),
        f"BMP, palette, {side}²": (".bmp", lambda path: noise(side, "L").save(path)),
        f"TIFF, deflate, {side}²": (
            ".tiff",
            lambda path: noise(side).save(path, compression="tiff_deflate"),
        ),
        f"WebP, {side}²": (".webp", lambda path: noise(side).save(path, quality=50, method=0)),
    }
    if "AVIF" in formats():
        made[f"AVIF, {side}²"] = (".avif", lambda path: noise(side).save(path, speed=10))
    if "HEIF" in formats():
        made[f"HEIC, {side}²"] = (".heic", lambda path: smooth(side).save(path, quality=50))
    return made


def main(overrides: Overrides = None) -> None:
    """Decode the dearest picture of each format, and say what it cost."""
    settings = from_overrides(Settings, overrides or [])
    trees = {"now": os.fspath(ROOT)}
    if settings.before:
        trees = {"before": os.path.abspath(settings.before), **trees}
    typer.echo("| picture | bytes | " + " | ".join(trees) + " |\n|---|---|" + "---|" * len(trees))
    for name, (suffix, write) in dearest(settings.side).items():
        if settings.only not in name:
            continue
        with tempfile.TemporaryDirectory() as home:
            path = Path(home) / f"it{suffix}"
            write(path)
            cells = []
            for tree in trees.values():
                runs = sorted(decode(path, tree) for _ in range(settings.runs))
                seconds, memory, said = runs[len(runs) // 2]
                told = f"{seconds:.2f} s, {memory:,.0f} MB"
                cells.append(f"refused in {1000 * seconds:.0f} ms" if said else told)
            typer.echo(f"| {name} | {path.stat().st_size:,} | {' | '.join(cells)} |")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
