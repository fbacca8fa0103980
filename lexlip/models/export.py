"""Export of a trained LexLIP to onnxruntime, so that searching needs no torch.

The graph of texts returns pooled logits, the position that won each word, and attention; that of
pictures also the logits of all patches. Log-saturation and what a text gives its own words are
arithmetic of `lexlip.models.exported`.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from lexlip.errors import LexLIPError
from lexlip.models.digests import FILES, digests
from lexlip.models.export_files import (
    FOLDER,
    FORMAT,
    GRAPHS,
    LEXICON,
    TOKENIZER,
    cached_export,
    export_folder,
    sample_of,
)
from lexlip.models.lexlip import LexiconHead, LexLIP
from lexlip.models.pooling import NEVER
from lexlip.models.trunks import takes_embeddings
from lexlip.storage.files import MANIFEST, atomic_directory, write_json

log = logging.getLogger(__name__)
_WEIGHTS = "model.safetensors"


class _Pooled(nn.Module):
    """The head over states: best logits, winners, and all logits."""

    def __init__(self, head: LexiconHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.head.transform(hidden) @ self.head.words.T
        if mask is not None:
            logits = torch.where(mask.unsqueeze(-1), logits, torch.full_like(logits, NEVER))
        logits = logits + self.head.bias
        best = logits.max(dim=1)
        return best.values, best.indices, logits


class _Texts(nn.Module):
    def __init__(self, model: LexLIP) -> None:
        super().__init__()
        self.tower, self.pooled = model.text, _Pooled(model.text_head)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        trunk = self.tower.trunk
        given: dict[str, Tensor] = {"input_ids": input_ids}
        if takes_embeddings(trunk):
            given = {"inputs_embeds": trunk.get_input_embeddings()(input_ids)}
        output = trunk(**given, attention_mask=attention_mask, output_attentions=True)
        mask = self.tower.positions(input_ids, attention_mask)
        pooled, winner, _ = self.pooled(output.last_hidden_state, mask)
        return pooled, winner, output.attentions[-1].mean(1)


class _Pictures(nn.Module):
    def __init__(self, model: LexLIP) -> None:
        super().__init__()
        self.tower, self.pooled = model.vision, _Pooled(model.image_head)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.pooled(self.tower(self.tower.features(pixel_values)))


def export(model: LexLIP, folder: str | os.PathLike[str], weights: Path | None = None) -> None:
    """Write the graphs of a LexLIP, and all that encoding needs besides them.

    Parameters
    ----------
    model : LexLIP
    folder : path
        The folder to make; an export that is there is overwritten.
    weights : Path, optional
        File of the checkpoint's weights: an export of others is not taken for it.

    Raises
    ------
    LexLIPError
        When the tokenizer or the trunk cannot be exported, or onnx is not installed.
    """
    raw = getattr(model.tokenizer, "backend_tokenizer", None)
    if raw is None:
        raise LexLIPError(f"{type(model.tokenizer).__name__} has no file that can be exported")
    whole = model if model.precision == "float32" else copy.deepcopy(model).float()
    with torch.no_grad():
        pixels = whole.pixel_values([np.zeros((8, 8, 3), np.uint8)])
        patches = len(whole.pool_picture(np.zeros((8, 8, 3), np.uint8)).logits)
    boosts = np.zeros(len(model.lexicon), np.float32)
    if model.config.own_word_boost:
        boosts = torch.relu(whole.own_word_boost).detach().cpu().numpy()
    ids = torch.zeros((2, 4), dtype=torch.int64)
    pair = (ids, torch.ones_like(ids))
    with atomic_directory(folder) as new:
        _write(_Texts(whole), pair, ["input_ids", "attention_mask"], "attention",
               {0: "batch", 1: "length"}, new / GRAPHS["text"])  # fmt: skip
        two = torch.from_numpy(np.repeat(pixels, 2, axis=0))
        _write(_Pictures(whole), (two,), ["pixel_values"], "logits", {0: "batch"},
               new / GRAPHS["image"])  # fmt: skip
        arrays: dict[str, Any] = {"lexicon_ids": model.lexicon.ids, "boosts": boosts}
        save_file(arrays, new / LEXICON)
        raw = type(raw).from_str(raw.to_str())
        raw.no_truncation()
        raw.no_padding()
        (new / TOKENIZER).write_text(raw.to_str(), encoding="utf-8")
        facts = _facts(model, patches, weights)
        write_json(new / MANIFEST, {**facts, FILES: digests(new)})


def _facts(model: LexLIP, patches: int, weights: Path | None) -> dict[str, Any]:
    tokenizer, processor = model.tokenizer, model.processor
    assert processor is not None
    return {
        "format": FORMAT,
        "model": model.fingerprint,
        "older": list(model.older_fingerprints),
        "rounded": model.rounded,
        "precision": model.precision,
        "weights": None if weights is None else sample_of(weights),
        "vocabulary": model.lexicon.hash,
        "tokens": list(model.lexicon.tokens),
        "pictures": processor.image_processor.to_dict(),
        "max_text_length": model.config.max_text_length,
        "excluded": list(model.config.excluded_token_ids or ()),
        "pad": tokenizer.pad_token_id or 0,
        "summary": tokenizer.cls_token_id,
        "patch_grid": model.patch_grid,
        "patches": patches,
        "aligns": model.aligns,
        "token_size": model.token_size,
        "gaussian_size": model.gaussian_size,
        "naaf_threshold": model.naaf_threshold,
    }


def _write(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: list[str],
    third: str,
    axes: dict[int, str],
    path: Path,
) -> None:
    outputs = ["pooled", "winner", third]
    dynamic = {name: axes for name in names} | {name: {0: "batch"} for name in outputs}
    if third == "attention":
        dynamic[third] = {0: "batch", 1: "length", 2: "length"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of branches that are the same for every picture
            # The older exporter takes a second where the other takes eight, and gives the same
            # numbers.
            torch.onnx.export(
                module.eval(), inputs, os.fspath(path), input_names=names, output_names=outputs,
                dynamic_axes=dynamic, dynamo=False,
            )  # fmt: skip
    except ImportError as error:
        raise LexLIPError(f"{error.name} is missing: pip install 'lexlip[torch]'") from error
    except Exception as error:  # the exporter's errors have no class in common but this one
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(f"the model cannot be exported to onnxruntime ({reason})") from error


def keep_export(model: Any, checkpoint: str | os.PathLike[str] | None) -> Path | None:
    """Export a LexLIP beside its checkpoint, or into the user's cache, where it was not yet.

    Parameters
    ----------
    model : LexLIP, or another speaker
        Nothing is written of others.
    checkpoint : path, optional
        Where it was loaded from.

    Returns
    -------
    Path or None
        Folder of the export; None where there is none. Why is said in the log.
    """
    if not isinstance(model, LexLIP) or checkpoint is None:
        return None
    weights = Path(checkpoint) / _WEIGHTS
    try:
        found = export_folder(checkpoint, model.fingerprint)
        if found is not None:
            return found
        local = weights.is_file() and os.access(checkpoint, os.W_OK)
        folder = Path(checkpoint) / FOLDER if local else cached_export(model.fingerprint)
        export(model, folder, weights if weights.is_file() else None)
        return folder
    except (LexLIPError, OSError) as error:
        log.warning("searches will load torch, and start slowly: %s", error)
        return None
