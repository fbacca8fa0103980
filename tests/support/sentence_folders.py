"""Folders of sentence-transformers with a tiny CLIP inside."""

from __future__ import annotations

import json

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer

from tests.support.duals import small_dual

CLIP_MODULE = "sentence_transformers.models.CLIPModel"


def as_published(folder, path="0_CLIPModel"):
    """Write a folder that is laid out as clip-ViT-B-32 is."""
    small_dual("clip", folder / path)
    listed = [{"idx": 0, "name": "0", "path": path, "type": CLIP_MODULE}]
    (folder / "modules.json").write_text(json.dumps(listed))
    settings = {"__version__": {"sentence_transformers": "2.0.0"}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def with_a_layer(tmp_path, **options):
    """Write a folder whose CLIP is followed by a layer of its own."""
    torch.manual_seed(1)
    clip = Transformer(str(small_dual("clip", tmp_path / "clip")))
    model = SentenceTransformer(modules=[clip, Dense(8, 6)], device="cpu", **options)
    model.save_pretrained(str(tmp_path / "layer"), create_model_card=False)
    return tmp_path / "layer"
