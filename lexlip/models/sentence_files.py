"""Files by which sentence-transformers and mteb know a checkpoint.

``SparseEncoder(path, trust_remote_code=True)`` reads them; encoding with lexlip does not, so you
may edit them. A checkpoint without them is opened by `lexlip.sentence_transformers.sparse_encoder`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.storage.files import read_json, write_json

MODULES = "modules.json"
"""Which class opens the folder."""

SETTINGS = "config_sentence_transformers.json"
"""That it is a SparseEncoder, how it compares, and its prompts."""

OWN = "lexlip_config.json"
"""Settings of `lexlip.models.sentence_module.LexLIPModule`."""

MODALITIES = "sentence_bert_config.json"
"""That it reads texts and pictures: mteb looks here."""

SENTENCE_FILES = (MODULES, SETTINGS, OWN, MODALITIES)

MODULE = "lexlip.sentence_transformers.LexLIPModule"
"""Name of the class in `MODULES`. It stays, wherever the class lies."""

DEFAULTS: Mapping[str, Any] = {
    "max_terms": None,
    "query_terms": None,
    "normalise": True,
    "signed": False,
    "table": False,
}
"""The settings and their values for a LexLIP."""


def write_sentence_files(folder: str | os.PathLike[str], **settings: Any) -> None:
    """Write the files of a checkpoint that holds a model with words.

    Parameters
    ----------
    folder : path
    **settings
        Those of `DEFAULTS` that differ.
    """
    place, own = Path(folder), {**DEFAULTS, **settings}
    write_json(place / MODULES, [{"idx": 0, "name": "0", "path": "", "type": MODULE}])
    write_json(place / SETTINGS, {
        "model_type": "SparseEncoder",
        "similarity_fn_name": "dot",
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "requirements": {"lexlip": ">=0.1"},
    })  # fmt: skip
    write_json(place / OWN, own)
    write_json(place / MODALITIES, {"modality_config": {"text": {}, "image": {}}})


def read_settings(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the settings of a checkpoint; those that it does not name are left out.

    Raises
    ------
    LexLIPError
        When the file is corrupted, or names a setting of a later lexlip.
    """
    file = Path(folder) / OWN
    if not file.is_file():
        return {}
    found = read_json(file)
    if not isinstance(found, dict):
        raise LexLIPError(f"{file} is corrupted: put back a copy, or delete it")
    if unknown := sorted(found.keys() - DEFAULTS.keys()):
        raise LexLIPError(f"{file} has an unknown setting {unknown[0]!r:.60}: update lexlip")
    return found
