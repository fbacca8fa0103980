"""The model that comes with the package: it knows coloured shapes, and needs no torch.

``make demo`` trains it on pictures that the project draws, and ``make demo-checkpoint`` writes it
here: graphs for onnxruntime with weights of 16 bits, and a table for texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexlip.errors import LexLIPError
from lexlip.models.digests import FILES, digests
from lexlip.storage.files import MANIFEST, read_json

if TYPE_CHECKING:
    from lexlip.models.exported import ExportedLexLIP

FORMAT = "lexlip-demo/1"
SHIPPED = Path(__file__).parents[1] / "data" / "demo"
"""Where the package has it."""


def facts_of(folder: Path = SHIPPED) -> dict[str, Any]:
    """Return the manifest of a shipped model, after its files were compared with it.

    Raises
    ------
    LexLIPError
        When a file is missing or has changed.
    """
    advice = "install lexlip again"
    try:
        facts: dict[str, Any] = read_json(folder / MANIFEST)
        right = facts["format"] == FORMAT and facts[FILES] == digests(folder)
    except (KeyError, TypeError, OSError) as error:
        raise LexLIPError(f"the model at {folder} is corrupted: {advice}") from error
    if not right:
        raise LexLIPError(f"the model at {folder} is not the one that was shipped: {advice}")
    return facts


def load_shipped(folder: Path = SHIPPED) -> ExportedLexLIP:
    """Open the shipped model, after its files were checked.

    Raises
    ------
    LexLIPError
        When a file is missing or has changed.

    Examples
    --------
    >>> load_shipped().words_of("two hearts", top_k=1)                     # doctest: +SKIP
    [('hearts', 0.47...)]
    """
    from lexlip.models.exported import ExportedLexLIP

    facts_of(folder)
    return ExportedLexLIP.from_pretrained(folder)
