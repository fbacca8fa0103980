"""A training of six steps a stage, on a few drawn scenes."""

from __future__ import annotations

from pathlib import Path

CONFIG = """
name = "tiny"
precision = "no"

[data]
source = "scenes"
scenes = {{ train = 48, dev = 12, test = 0, size = 32 }}
texts = ["{folder}/texts.txt"]
cache = "{folder}/cache"

[model]
image_size = 32
patch_grid = 0
neck_layers = 1
neck_heads = 2
max_text_length = 24
dense_size = 16
vision = {{ model_type = "vit", patch_size = 8, {shape} }}
text = {{ model_type = "bert", max_position_embeddings = 32, {shape} }}

[stage1]
batch_size = 40
texts_per_batch = 6
masked_rows = 24
head_lr = 1e-3
save_every = 2
dropout = 0.1
kept_patches = 0.5

[stage2]
batch_size = 40
queue_size = 100
head_lr = 1e-3
save_every = 2
dropout = 0.1
kept_patches = 0.5

[dense]
batch_size = 40
head_lr = 1e-3
save_every = 2
dropout = 0.1
kept_patches = 0.5
"""
SHAPE = "hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 64"


def write_config(folder: Path) -> Path:
    """Write a config of 240 captions in batches of 40, with a checkpoint every second step."""
    (folder / "texts.txt").write_text("a red circle\ntwo dogs\nthree small stars at night\n")
    path = folder / "tiny.toml"
    path.write_text(CONFIG.format(folder=folder, shape=SHAPE))
    return path
