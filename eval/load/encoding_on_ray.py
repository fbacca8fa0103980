"""Encoding on a Ray cluster whose workers and machines are killed, beside encoding in one process.

    python -m eval.load.encoding_on_ray data=flickr8k split=dev

Real photographs, some of them corrupted in twelve ways, are packed as webdataset tars and as
parquet. Each is encoded in processes of this machine, by three Ray nodes on loopback, again while a
worker is killed, and again while a whole node is killed (SIGKILL). Every id must come once, every
corrupted picture be listed with a reason, and the parts be those of the first run, byte by byte.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer

from eval.load.ray_nodes import Nodes
from lexlip.build.encoded_parts import Encoded
from lexlip.cli.console import Job, Overrides
from lexlip.data.collection import load_collection
from lexlip.errors import LexLIPError
from lexlip.settings import build, option, override

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "lexlip" / "data" / "demo"

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda data: data[: len(data) // 2],
    "its header alone": lambda data: data[:300],
    "empty": lambda data: b"",
    "two bytes": lambda data: data[:2],
    "zeros behind the header": lambda data: data[:600] + bytes(len(data) - 600),
    "zeros": lambda data: bytes(len(data)),
    "text": lambda data: b"this is no picture\n" * 50,
    "a page of an error": lambda data: b"<!doctype html><title>404 Not Found</title>",
    "noise": lambda data: np.random.default_rng(0).bytes(len(data)),
    "an archive": lambda data: b"PK\3\4" + data,
    "a huge PNG by its header": lambda data: (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\10\2\0\0\0"
    ),
    "begins with zeros": lambda data: bytes(64) + data[64:],
}


@dataclass(frozen=True)
class Settings:
    """Settings of the study."""

    data: str = option("flickr8k", "data set name, folder or table of pictures")
    split: str | None = option("dev", "its split")
    limit: int = option(1000, "pictures")
    model: str = option(str(DEMO), "checkpoint folder")
    part_size: int = option(25, "pictures a part")
    kinds: tuple[str, ...] = option(("tars", "parquet"), "tars, parquet")
    runs: tuple[str, ...] = option(("plain", "worker killed", "node killed"), "what happens")


def pack(settings: Settings, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Write the pictures in both forms.

    Returns
    -------
    (dict of str to str, list of str)
        The source of each kind, and the damages, as the corrupted pictures are numbered.
    """
    import pyarrow
    import pyarrow.parquet

    loaded = load_collection(settings.data, settings.split, settings.limit)
    step = max(1, len(loaded) // len(DAMAGES))
    rows, damaged = list[dict[str, Any]](), list[str]()
    for row in range(len(loaded)):
        picture = loaded.picture(row)
        data = picture if isinstance(picture, bytes) else Path(str(picture)).read_bytes()
        kind = list(DAMAGES)[row // step] if row % step == step // 2 else None
        if kind is not None and row // step < len(DAMAGES):
            data = DAMAGES[kind](data)
            damaged.append(kind)
        rows.append({"image": data, "image_id": f"{row:06}.jpg", "caption": "a photograph"})
    for shard in range(0, len(rows), 100):
        some = rows[shard : shard + 100]
        with tarfile.open(folder / f"photos-{shard // 100:05}.tar", "w") as tar:
            for one in some:
                texts = one["image_id"].replace("jpg", "txt"), one["caption"].encode()
                for name, data in [(one["image_id"], one["image"]), texts]:
                    facts = tarfile.TarInfo(name)
                    facts.size = len(data)
                    tar.addfile(facts, io.BytesIO(data))
        table = pyarrow.Table.from_pylist(some)
        pyarrow.parquet.write_table(table, folder / f"photos-{shard // 100:05}.parquet", 25)
    last = (len(rows) - 1) // 100
    kinds = {"tars": "tar", "parquet": "parquet"}
    sources = {k: f"file://{folder}/photos-{{00000..{last:05}}}.{s}" for k, s in kinds.items()}
    return sources, damaged


def content(parts: Path) -> str:
    """Return a hash of all files of all parts."""
    digest = hashlib.sha256()
    for file in sorted(parts.glob("part-*/*")):
        digest.update(f"{file.relative_to(parts)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def encode(
    settings: Settings, source: str, out: Path, *options: str, nodes: Nodes | None = None,
    strike: Callable[[], object] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Encode in a process of its own; `strike` when a quarter of the parts is there.

    Raises
    ------
    LexLIPError
        When the process fails.
    """
    began = time.perf_counter()
    command = [sys.executable, "-m", "indexing.encode", f"model={settings.model}", f"data={source}",
               f"out={out}", f"part_size={settings.part_size}", "workers=2", *options]  # fmt: skip
    struck: list[str] = []
    job = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=nodes.environment if nodes else None,
    )  # fmt: skip

    parts = -(-settings.limit // settings.part_size)

    def wait_and_strike() -> None:
        while job.poll() is None and not struck:
            there = len(list(out.glob("part-*")))
            if strike is not None and there >= parts / 4:
                strike()
                struck.append(f", at {there} of {parts} parts")
            time.sleep(0.02)

    striker = threading.Thread(target=wait_and_strike, daemon=True)
    striker.start()
    said, _ = job.communicate(timeout=600)
    seconds = time.perf_counter() - began
    striker.join(20)
    if job.returncode or (strike is not None and not struck):
        raise LexLIPError(f"encoding ended with {job.returncode}: {' '.join(said.split())[-400:]}")
    encoded = Encoded.open(out)
    chunks = list(encoded)
    ids = Counter(name for chunk in chunks for name in chunk.ids)
    skipped = [*encoded.skipped, *(pair for chunk in chunks for pair in chunk.skipped)]
    return {
        "seconds": seconds, "ids": len(ids), "twice": sum(n > 1 for n in ids.values()),
        "skipped": skipped, "content": content(out), "struck": "".join(struck),
    }  # fmt: skip


def main(overrides: Overrides = None) -> None:
    """Print a table: what happened, seconds, ids, and whether the output is the same."""
    settings = build(Settings, override({}, overrides or (), Settings), "")
    with tempfile.TemporaryDirectory(prefix="lexlip-study-") as name:
        folder = Path(name)
        sources, damaged = pack(settings, folder)
        for kind in settings.kinds:
            first = encode(settings, sources[kind], folder / f"{kind}-local")
            for number, (id_, why) in enumerate(first["skipped"]):
                typer.echo(f"skipped {number + 1}: {id_}: {why.replace(name, '')[:150]}")
            _say(kind, "local, 2 processes", first, first, len(damaged))
            for run in settings.runs:
                began = time.perf_counter()
                with Nodes(2) as nodes:
                    started = time.perf_counter() - began
                    strikes: dict[str, Callable[[], object]] = {
                        "worker killed": nodes.kill_worker,
                        "node killed": nodes.kill_node,
                    }
                    found = encode(
                        settings, sources[kind], folder / f"{kind}-{run.replace(' ', '-')}",
                        "runner=ray", f"address={nodes.address}", nodes=nodes,
                        strike=strikes.get(run),
                    )  # fmt: skip
                _say(
                    kind, f"Ray, 3 nodes (up in {started:.0f} s), {run}", found, first, len(damaged)
                )


def _say(kind: str, run: str, found: Any, first: Any, damaged: int) -> None:
    same = found["content"] == first["content"]
    typer.echo(
        f"{kind}: {run}{found['struck']}: {found['seconds']:.1f} s, {found['ids']} ids, "
        f"{found['twice']} twice, {len(found['skipped'])} of {damaged} corrupted ones listed, "
        f"parts {'equal byte by byte' if same else 'DIFFER'} ({found['content']})"
    )
    if not same or found["twice"] or len(found["skipped"]) != damaged:
        raise LexLIPError("not as it should be: see the last line")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
