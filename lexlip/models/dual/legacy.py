"""CLIPs inside of checkpoints that earlier versions of lexlip wrote (``lexlip-clip``).

Such a checkpoint has CLIP's weights beside those of its words, the picture preprocessing in its
root, and CLIP's own tokenizer in the folder ``clip``. Its CLIP opens like any other, so that
``lexlip lexicalise PICTURES --clip OLD -o NEW`` renews the checkpoint.
"""

from __future__ import annotations

import os

from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoTokenizer, CLIPConfig, CLIPModel

from lexlip.errors import LexLIPError
from lexlip.models.dual.files import find_file, read_json
from lexlip.models.dual.patches import ClassTokenDual

TOKENIZER = "clip"
PREFIX = "clip."


def open_legacy(name: str | os.PathLike[str]) -> ClassTokenDual:
    """Open the CLIP of an old checkpoint of lexlip.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.

    Raises
    ------
    LexLIPError
        When files are missing or corrupted.
    """
    weights = find_file(name, "model.safetensors")
    tokens = find_file(name, f"{TOKENIZER}/tokenizer.json")
    find_file(name, f"{TOKENIZER}/tokenizer_config.json")  # beside it, also from the hub
    advice = (
        "lexicalise the original CLIP again, with lexlip lexicalise PICTURES --clip CLIP -o NEW"
    )
    if weights is None or tokens is None:
        missing = "model.safetensors" if weights is None else f"the folder {TOKENIZER}"
        raise LexLIPError(f"{name}: {missing} is missing: {advice}")
    try:
        clip = CLIPModel(CLIPConfig.from_dict(read_json(name, "config.json")["clip_config"]))
        parts = {
            key.removeprefix(PREFIX): tensor
            for key, tensor in load_file(weights).items()
            if key.startswith(PREFIX)
        }
        clip.load_state_dict(parts)
        tokenizer = AutoTokenizer.from_pretrained(tokens.parent)
        image_processor = AutoImageProcessor.from_pretrained(name, backend="pil")
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(f"{name} is corrupted: {advice} ({reason})") from error
    return ClassTokenDual(str(name), clip, tokenizer, image_processor)
