"""Models: texts and pictures to weighted words of a vocabulary.

Importing this package, `lexlip.models.speaker`, `lexlip.models.query_table` or
`lexlip.models.lexical` loads no torch; `load` of a LexLIP does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker

OLD_LEXICAL = "lexlip-clip"
"""Model type of CLIPs with a lexicon as earlier versions wrote them."""


def load(name: str | os.PathLike[str]) -> Speaker:
    """Load a speaker: a LexLIP, or a dual encoder in words (``lexlip lexicalise``).

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
    kind = model_type(name)
    if kind == OLD_LEXICAL:
        raise LexLIPError(
            f"{name} was written by an earlier lexlip, whose words found less: renew it with "
            f"lexlip lexicalise PICTURES --clip {name} -o NEW"
        )
    if is_lexical(name):
        from lexlip.models.lexical.speaker import LexicalSpeaker

        return LexicalSpeaker.from_pretrained(name)
    from lexlip.models.dual import is_dual_encoder

    if is_dual_encoder(name):
        raise LexLIPError(
            f"{name} is a dual encoder without words: give it some with "
            f"lexlip lexicalise PICTURES --clip {name} -o CHECKPOINT"
        )
    from lexlip.models.lexlip import LexLIP

    model: LexLIP = LexLIP.from_pretrained(name)
    return model


def is_lexical(name: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint is one that ``lexlip lexicalise`` wrote."""
    return model_type(name) == "lexlip-words"


def model_type(name: str | os.PathLike[str]) -> str | None:
    """Return the model type that a checkpoint's config.json states; None without one."""
    from lexlip.models.dual.files import read_json

    config = read_json(name, "config.json")
    found = config.get("model_type") if isinstance(config, dict) else None
    return found if isinstance(found, str) else None
