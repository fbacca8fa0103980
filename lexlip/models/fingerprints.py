"""Fingerprints: which model something is of, in any precision."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)

ROUNDED = ("bfloat16", "float16")
"""Precisions that a copy of a model may have: rounding the model gives the same numbers."""

_MEASURED = frozenset(
    ("lexicon_ids", "running_mean", "running_var", "num_batches_tracked", "text_mean", "image_mean")
)
"""Buffers that make a model what it is. Others are constants of the code."""


def learned(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a model, and the buffers that were measured or chosen."""
    constants = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    constants = {name for name in constants if name.rpartition(".")[2] not in _MEASURED}
    return {name: part for name, part in model.state_dict().items() if name not in constants}


def fingerprint(
    state: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerFast, precision: str | None = None
) -> str:
    """sha256 over every weight, by name, and over the tokenizer's vocabulary.

    Parameters
    ----------
    state : mapping of str to Tensor
    tokenizer : PreTrainedTokenizerFast
    precision : str, optional
        One of `ROUNDED`: round numbers to it first.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        part = state[name].detach().cpu()
        if precision is not None and part.is_floating_point():
            part = part.to(getattr(torch, precision))
        digest.update(name.encode())
        digest.update(part.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for token, index in sorted(tokenizer.get_vocab().items()):
        digest.update(f"{token}\t{index}\n".encode())
    return digest.hexdigest()


def check_same(place: Any, facts: Mapping[str, Any], speaker: Any, advice: str) -> None:
    """Refuse a model that is another one than something was made with.

    The same weights in another precision are accepted, and named in the log.

    Parameters
    ----------
    place : path
        What was made.
    facts : mapping
        Its manifest: `model`, the fingerprint; `rounded`, those of rounded copies, and
        `precision`, where it is young enough.
    speaker : Speaker
    advice : str
        What to do about another one.

    Raises
    ------
    LexLIPError
        For another model.
    """
    made = facts.get("model")
    if made == speaker.fingerprint or made in getattr(speaker, "older_fingerprints", ()):
        return
    theirs, ours = facts.get("rounded") or {}, getattr(speaker, "rounded", {})
    alike = [name for name in ROUNDED if theirs.get(name) and theirs[name] == ours.get(name)]
    if not alike:
        other = facts.get("checkpoint")
        raise LexLIPError(f"{place} was built by another model ({other}): {advice}")
    built, own = facts.get("precision"), getattr(speaker, "precision", "another precision")
    log.warning("%s was built by this model in %s, this copy is in %s: scores may differ a little",
                place, built, own)  # fmt: skip
