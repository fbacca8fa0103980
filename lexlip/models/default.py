"""The default model: a dual encoder that is fetched once, and kept in the hub's cache.

CLIP ViT-B/32 in 8 bits, as transformers.js publishes it. It is small (156 MB), under the MIT
license, and looks at some 30 pictures per second on two cores. A SigLIP finds more, and takes four
times as long for a picture. Any other model is chosen with ``-m`` or LEXLIP_MODEL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lexlip.errors import LexLIPError
from lexlip.models.hub import reaches, snapshot
from lexlip.storage.files import sha256_file

VARIABLE = "LEXLIP_MODEL"
"""Environment variable that names another model."""


@dataclass(frozen=True)
class HubModel:
    """A model on the hub, of one revision.

    Attributes
    ----------
    name, revision : str
    license : str
    precision : str
        Of its graphs (`lexlip.models.dual.onnx_open.open_onnx`).
    files : mapping of str to (int, str)
        Bytes and sha256 of each file that is needed; an empty hash where none is known.
    """

    name: str
    revision: str
    license: str
    precision: str
    files: Mapping[str, tuple[int, str]]

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    @property
    def place(self) -> dict[str, str]:
        """Where a checkpoint finds it again; see `LexicalSpeaker.save_pretrained`."""
        return {"name": self.name, "revision": self.revision, "precision": self.precision}


DEFAULT = HubModel(
    "Xenova/clip-vit-base-patch32",
    "d15189d7028b43f1d3e65039190477f6af591c2a",
    "MIT",
    "int8",
    {
        "config.json": (4_000, ""),
        "preprocessor_config.json": (500, ""),
        "tokenizer_config.json": (800, ""),
        "tokenizer.json": (
            2_224_119,
            "f7f3b7af117d467b58374797691a6438d3e6b9e9cef800dfd5dced7f697a90cd",
        ),
        "onnx/text_model_quantized.onnx": (
            64_504_507,
            "73baab855d406190da9faa498cfedf65f15cf309f4cc7385b7b032e6d08e5c3a",
        ),
        "onnx/vision_model_quantized.onnx": (
            89_117_001,
            "583fd1110a514667812fee7d684952aaf82a99b959760c8d7dca7e0ab9839299",
        ),
    },
)


def cached_folder(model: HubModel = DEFAULT) -> Path | None:
    """Return the folder of a model in the hub's cache, None where a file of it is missing."""
    folder = snapshot(model.name, model.revision)
    return folder if all((folder / name).is_file() for name in model.files) else None


def fetch(
    model: HubModel = DEFAULT, say: Callable[[str], Any] | None = None, check: bool = True
) -> Path:
    """Return the folder of a model, which is fetched where it is not in the hub's cache.

    Parameters
    ----------
    model : HubModel
    say : callable, optional
        Is told the size before anything is fetched.
    check : bool
        Compare what was fetched with the known hashes.

    Raises
    ------
    LexLIPError
        Without a network connection (within two seconds), or when a file is another one.
    """
    folder = cached_folder(model)
    if folder is not None:
        return folder
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    advice = f"connect once, set HF_ENDPOINT to a mirror, or give -m FOLDER ({VARIABLE})"
    if constants.HF_HUB_OFFLINE:
        raise LexLIPError(
            f"the model {model.name} was not fetched yet, and HF_HUB_OFFLINE is set: {advice}"
        )
    host = urlsplit(constants.ENDPOINT).hostname
    if not reaches(constants.ENDPOINT):
        raise LexLIPError(
            f"the model {model.name} was not fetched yet, and {host} cannot be reached: {advice}"
        )
    if say is not None:
        say(
            f"the model {model.name} ({model.license}) is fetched once from {host}: "
            f"{model.bytes / 1e6:.0f} MB"
        )
    try:
        for name, (_, digest) in model.files.items():
            path = Path(hf_hub_download(model.name, name, revision=model.revision))
            if check and digest and sha256_file(path) != digest:
                with suppress(OSError):
                    os.remove(os.path.realpath(path))
                    os.remove(path)
                raise LexLIPError(f"{model.name}: {name} is another file than expected: try again")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(f"{model.name} cannot be fetched ({reason}): {advice}") from None
    return path.parents[len(Path(name).parts) - 1]
