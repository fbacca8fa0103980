"""Dual encoders that were exported, with the network's weights still beside the graphs.

Vectors come from the graphs. What only the network can tell, patches and attention, opens it when
it is first asked for; that needs torch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lexlip.models.dual.base import Vectors
from lexlip.models.dual.files import read_json
from lexlip.models.dual.graphs import MANIFEST
from lexlip.models.dual.onnx_models import OnnxDual


class AttendsBeside(OnnxDual):
    """An export that also tells what a text's summary attends to."""

    @cached_property
    def network(self) -> Any:
        """The network, a `lexlip.models.dual.transformers_models.TransformersDual`."""
        from lexlip.models.dual.transformers_models import open_transformers

        return open_transformers(self.folder)

    def text_attention(self, text: str) -> list[tuple[str, float]]:
        """Share of each word in the last layer; see `lexlip.models.dual.base.AttendsText`."""
        shares: list[tuple[str, float]] = self.network.text_attention(text)
        return shares


class SeesBeside(AttendsBeside):
    """An export that shows patches as well."""

    def embed_patches(
        self, images: Sequence[Any], batch_size: int = 32
    ) -> tuple[Vectors, tuple[int, int]]:
        """Pictures to patches; see `lexlip.models.dual.base.SeesPatches`."""
        found: tuple[Vectors, tuple[int, int]] = self.network.embed_patches(images, batch_size)
        return found


def class_of(folder: Path) -> type[OnnxDual]:
    """Return the class of an encoder in a folder: by what lies there, and what is installed."""
    facts = read_json(folder, MANIFEST)
    if not isinstance(facts, dict) or not any(folder.glob("*.safetensors")):
        return OnnxDual
    if not (_installed("torch") and _installed("transformers")):
        return OnnxDual
    return SeesBeside if facts.get("patches") else AttendsBeside


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # it was blocked
        return False
