"""A tiny SparseEncoder of texts and pictures with random weights, as a checkpoint brings its code.

`write` copies this file into the checkpoint, as V-SPLADE's authors do with theirs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sentence_transformers.base.modality import infer_batch_modality
from sentence_transformers.base.modules import InputModule
from transformers import AutoTokenizer


class TinySplade(InputModule):
    """Word and picture vectors of width 8, multiplied with a word matrix."""

    config_file_name = "tiny_config.json"
    config_keys = ["extra"]
    modalities = ["text", "image"]
    forward_kwargs = {"task"}

    def __init__(self, tokenizer, extra=0):
        super().__init__()
        self.tokenizer, self.extra = tokenizer, extra
        size = len(tokenizer) + extra
        self.states = torch.nn.Embedding(size, 8)
        self.eye = torch.nn.Linear(3 * 4 * 4, 8)
        self.words = torch.nn.Linear(8, size)

    def preprocess(self, inputs, prompt=None, **kwargs):
        if infer_batch_modality(inputs) == "text":
            texts = [text["text"] if isinstance(text, dict) else text for text in inputs]
            texts = [(prompt or "") + text for text in texts]
            read = self.tokenizer(texts, padding=True, return_tensors="pt")
            return {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"]}
        pictures = [
            np.asarray(image.convert("RGB").resize((4, 4), Image.NEAREST)) for image in inputs
        ]
        return {"pixel_values": torch.tensor(np.stack(pictures)).float().flatten(1) / 255}

    def forward(self, features, task=None, **kwargs):
        if "pixel_values" in features:
            logits = self.words(self.eye(features["pixel_values"]))
        else:
            mask = features["attention_mask"][..., None]
            logits = (self.words(self.states(features["input_ids"])) * mask).amax(1)
        weights = torch.log1p(torch.relu(logits))
        features["sentence_embedding"] = 2 * weights if task == "query" else weights
        return features

    def get_embedding_dimension(self):
        return self.words.out_features

    def save(self, path, *args, safe_serialization=True, **kwargs):
        self.save_config(path)
        self.save_tokenizer(path)
        self.save_torch_weights(path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path, **kwargs):
        config = cls.load_config(model_name_or_path, **_places(kwargs))
        model = cls(AutoTokenizer.from_pretrained(model_name_or_path), **config)
        return cls.load_torch_weights(model_name_or_path, model=model, **_places(kwargs))


def _places(kwargs):
    names = ("subfolder", "token", "cache_folder", "revision", "local_files_only")
    return {name: kwargs[name] for name in names if name in kwargs}


def write(encoder, folder: Path) -> Path:
    """Save a SparseEncoder of a `TinySplade` together with its code, and return the folder."""
    encoder.save_pretrained(str(folder), create_model_card=False)
    source = Path(__file__).read_text(encoding="utf-8")
    (folder / "tiny_splade.py").write_text(source, encoding="utf-8")
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["type"] = "tiny_splade.TinySplade"
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder
