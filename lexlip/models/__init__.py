"""Models: texts and pictures to weighted words of a vocabulary.

Importing this package, `lexlip.models.speaker` or `lexlip.models.query_table` loads no torch;
`load` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker


def load(name: str | os.PathLike[str]) -> Speaker:
    """Load a speaker: a LexLIP, or a CLIP with a lexicon that ``lexlip lexicalise`` wrote.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.

    Raises
    ------
    LexLIPError
        When the checkpoint is missing, corrupted, or of another model.

    Examples
    --------
    >>> model = load("runs/demo/stage2")                        # doctest: +SKIP
    >>> model.words_of("a red circle", top_k=2)                 # doctest: +SKIP
    [('red', 2.1), ('circle', 2.0)]
    """
    from lexlip.models.lexical_clip import LexicalCLIP
    from lexlip.models.lexlip import LexLIP

    model: LexicalCLIP | LexLIP
    if is_lexical_clip(name):
        model = LexicalCLIP.from_pretrained(name)
    else:
        model = LexLIP.from_pretrained(name)
    return model


def is_lexical_clip(name: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint is one that ``lexlip lexicalise`` wrote."""
    from transformers import PreTrainedConfig

    from lexlip.models.lexical_clip import LexicalConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(name)
    except OSError:
        return False  # loading says what is wrong
    return config.get("model_type") == LexicalConfig.model_type
