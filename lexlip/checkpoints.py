"""Which model a checkpoint is of."""

from __future__ import annotations

import os
from typing import Any

from transformers import PreTrainedConfig

from lexlip.lexical_clip import LexicalCLIP
from lexlip.model import LexLIP


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
    try:
        config, _ = PreTrainedConfig.get_config_dict(name)
    except OSError:
        config = {}  # the model says what is wrong
    lexical = config.get("model_type") == LexicalCLIP.config_class.model_type
    return (LexicalCLIP if lexical else LexLIP).from_pretrained(name)
