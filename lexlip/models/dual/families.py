"""Families of dual encoders that transformers holds: how each reads a text. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

MANY = (
    "en", "de", "fr", "es", "it", "pt", "nl", "pl", "cs", "ru", "tr", "ar", "zh", "ja", "ko",
)  # fmt: skip
"""Languages of encoders that were trained on texts of the whole web."""


@dataclass(frozen=True)
class Family:
    """The habits of a kind of dual encoder.

    Attributes
    ----------
    name : str
    prompt : str
        The sentence that a word is embedded in.
    languages : tuple of str
        Codes, the main language first.
    max_length : int, optional
        Tokens that texts had in training, where the model could take longer ones.
    padded : bool
        Every text has `max_length` tokens, and no mask hides the padding.
    lower : bool
        Trained on lower case, which its tokenizer leaves to the caller.
    summary : "start", "end" or "last"
        The position that becomes the vector: the first token, the end-of-text token, or the last
        token even if it is padding.
    """

    name: str
    prompt: str = "a photo of a {}"
    languages: tuple[str, ...] = ("en",)
    max_length: int | None = None
    padded: bool = False
    lower: bool = False
    summary: Literal["start", "end", "last"] = "start"


_SIGLIP = "This is a photo of {}."

FAMILIES = {
    "aimv2": Family("aimv2", summary="end"),
    "align": Family("align", max_length=64),
    "altclip": Family("altclip", languages=("en", "zh"), max_length=77),
    "blip": Family("blip", max_length=35),
    "chinese_clip": Family("chinese-clip", "一张{}的图片", ("zh",), max_length=52),
    "clip": Family("clip", summary="end"),
    "clipseg": Family("clipseg", summary="end"),
    "flava": Family("flava", max_length=77),
    "groupvit": Family("groupvit", summary="end"),
    "metaclip_2": Family("metaclip-2", languages=MANY, summary="end"),
    "owlv2": Family("owlv2", summary="end"),
    "owlvit": Family("owlvit", summary="end"),
    "siglip": Family("siglip", _SIGLIP, max_length=64, padded=True, summary="last"),
    "siglip2": Family("siglip2", _SIGLIP, MANY, 64, padded=True, lower=True, summary="last"),
    "vision-text-dual-encoder": Family("vision-text-dual-encoder"),
}
"""By the ``model_type`` of config.json."""

OFFSET = {"altclip_text_model", "camembert", "roberta", "xlm-roberta"}
"""Text towers that number positions from the padding token's id on."""

_POSITIONS = {"owlv2": 16, "owlvit": 16, **dict.fromkeys(("siglip", "siglip2"), 64)}
_MANY_WORDS = 200_000


def habits_of(model_type: str, tokenizer_class: str, vocabulary: int) -> Family:
    """Return the habits of a model; checkpoints of SigLIP 2 and its kin call themselves SigLIP.

    Parameters
    ----------
    model_type : str
        Of config.json.
    tokenizer_class : str
    vocabulary : int
        Number of tokens.

    Examples
    --------
    >>> habits_of("siglip", "GemmaTokenizer", 256_000).name
    'siglip2'
    """
    habits = FAMILIES[model_type]
    if model_type == "siglip":
        if tokenizer_class.startswith(("Gemma", "Siglip2")):
            habits = FAMILIES["siglip2"]
        elif vocabulary > _MANY_WORDS:  # SigLIP on texts of many languages; the English has 32,000
            habits = replace(habits, languages=MANY)
    return habits


def text_limit(config: Mapping[str, Any], longest: float | None, habits: Family) -> int:
    """Return the longest text in tokens.

    Parameters
    ----------
    config : mapping
        Content of config.json; what it leaves out is as the family has it.
    longest : float, optional
        ``model_max_length`` of the tokenizer.
    habits : Family

    Examples
    --------
    >>> text_limit({"text_config": {"max_position_embeddings": 24}}, 1e30, FAMILIES["clip"])
    24
    """
    text = config.get("text_config") or {}
    positions = text.get("max_position_embeddings")
    if positions is None and habits.max_length is None and not longest:
        positions = 77
    if positions is None:
        positions = _POSITIONS.get(str(config.get("model_type")))
    elif text.get("model_type") in OFFSET:
        positions -= text.get("pad_token_id", 1) + 1
    limits = (positions, longest, habits.max_length)
    return int(min(limit for limit in limits if limit))
