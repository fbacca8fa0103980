"""Exporting dual encoders of transformers for onnxruntime, in the layout of transformers.js.

Needs torch, and the package onnx (extra ``torch``). What was written is compared with the network
before it is kept.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lexlip.errors import LexLIPError
from lexlip.models.dual import graphs
from lexlip.models.dual.base import SeesPatches
from lexlip.models.dual.graphs import MANIFEST, OWN_TOKENIZER, TRANSFORMERS_JS
from lexlip.models.dual.transformers_models import TransformersDual
from lexlip.storage.files import write_json

log = logging.getLogger(__name__)

FORMAT = "lexlip-onnx/1"
ALIKE = 0.9999
"""Cosine of a graph's vector with the network's, at least; it is 0.9999999 where all is well."""

_LARGEST = 1_900_000_000  # bytes of one file
_OPSET = 17
_TEXTS = ("a photo of a dog", "", "Two red circles, over a green star!", "a beach at night " * 40)


def export_dual(encoder: TransformersDual, folder: str | os.PathLike[str]) -> None:
    """Write a dual encoder's graphs, and what is read beside them, in 32 bits.

    Parameters
    ----------
    encoder : TransformersDual
    folder : path
        Configuration, tokenizer and preprocessing are written where it has none.

    Raises
    ------
    LexLIPError
        When the model cannot be exported, or its graphs do not give its vectors: nothing of them
        is left.

    Examples
    --------
    >>> export_dual(open_dual_encoder("clip"), "clip-onnx")             # doctest: +SKIP
    """
    target = Path(folder)
    (target / "onnx").mkdir(parents=True, exist_ok=True)
    (target / MANIFEST).unlink(missing_ok=True)
    try:
        if not (target / "config.json").is_file():
            encoder.model.config.save_pretrained(target)
            encoder.tokenizer.save_pretrained(target)
            encoder.image_processor.save_pretrained(target)
        _write(encoder, target)
        _compare(encoder, target)
    except Exception as error:  # the exporter raises of all kinds
        shutil.rmtree(target / "onnx")
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(
            f"{encoder.name_or_path} cannot be exported, so it runs with torch only ({reason})"
        ) from error


def export_beside(encoder: TransformersDual, folder: str | os.PathLike[str]) -> None:
    """Write the graphs beside a model's weights where that can be done, else say so in the log."""
    if importlib.util.find_spec("onnx") is None:
        log.info("no graphs for onnxruntime were written: pip install 'lexlip[torch]'")
        return
    try:
        export_dual(encoder, folder)
    except LexLIPError as error:
        log.warning("%s", error)


class _Tower(nn.Module):
    """One side of a dual encoder, with its inputs in a row, as the exporter wants them."""

    def __init__(
        self, network: nn.Module, features: Callable[..., Tensor], names: Sequence[str]
    ) -> None:
        super().__init__()
        self.network, self.features, self.names = network, features, list(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.features(dict(zip(self.names, inputs, strict=True)))


def _write(encoder: TransformersDual, target: Path) -> None:
    size = sum(part.numel() * part.element_size() for part in encoder.network.parameters())
    if size > 2 * _LARGEST:
        raise ValueError(f"{size:,} bytes are too many for two files")
    tokens = encoder.tokens(["a red dog", "the night"])
    length = {} if encoder.habits.padded else {1: "length"}
    axes: dict[str, dict[int, str]] = {name: {0: "batch", **length} for name in tokens}
    place = target / TRANSFORMERS_JS.text.format("")
    _export(encoder, encoder.text_features, tokens, axes, "text_embeds", place)
    pixels = encoder.pixels(_pictures())
    if pixels.keys() != {"pixel_values"}:
        raise ValueError("its pictures keep their own shape (NaFlex)")
    place = target / TRANSFORMERS_JS.vision.format("")
    batch = {"pixel_values": {0: "batch"}}
    _export(encoder, encoder.image_features, pixels, batch, "image_embeds", place)
    if not (target / TRANSFORMERS_JS.tokenizer).is_file():
        _tokenizer_of(encoder.tokenizer).save(str(target / OWN_TOKENIZER))


def _export(
    encoder: TransformersDual,
    features: Callable[..., Tensor],
    inputs: dict[str, Tensor],
    axes: dict[str, dict[int, str]],
    output: str,
    place: Path,
) -> None:
    tower = _Tower(encoder.network, features, list(inputs)).eval()
    placed = tuple(encoder._placed(inputs).values())
    with torch.no_grad(), _silence():
        torch.onnx.export(
            tower,
            placed,
            str(place),
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes={**axes, output: {0: "batch"}},
            opset_version=_OPSET,
            # Traced: 20 times as fast as the newer exporter, and right for all families.
            dynamo=False,
        )


def _compare(encoder: TransformersDual, target: Path) -> None:
    """Write the manifest when the graphs give the network's vectors."""
    from lexlip.models.dual.onnx_open import open_onnx

    written = open_onnx(target, precision="fp32")
    pairs = (
        (encoder.embed_text(_TEXTS), written.embed_text(_TEXTS)),
        (encoder.embed_image(_pictures()), written.embed_image(_pictures())),
    )
    for theirs, ours in pairs:
        worst = float((theirs * ours).sum(1).min())
        if theirs.shape != ours.shape or not worst > ALIKE:
            raise ValueError(f"a graph's vector has a cosine of {worst:.5f} with the network's")
    settings = written.picture_settings
    files = graphs.sampled(target, written.files, settings)
    facts: dict[str, Any] = {"format": FORMAT, "model": encoder.fingerprint, "files": files}
    facts |= {"weights": graphs.weights_of(target), "patches": isinstance(encoder, SeesPatches)}
    write_json(target / MANIFEST, facts)


def _pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    shapes = ((120, 90, 3), (64, 200, 3))
    return [Image.fromarray(noise.integers(0, 256, shape, np.uint8)) for shape in shapes]


def _tokenizer_of(tokenizer: Any) -> Any:
    """A tokenizers.Tokenizer of a SentencePiece tokenizer that ends texts with a token."""
    from tokenizers.processors import TemplateProcessing
    from transformers.convert_slow_tokenizer import SpmConverter

    if not hasattr(tokenizer, "vocab_file"):
        raise ValueError(f"{type(tokenizer).__name__} has no form that tokenizers can read")
    raw = SpmConverter(tokenizer).converted()
    end = tokenizer.eos_token
    raw.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return raw


@contextlib.contextmanager
def _silence() -> Generator[None, None, None]:
    """Keep back what the exporter says about itself."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
