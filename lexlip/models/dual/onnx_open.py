"""Opening dual encoders for onnxruntime: the files of either layout, and how each reads a text."""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.models.dual import graphs
from lexlip.models.dual.exported import class_of
from lexlip.models.dual.families import MANY, Family, habits_of, text_limit
from lexlip.models.dual.files import find_file, read_json
from lexlip.models.dual.graphs import IMMICH, OWN_TOKENIZER, TRANSFORMERS_JS
from lexlip.models.dual.onnx_models import OnnxDual
from lexlip.models.dual.text_tokens import TextTokens, as_it_is, bare, open_tokenizer, padding_id
from lexlip.models.pixels import Pixels

_BARE_GRAPH = 20_000_000
"""Bytes below which a graph on the hub may have its numbers in a file of their own."""

_MANY_WORDS = 200_000


def open_onnx(
    name: str | os.PathLike[str],
    revision: str | None = None,
    precision: str | None = None,
    device: str | None = None,
) -> OnnxDual:
    """Open a dual encoder in the layout of transformers.js or of immich.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub, of which only the files that are needed are fetched.
    revision : str, optional
        Of a name on the hub: a commit, branch or tag.
    precision : str, optional
        "int8", "fp16", "fp32", "q4" or "auto"; by default that of the environment variable
        LEXLIP_PRECISION, or auto (`lexlip.models.dual.graphs.AUTO`).
    device : str, optional
        One of `lexlip.models.onnx.PROVIDERS`.

    Raises
    ------
    LexLIPError
        When files are missing or corrupted, or the precision or device is not there.

    Examples
    --------
    >>> encoder = open_onnx("Xenova/clip-vit-base-patch32")             # doctest: +SKIP
    >>> encoder.embed_text(["two dogs"]).shape                        # doctest: +SKIP
    (1, 512)
    """
    layout = TRANSFORMERS_JS
    there = graphs.precisions(name, layout, revision)
    if not there:
        layout = IMMICH
        there = graphs.precisions(name, layout, revision)
    if not there:
        raise LexLIPError(f"{name}: no graphs of texts and of pictures: give a complete folder")
    kind = graphs.chosen(there, precision)
    suffix = there[kind]
    fetch = _Fetch(name, revision)
    files = [fetch(layout.text.format(suffix)), fetch(layout.vision.format(suffix))]
    files += [file for graph in list(files) for file in fetch.data(graph)]
    config = fetch.json("config.json")
    settings = fetch.json(layout.tokenizer_settings)
    own = fetch.optional(OWN_TOKENIZER) if Path(name).is_dir() else None
    tokenizer = own or fetch(layout.tokenizer)
    preprocessing = fetch.json(layout.pixels)
    folder = fetch.folder
    if layout is TRANSFORMERS_JS:
        habits, limit, clean, padded = _of_transformers(config, settings)
        pixels = Pixels.of_transformers(preprocessing, config["model_type"])
    else:
        habits, limit, clean, padded = _of_open_clip(config)
        pixels = Pixels.of_open_clip(preprocessing)

    def tokens() -> TextTokens:
        raw = open_tokenizer(folder / tokenizer, settings)
        return TextTokens(raw, limit, padding_id(raw, settings, folder / tokenizer), padded, clean)

    others = ["config.json", layout.tokenizer_settings, tokenizer, layout.pixels]
    opened = class_of(folder)(
        os.fspath(name), folder, files + others, habits, tokens, pixels, limit, kind, device
    )
    opened.revision = revision
    return opened


class _Fetch:
    """Files of a checkpoint, each fetched when it is asked for."""

    def __init__(self, name: str | os.PathLike[str], revision: str | None) -> None:
        self.name, self.revision = name, revision
        self.folder = Path(name)

    def optional(self, file: str) -> str | None:
        path = find_file(self.name, file, self.revision)
        if path is None:
            return None
        self.folder = path.parents[len(Path(file).parts) - 1]
        return file

    def __call__(self, file: str) -> str:
        if self.optional(file) is None:
            raise LexLIPError(f"{self.name}: {file} is missing: give a complete folder or name")
        return file

    def json(self, file: str) -> dict[str, Any]:
        found = read_json(self.name, self(file), self.revision)
        if not isinstance(found, dict):
            raise LexLIPError(f"{self.name}: {file} is corrupted: get it again")
        return found

    def data(self, graph: str) -> list[str]:
        """Files with a graph's numbers, where it is too large for one file."""
        if not Path(self.name).is_dir() and (self.folder / graph).stat().st_size < _BARE_GRAPH:
            self.optional(f"{graph}_data")
        place = self.folder / graph
        return [path.relative_to(self.folder).as_posix() for path in graphs.data_of(place)]


Reading = tuple[Family, int, Callable[[str], str], bool]


def _of_transformers(config: Mapping[str, Any], settings: Mapping[str, Any]) -> Reading:
    """Habits, limit, cleaning and padding of a model of transformers."""
    kind = str(settings.get("tokenizer_class", ""))
    habits = habits_of(str(config["model_type"]), kind, _words_of(config.get("text_config")))
    clean = str.lower if habits.lower else as_it_is
    if kind.startswith("SiglipTokenizer") and settings.get("do_lower_case", True):
        clean = bare
    limit = text_limit(config, settings.get("model_max_length"), habits)
    return habits, limit, clean, habits.padded


def _of_open_clip(config: Mapping[str, Any]) -> Reading:
    """Habits, limit, cleaning and padding of a model of open_clip."""
    text = (config.get("model_cfg") or config).get("text_cfg") or {}
    way = (text.get("tokenizer_kwargs") or {}).get("clean")
    habits = Family("open-clip", summary="end")
    if _words_of(text) > _MANY_WORDS or "xlm" in str(text.get("hf_model_name", "")):
        habits = replace(habits, languages=MANY)
    clean = _canonical if way == "canonicalize" else _single_spaces
    return habits, int(text.get("context_length", 77)), clean, True


def _single_spaces(text: str) -> str:
    return " ".join(text.split())


def _canonical(text: str) -> str:
    plain = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    return " ".join(plain.lower().split())


def _words_of(text: Mapping[str, Any] | None) -> int:
    return int((text or {}).get("vocab_size") or 0)
