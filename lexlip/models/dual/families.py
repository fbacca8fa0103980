"""Families of dual encoders that transformers holds: how each reads a text. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
