"""A bank of typical queries, which levels documents (`lexlip.models.levels`).

    python -m pretrain.fit_levels --config flickr8k-tiny --run runs/flickr8k-tiny

Training pictures and captions, drawn at random, are the bank; documents of the split that is
searched later are not among them. Recall on dev is measured before and after.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import typer
from scipy.sparse import csr_array

from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.errors import LexLIPError
from lexlip.impacts import document_rows, unit_normalise
from lexlip.models.levels import Levels
from lexlip.models.lexlip import LexLIP
from lexlip.settings import option
from pretrain import settings
from pretrain.loop import Workbench
from pretrain.progress import rounded
from pretrain.validate import TERMS, plain_features, recall, relevance


@dataclass(frozen=True)
class Fit:
    """Size of the bank, and how it is used."""

    of: str = option("stage2", "checkpoint of the run: stage2, finetune or heads")
    pictures: int = option(2000, "training pictures in the bank")
    texts: int = option(10000, "training captions in the bank")
    temperature: float = option(0.03, "of the softmax over the bank")
    power: float = option(0.4, "0 leaves all lengths at one")


@dataclass(frozen=True)
class Settings(settings.Settings):
    """A run's settings, and those of the bank."""

    levels: Fit = field(default_factory=Fit)


def bank_of_training(model: LexLIP, bench: Workbench, fit: Fit) -> dict[str, csr_array]:
    """Encode some training pictures, [C, V], and training captions, [C, V]."""
    rng = np.random.default_rng(bench.settings.seed)
    pairs, captions = bench.pairs(model, bench.train, True), bench.texts
    seen = np.sort(rng.permutation(len(bench.train))[: fit.pictures])
    said = np.sort(rng.permutation(len(captions))[: fit.texts])
    return {
        "pictures": model.encode_features(plain_features(model, pairs)[seen]),
        "texts": model.encode_text([captions[i] for i in said]),
    }


def measure(model: LexLIP, bench: Workbench, levels: Levels) -> dict[str, dict[str, float]]:
    """Recall on dev in both directions, with lengths of one and with those of the bank."""
    dev = bench.pairs(model, bench.dev, False)
    pictures = model.encode_features(plain_features(model, dev))
    texts = model.encode_text([c for captions in bench.dev.captions for c in captions])
    judged = relevance(dev.image, bench.dev.ids, bench.dev.qrels)
    found: dict[str, dict[str, float]] = {}
    for name, asked, documents, right in (
        ("t2i", texts, pictures, judged),
        ("i2t", pictures, texts, csr_array(judged.T)),
    ):
        queries: Any = unit_normalise(asked)
        shown = levels.levelled(documents, texts=name == "i2t")
        for key, rows in (
            ("before", document_rows(documents, TERMS)),
            ("after", document_rows(shown, TERMS, "kept")),
        ):
            scores = recall((queries @ rows.T).toarray(), right)
            found.setdefault(key, {}).update({f"{name}_{k}": v for k, v in scores.items()})
    return found


def main(overrides: Overrides = None, config: Config = "scenes", run: Run = "runs/scenes") -> None:
    """Fit a bank to RUN/stage2, leave it there in ``levels``, and measure it on dev."""
    assert config is not None
    fit = settings.load_as(Settings, config, overrides or []).levels
    bench = Workbench.open(config, overrides or [])
    model = LexLIP.from_pretrained(f"{run}/{fit.of}")
    if min(fit.pictures, fit.texts) < 1 or fit.temperature <= 0:
        raise LexLIPError("a bank needs pictures, texts and a temperature above 0")
    bank = bank_of_training(model, bench, fit)
    sizes = {f"bank_{kind}": rows.shape[0] for kind, rows in bank.items()}
    levels = Levels.fit(bank, model.fingerprint, fit.temperature, fit.power, model.rounded, **sizes)
    found = measure(model, bench, levels)
    for key, row in found.items():
        typer.echo(f"{key}: {json.dumps(rounded(row))}")
    levels.save_pretrained(f"{run}/{fit.of}")
    typer.echo(f"wrote {run}/{fit.of}/levels")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
