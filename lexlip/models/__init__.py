"""Models: texts and pictures to weighted words of a vocabulary.

Importing this package, `lexlip.models.speaker`, `lexlip.models.query_table` or
`lexlip.models.lexical` loads no torch; `load` of a LexLIP does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker


def load(
    name: str | os.PathLike[str], fingerprint: str | None = None, *, table: bool = True
) -> Speaker:
    """Load a speaker.

    That is a LexLIP, a dual encoder in words (``lexlip lexicalise``), a SparseEncoder of
    sentence-transformers that reads pictures, or the word list of an index of imported vectors. A
    LexLIP that was exported (`lexlip.models.export`) is run by onnxruntime, without torch.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.
    fingerprint : str, optional
        Of the model: tells the export of a name on the hub.
    table : bool
        Let the checkpoint's query table read texts, where there is one beside an export.

    Raises
    ------
    LexLIPError
        When the checkpoint is missing, corrupted, or of another model. For a dual encoder the line
        holds the command that gives it words.

    Examples
    --------
    >>> model = load("runs/demo/stage2")                        # doctest: +SKIP
    >>> model.words_of("two hearts", top_k=2)            # doctest: +SKIP
    [('hearts', 1.05), ('two', 0.81)]
    """
    from lexlip.errors import require
    from lexlip.models.bounds import check_bounds
    from lexlip.models.dual.files import is_sparse_encoder, model_type
    from lexlip.models.export_files import export_folder
    from lexlip.models.hub import check_there
    from lexlip.models.word_list import WordList, is_word_list

    if is_word_list(name):
        return WordList.from_pretrained(name)
    if (exported := export_folder(name, fingerprint)) is None:
        check_there(name)
    if exported is None or os.path.isdir(name):  # the hub is not asked about what is exported
        check_bounds(name)
    if is_lexical(name):
        from lexlip.models.lexical.speaker import LexicalSpeaker

        return LexicalSpeaker.from_pretrained(name)
    if model_type(name) != "lexlip" and is_sparse_encoder(name):
        require("torch", "transformers", "sentence_transformers")
        from lexlip.models.sparse_encoder import SparseSpeaker

        return SparseSpeaker.from_pretrained(name)
    if exported is not None:
        from lexlip.models.exported import ExportedLexLIP

        return ExportedLexLIP.from_pretrained(name, exported, table)
    from lexlip.models.dual import refuse_dual_encoder

    refuse_dual_encoder(name)
    require("torch", "transformers")
    from lexlip.models.lexlip import LexLIP
    from lexlip.models.runtime import on_device

    model: LexLIP = on_device(LexLIP.from_pretrained(name))
    return model


def is_lexical(name: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint is one that ``lexlip lexicalise`` wrote."""
    from lexlip.models.dual.files import model_type

    return model_type(name) == "lexlip-words"
