"""A tiny CLIP with random weights, and words for it."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

WORDS = ("red", "circle", "star", "night", "dog", "beach", "running", "green")


def small_tokenizer():
    """CLIP's tokenizer over letters, with merges for two words."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = ["d o", "do g</w>", "t h", "th e</w>", "r e", "re d</w>"]
    names = [*letters, *(f"{c}</w>" for c in letters), *(m.replace(" ", "") for m in merges)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    pairs = [tuple(m.split()) for m in merges]
    return transformers.CLIPTokenizer(vocab={n: i for i, n in enumerate(names)}, merges=pairs)


def small_clip(folder: Path, tokenizer) -> Path:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    shape["num_attention_heads"] = 2
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer), "max_position_embeddings": 24, **special, **shape
        },
        vision_config={"image_size": 16, "patch_size": 8, **shape},
        projection_dim=8,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    processor(**size).save_pretrained(folder)
    return folder
