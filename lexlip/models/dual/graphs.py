"""Graphs of dual encoders as they are published for onnxruntime: where they lie, how precise.

Two layouts: that of transformers.js and that of immich. Imports neither torch nor onnxruntime.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError


@dataclass(frozen=True)
class Layout:
    """Places of a dual encoder's files.

    Attributes
    ----------
    text, vision : str
        Graphs, with ``{}`` for what tells their precision.
    tokenizer, tokenizer_settings, pixels : str
    """

    text: str
    vision: str
    tokenizer: str
    tokenizer_settings: str
    pixels: str


TRANSFORMERS_JS = Layout(
    "onnx/text_model{}.onnx",
    "onnx/vision_model{}.onnx",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
)
IMMICH = Layout(
    "textual/model{}.onnx",
    "visual/model{}.onnx",
    "textual/tokenizer.json",
    "textual/tokenizer_config.json",
    "visual/preprocess_cfg.json",
)

OWN_TOKENIZER = "onnx/tokenizer.json"
"""A tokenizer that an export wrote, where the checkpoint has none that tokenizers can read."""

MANIFEST = "onnx/lexlip.json"
"""What an export was made of."""

SUFFIXES = {
    "int8": ("_quantized", "_int8", "_uint8"),
    "fp16": ("_fp16",),
    "fp32": ("",),
    "q4": ("_q4", "_q4f16", "_bnb4"),
}
"""Precision to what it is called in names of files."""

AUTO = ("int8", "fp32", "fp16")
"""Precisions in the order that they are taken in by default. On a processor 16 bits are no faster
than 32, which they are turned into; 4 bits have to be asked for."""

VARIABLE = "LEXLIP_PRECISION"
"""Environment variable with one of `SUFFIXES`, or auto."""

_BLOCK, _BLOCKS = 16 * 1024, 64


def precisions(
    name: str | os.PathLike[str], layout: Layout, revision: str | None = None
) -> dict[str, str]:
    """Return the precisions that both graphs are there in, each with its suffix.

    Of a name on the hub no graph is fetched; without a network connection, what is in its cache.
    Graphs that were exported from weights which were replaced since are not counted.
    """
    pairs = {
        suffix: {layout.text.format(suffix), layout.vision.format(suffix)}
        for suffixes in SUFFIXES.values()
        for suffix in suffixes
    }
    there = _files(name, list(pairs.values()), revision)
    found: dict[str, str] = {}
    for precision, suffixes in SUFFIXES.items():
        for suffix in suffixes:
            if pairs[suffix] <= there:
                found.setdefault(precision, suffix)
    return found


def chosen(there: Iterable[str], wanted: str | None = None) -> str:
    """Choose one of the precisions that a checkpoint has.

    Parameters
    ----------
    there : iterable of str
    wanted : str, optional
        By default that of the environment variable LEXLIP_PRECISION, or auto. A checkpoint with
        one precision leaves nothing to choose to the variable.

    Raises
    ------
    LexLIPError
        When it is unknown or not there.

    Examples
    --------
    >>> chosen(["fp32", "int8"]), chosen(["fp32", "int8"], "fp32")
    ('int8', 'fp32')
    """
    found = list(there)
    asked = wanted or os.environ.get(VARIABLE) or "auto"
    if asked not in (*SUFFIXES, "auto"):
        raise LexLIPError(f"no precision {asked!r}: give one of {', '.join(SUFFIXES)}, or auto")
    if asked == "auto" or (wanted is None and len(found) == 1):
        return next((name for name in (*AUTO, *SUFFIXES) if name in found), "fp32")
    if asked not in found:
        raise LexLIPError(
            f"no graphs in {asked} here: give {' or '.join(found)} as the precision ({VARIABLE})"
        )
    return asked


def data_of(graph: Path) -> list[Path]:
    """Return the files beside a graph that hold its numbers, where it is too large for one file."""
    places = (graph.with_name(graph.name + end) for end in ("_data", ".data"))
    return [place for place in places if place.is_file()]


def weights_of(folder: Path) -> str | None:
    """Return the hash of the weights of torch in a folder, None where it has none."""
    files = [path.name for path in folder.glob("*.safetensors")]
    return sampled(folder, files, {}) if files else None


def outdated(folder: Path) -> bool:
    """Return whether weights of torch were replaced since graphs were exported beside them."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return weights_of(folder) not in (None, facts.get("weights"))


def sampled(folder: Path, files: Iterable[str], settings: Mapping[str, Any]) -> str:
    """Return the sha256 of a model's files, of which at most a megabyte each is read.

    Of graphs, their data and the tokenizer, the name and size, the start and end, and `_BLOCKS`
    blocks between them count. So a large model is told from another one at once; from one with a
    number changed on purpose it may not be.

    Parameters
    ----------
    folder : Path
    files : iterable of str
        Paths in the folder; JSON files other than the tokenizer are left out.
    settings : mapping
        Of picture preprocessing, as JSON can hold them.
    """
    counted = [name for name in files if not name.endswith(".json") or "tokenizer.json" in name]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(counted):
        size = (folder / name).stat().st_size
        digest.update(f"{name}\t{size}\n".encode())
        last = max(0, size - _BLOCK)
        with open(folder / name, "rb") as file:
            for at in sorted({last * number // (_BLOCKS + 1) for number in range(_BLOCKS + 2)}):
                file.seek(at)
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _files(name: str | os.PathLike[str], pairs: list[set[str]], revision: str | None) -> set[str]:
    """Those of some files that a checkpoint has; on the hub a whole pair in the cache is enough."""
    candidates = set().union(*pairs)
    if Path(name).is_dir():
        if outdated(Path(name)):
            return set()
        return {file for file in candidates if (Path(name) / file).is_file()}
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        places = {it: try_to_load_from_cache(str(name), it, revision=revision) for it in candidates}
        held = {file for file, place in places.items() if isinstance(place, str)}
        if constants.HF_HUB_OFFLINE or any(pair <= held for pair in pairs):
            return held
        return candidates & set(HfApi().list_repo_files(str(name), revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError):
        return set()
