"""Hub study: what a constant a document is worth that lowers those which answer everything.

    python -m eval.studies.hubs --config flickr8k-tiny --run runs/flickr8k-tiny dense=runs/flickr8k-tiny/dense

The score of document x loses b_x = share * T * log mean_c exp(s(c, x) / T) over a bank of queries c
(an inverted softmax: Smith et al., ICLR 2017). The bank comes from the training split, which shares
no picture with the split that is measured. `share` and T are chosen by R@1 on one half of the
queries and measured on the other half, both ways round.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import typer
from scipy.sparse import vstack
from scipy.special import logsumexp

from eval.bench.systems import batches, load_model, require_folder
from eval.bench.task import Pooled, read_settings
from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.errors import LexLIPError
from lexlip.impacts import top_terms, unit_normalise
from lexlip.settings import option
from lexlip.storage.files import write_json

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.1)
KS = (1, 5, 10)


@dataclass(frozen=True)
class Settings(Pooled):
    """Settings of the study."""

    dense: str | None = option(None, "checkpoint folder of a dense dual encoder")
    max_terms: int = option(64, "terms of a picture, and of a caption where it is searched for")
    bank: int = option(1000, "training pictures whose captions, or which, are the bank")


def hits(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Whether a query finds anything right among its best 1, 5 and 10, bool [Q, 3]."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, : max(KS)]
    hit = np.take_along_axis(relevant, best, axis=1)
    return np.stack([hit[:, :k].any(1) for k in KS], axis=1)


def constants(bank: np.ndarray, temperature: float) -> np.ndarray:
    """T log mean_c exp(s / T) of each document, float [N], from scores of a bank [C, N].

    Examples
    --------
    >>> constants(np.array([[0.5, 0.1], [0.5, 0.1]]), 0.03).round(6).tolist()
    [0.5, 0.1]
    """
    return temperature * (logsumexp(bank / temperature, axis=0) - np.log(len(bank)))


def measure(scores: np.ndarray, bank: np.ndarray, relevant: np.ndarray) -> dict[str, Any]:
    """Recall as it is, and with constants that the other half of the queries chose.

    Parameters
    ----------
    scores : array [Q, N]
    bank : array [C, N]
        Scores of queries that have nothing to do with the documents.
    relevant : bool array [Q, N]
    """
    lowered = {t: constants(bank, t) for t in TEMPERATURES}
    found = {
        (share, t): hits(scores - share * lowered[t], relevant)
        for share in SHARES
        for t in (TEMPERATURES if share else TEMPERATURES[:1])
    }
    half = np.arange(len(scores)) // 5 % 2 == 0
    chosen, after = {}, np.zeros((len(scores), len(KS)), bool)
    for name, rows in (("first", half), ("second", ~half)):
        best = max(found, key=lambda key: found[key][~rows, 0].mean())
        chosen[name], after[rows] = list(best), found[best][rows]
    before = found[0.0, TEMPERATURES[0]]
    return {
        "before": _recall(before),
        "after": _recall(after),
        "chosen": chosen,
        "grid": {f"{share} {t}": _recall(found[share, t]) for share, t in found},
    }


def _recall(hit: np.ndarray) -> dict[str, float]:
    return {f"R@{k}": float(hit[:, i].mean()) for i, k in enumerate(KS)}


def _vectors(model: Any, pictures: Any, texts: list[str]) -> tuple[Any, Any]:
    """Rows of pictures and of texts, sparse or dense, each of length one."""
    seen = [
        model.encode_document([pictures.image(i) for i in rows])
        for rows in batches(len(pictures), 64, "pictures")
    ]
    said = model.encode_query(texts)
    if isinstance(said, np.ndarray):
        return np.concatenate(seen), said
    return unit_normalise(vstack(seen, format="csr")), unit_normalise(said)


def _scores(a: Any, b: Any) -> np.ndarray:
    product = a @ b.T
    return np.asarray(product if isinstance(product, np.ndarray) else product.toarray())


def study(model: Any, dev: Any, train: Any, max_terms: int) -> dict[str, Any]:
    """Both directions of a model."""
    texts = [c for captions in dev.captions for c in captions]
    owner = np.repeat(np.arange(len(dev)), [len(c) for c in dev.captions])
    relevant = owner[:, None] == np.arange(len(dev))
    asked = [c for captions in train.captions for c in captions]
    seen, said = _vectors(model, dev, texts)
    bank_seen, bank_said = _vectors(model, train, asked)
    sparse = not isinstance(said, np.ndarray)
    found: dict[str, Any] = {}
    pictures = unit_normalise(top_terms(seen, max_terms)) if sparse else seen
    found["t2i"] = measure(_scores(said, pictures), _scores(bank_said, pictures), relevant)
    for terms in (32, 64, 128) if sparse else (0,):
        captions = unit_normalise(top_terms(said, terms)) if sparse else said
        name = f"i2t, {terms} terms" if sparse else "i2t"
        scores = _scores(seen, captions)
        found[name] = measure(scores, _scores(bank_seen, captions), relevant.T)
        if sparse:
            found[name]["terms"] = captions.nnz / captions.shape[0]
    return found


def rows(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield "| model | direction | R@1 | R@5 | R@10 | with a constant | R@5 | R@10 |"
    yield "|---|---|---|---|---|---|---|---|"
    for model, directions in found.items():
        for name, one in directions.items():
            cells = (f"{100 * v:.1f}" for part in ("before", "after") for v in one[part].values())
            yield f"| {model} | {name} | {' | '.join(cells)} |"


def main(overrides: Overrides = None, config: Config = None, run: Run = None) -> None:
    """Measure what a constant a document brings in both directions."""
    settings = read_settings(Settings, config, overrides, run)
    if settings.model is None:
        raise LexLIPError("no checkpoint: give model=FOLDER or --run")
    source = replace(settings.collection, source=settings.data)
    dev, train = source.open(settings.split), source.open(source.train)
    train = train.select(range(min(settings.bank, len(train))))
    models = {"words": load_model(settings.model)}
    if settings.dense:
        from lexlip.models.dense_control import DenseDualEncoder

        models["dense"] = DenseDualEncoder.from_pretrained(require_folder(settings.dense)).eval()
    found = {name: study(m, dev, train, settings.max_terms) for name, m in models.items()}
    out = Path(settings.out) / "hubs.json"
    write_json(out, found)
    typer.echo("\n".join(rows(found)))
    typer.echo(f"\nwrote {out}")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
