"""Settings of a run: frozen dataclasses, read from TOML, overridden as ``stage1.lr=1e-4``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lexlip import settings as toml
from lexlip.settings import Data

OTHERS = ("index", "bench", "queries")
"""Tables of a config that not every job reads."""


@dataclass(frozen=True)
class Model:
    """Towers by name, by folder, by name or folder with changes (``name`` in a table), by shape."""

    vision: str | Mapping[str, Any] = ""
    text: str | Mapping[str, Any] = ""
    freeze_vision: bool = False
    freeze_layers: int = 0  # lowest layers of the vision trunk that stay, with its embeddings
    freeze_embeddings: bool = False  # the text tower's word vectors
    gradient_checkpointing: bool = False  # trunks keep no activations: less memory, a pass more
    image_size: int = 224
    patch_grid: int = 7
    neck_layers: int = 2
    neck_heads: int = 3
    neck_positions: bool = False
    own_word_boost: bool = True
    max_text_length: int = 40
    dense_size: int = 256

    @property
    def pretrained(self) -> dict[str, str]:
        """Name or folder of each tower, ``vision`` and ``text``, that starts from weights."""
        towers = {"vision": self.vision, "text": self.text}
        names = {k: t if isinstance(t, str) else t.get("name", "") for k, t in towers.items()}
        return {k: str(name) for k, name in names.items() if name}


@dataclass(frozen=True)
class Words:
    """Who may be a term."""

    min_count: int = 1
    stop_words: bool = False


@dataclass(frozen=True)
class Stage:
    """Optimisation and loss weights of one stage."""

    epochs: int = 1
    steps: int = 0  # of the optimiser, instead of epochs; 0 counts epochs
    batch_size: int = 256  # of all processes together
    micro_batch: int = 0  # rows that a process encodes at a time; 0 takes all of its own
    texts_per_batch: int = 0  # extra captions without pictures per step
    masked_rows: int = 0  # paired captions that are masked as well; 0 takes all
    lr: float = 5e-5  # pretrained trunks
    head_lr: float = 5e-4  # everything that starts from random weights
    weight_decay: float = 0.01
    warmup: float = 0.1  # share of all steps
    clip: float = 1.0
    temperature: float = 0.05
    dropout: float = 0.0  # of the text tower and the neck
    kept_patches: float = 1.0  # share of the patches that a step looks at
    encoder_mask: float = 0.3
    decoder_mask: float = 0.5
    queue_size: int = 0
    momentum: float = 0.99
    save_every: int = 200  # steps between checkpoints
    max_bad_steps: int = 5  # in a row that are skipped for a loss or gradient that is no number
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sparsity:
    """How many terms items shall have after stage 2; the weights of its regularisers follow."""

    target_terms: int = 0  # of a picture; 0 keeps both weights as stage2.weights has them
    text_terms: int = 0  # of a text; 0 for as many as a picture


@dataclass(frozen=True)
class Finetune(Stage):
    """Stage 2 once more."""

    image_size: int = 0  # of the pictures; 0 for as before


@dataclass(frozen=True)
class Heads(Stage):
    """The dense branch (`lexlip.models.dense_branch`): its heads, and what their training needs."""

    token_size: int = 256  # FILIP's; 0 for no token head
    token_count: int = 0  # patches are reduced to so many tokens; 0 keeps them all
    gaussian_size: int = 256  # 0 for no Gaussian head
    layers: int = 2  # of its own on each side
    freeze_towers: bool = True  # words stay as they are, to the bit
    token_temperature: float = 0.07  # at the start; it is learned
    kept_words: float = 1.0  # share of a text's words that a step looks at
    samples: int = 7  # of each Gaussian, for the losses of PCME
    mixed: float = 0.25  # share of the pictures that PCME++ mixes with others
    label_smoothing: float = 1e-4  # of PCME++
    naaf_rows: int = 48  # pairs of the batch that NAAF's loss compares; 0 takes all
    naaf_alpha: float = 2.0  # how much worse a missed absent word is than a missed present one


@dataclass(frozen=True)
class Settings:
    """One run, from data to dense control."""

    name: str = "run"
    seed: int = 0
    precision: str = "auto"  # "bf16", "no" (float32), or bf16 where it is fast
    processes: int = 0  # that must train together; 0 for as many as the launcher says
    tracker: str = ""  # "tensorboard", "wandb", ...: whatever accelerate knows and is installed
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    words: Words = field(default_factory=Words)
    sparsity: Sparsity = field(default_factory=Sparsity)
    stage1: Stage = field(default_factory=Stage)
    stage2: Stage = field(default_factory=Stage)
    finetune: Finetune = field(default_factory=Finetune)
    dense: Stage = field(default_factory=Stage)
    heads: Heads = field(default_factory=Heads)


S = TypeVar("S", bound=Settings)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a run's settings; tables that belong to other jobs are theirs to check."""
    return load_as(Settings, path, overrides)


def load_as(kind: type[S], path: str | Path, overrides: Sequence[str] = ()) -> S:
    """Read the settings of a job that has tables or keys of its own besides."""
    table = toml.read(path, overrides, kind)
    for other in OTHERS:
        if other not in kind.__dataclass_fields__:
            table.pop(other, None)
    return toml.build(kind, table, "")
