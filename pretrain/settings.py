"""Settings of a run: frozen dataclasses, read from TOML, overridden as ``stage1.lr=1e-4``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lexlip import settings as toml
from lexlip.settings import Data, option

OTHERS = ("index", "bench", "queries", "levels")
"""Tables of a config that not every job reads."""


@dataclass(frozen=True)
class Model:
    """Towers by name, by folder, by name or folder with changes (``name`` in a table), by shape."""

    vision: str | Mapping[str, Any] = option("", "vision tower: name, folder, or a table")
    text: str | Mapping[str, Any] = option("", "text tower: name, folder, or a table")
    freeze_vision: bool = option(False, "keep the vision trunk as it is; its features are cached")
    freeze_layers: int = option(0, "lowest layers of the vision trunk to freeze, with embeddings")
    freeze_embeddings: bool = option(False, "freeze the text tower's word vectors")
    gradient_checkpointing: bool = option(False, "trunks recompute activations: less memory")
    image_size: int = option(224, "side of a picture, pixels")
    patch_grid: int = option(7, "rows and columns that patches are pooled to")
    neck_layers: int = option(2, "transformer layers on the vision trunk")
    neck_heads: int = option(3, "attention heads of these")
    neck_positions: bool = option(False, "position embeddings in the neck")
    own_word_boost: bool = option(True, "a learned boost of a text's own words")
    max_text_length: int = option(40, "tokens kept of a text")
    dense_size: int = option(256, "dimensions of the dense control")

    @property
    def pretrained(self) -> dict[str, str]:
        """Name or folder of each tower, ``vision`` and ``text``, that starts from weights."""
        towers = {"vision": self.vision, "text": self.text}
        names = {k: t if isinstance(t, str) else t.get("name", "") for k, t in towers.items()}
        return {k: str(name) for k, name in names.items() if name}


@dataclass(frozen=True)
class Words:
    """Vocabulary selection."""

    min_count: int = option(1, "occurrences in the captions that a word needs")
    stop_words: bool = option(False, "keep stop words too")


@dataclass(frozen=True)
class Stage:
    """Optimisation and loss weights of one stage."""

    epochs: int = option(1, "passes over the training pictures")
    steps: int = option(0, "of the optimiser, instead of epochs; 0 counts epochs")
    batch_size: int = option(256, "pairs per step, of all processes together")
    captions_together: int = option(1, "captions of a picture in a batch; it is encoded once")
    micro_batch: int = option(0, "rows that a process encodes at a time; 0 takes all of its share")
    texts_per_batch: int = option(0, "extra captions without pictures per step")
    masked_rows: int = option(0, "paired captions that are masked as well; 0 takes all")
    lr: float = option(5e-5, "learning rate of pretrained trunks")
    head_lr: float = option(5e-4, "learning rate of all that starts from random weights")
    weight_decay: float = option(0.01, "of matrices")
    warmup: float = option(0.1, "share of all steps")
    last_rate: float = option(0.0, "share of the learning rates that is left at the end")
    clip: float = option(1.0, "largest gradient norm")
    temperature: float = option(0.05, "of contrast")
    dropout: float = option(0.0, "of the text tower and the neck")
    kept_patches: float = option(1.0, "share of the patches that a step looks at")
    encoder_mask: float = option(0.3, "share of a caption's words that its encoder must guess")
    decoder_mask: float = option(0.5, "share of a caption's words that the decoder must guess")
    looks: int = option(0, "views whose mean is a picture's momentum key; 0 takes the one drawn")
    queue_size: int = option(0, "items of earlier batches that contrast compares with")
    momentum: float = option(0.99, "of the momentum encoders")
    save_every: int = option(200, "steps between checkpoints")
    max_bad_steps: int = option(5, "skipped steps in a row (loss or gradient not finite) allowed")
    weights: Mapping[str, float] = option({}, "weight of a loss; 0 leaves it out")


@dataclass(frozen=True)
class Sparsity:
    """Target numbers of terms after stage 2; the weights of its regularisers follow."""

    target_terms: int = option(0, "of a picture; 0 keeps stage2.weights as they are")
    text_terms: int = option(0, "of a text; 0 takes the picture's target")


@dataclass(frozen=True)
class Finetune(Stage):
    """Stage 2 once more."""

    image_size: int = option(0, "side of a picture, pixels; 0 keeps model.image_size")


@dataclass(frozen=True)
class Heads(Stage):
    """The dense branch (`lexlip.models.dense_branch`): its heads, and what their training needs."""

    token_size: int = option(256, "dimensions of FILIP's tokens; 0 for no token head")
    token_count: int = option(0, "tokens that patches are reduced to; 0 keeps all patches")
    gaussian_size: int = option(256, "dimensions of the Gaussians; 0 for no Gaussian head")
    layers: int = option(2, "private transformer layers on each side")
    freeze_towers: bool = option(True, "keep the towers bit-identical, and so the words")
    token_temperature: float = option(0.07, "at the start; it is learned")
    kept_words: float = option(1.0, "share of a text's words that a step looks at")
    samples: int = option(7, "of each Gaussian, for the losses of PCME")
    mixed: float = option(0.25, "share of the pictures that PCME++ mixes with others")
    label_smoothing: float = option(1e-4, "of PCME++")
    naaf_rows: int = option(48, "pairs of the batch that NAAF's loss compares; 0 takes all")
    naaf_alpha: float = option(
        2.0, "cost of a missed absent word; that of a missed present one is 1"
    )


@dataclass(frozen=True)
class Settings:
    """One run, from data to dense control."""

    name: str = option("run", "of the run")
    seed: int = option(0, "of all that is random")
    precision: str = option("auto", "bf16, no (float32), or auto: bf16 where it is fast")
    processes: int = option(0, "that must train together; 0 takes the launcher's number")
    patience: float = option(600.0, "seconds that processes wait for each other in a step")
    tracker: str = option("", "tensorboard, wandb, ...: what accelerate knows and is installed")
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
    """Read the settings of a job with additional tables or keys."""
    table = toml.read(path, overrides, kind)
    for other in OTHERS:
        if other not in kind.__dataclass_fields__:
            table.pop(other, None)
    return toml.build(kind, table, "")
