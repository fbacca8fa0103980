"""Which model a checkpoint is of."""

from __future__ import annotations

import os
from typing import Any

from transformers import PreTrainedConfig

from lexlip.models.lexical_clip import LexicalCLIP
from lexlip.models.lexlip import LexLIP


def load_checkpoint(name: str | os.PathLike[str]) -> Any:
    """Load a `LexLIP`, or the `LexicalCLIP` that ``lexlip lexicalise`` wrote.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.

    Raises
    ------
    LexLIPError
        As `LexLIP.from_pretrained`.
    """
    return (LexicalCLIP if is_lexical_clip(name) else LexLIP).from_pretrained(name)


def is_lexical_clip(name: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint is one that ``lexlip lexicalise`` wrote."""
    try:
        config, _ = PreTrainedConfig.get_config_dict(name)
    except OSError:
        return False  # the model says what is wrong
    return config.get("model_type") == LexicalCLIP.config_class.model_type
