"""Queries without a network: fit a table of tokens (`lexlip.models.query_table`) to a text encoder.

python -m pretrain.fit_query_table --config flickr8k-tiny --run runs/x queries.terms=16

1. Ridge regression, in closed form, from the tokens that stand in a training caption to the unit
   vector that the text encoder makes of it. Rare tokens stay near asking for themselves.
2. Frequent pairs of adjacent tokens take the mean of what is left, shrunk by their number.
3. The heaviest terms of each row are kept, and learn to rank: queries against the vectors of the
   training pictures, which are fixed, by the scores of the text encoder (distillation, Hinton et
   al., 2015) and by which picture the caption is of (contrast).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
import typer
from scipy.linalg import solve
from scipy.sparse import csr_array, diags_array, vstack
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize, softmax
from tqdm import tqdm

from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.data.collection import Collection
from lexlip.errors import LexLIPError
from lexlip.impacts import top_terms, unit_normalise
from lexlip.lexicon import Lexicon
from lexlip.models import load
from lexlip.models.lexlip import LexLIP
from lexlip.models.query_table import QueryTable, features_of
from lexlip.settings import option
from pretrain import settings
from pretrain.loop import Workbench
from pretrain.validate import plain_features, recall, relevance

TERMS = 64
"""Terms that pictures keep here, as in an index."""


@dataclass(frozen=True)
class Fit:
    """Settings of the fit."""

    terms: int = option(32, "terms kept of each row")
    # On Flickr8k dev pairs gained nothing: R@1/10 26.9/66.9 with 4,448 of them (16 terms a row),
    # 27.4/67.2 without (32 terms).
    pair_count: int = option(0, "captions that a pair must occur in to get a row; 0 for no pairs")
    ridge: float = option(2.0, "strength of the prior 'a token asks for itself', in captions")
    epochs: int = option(4, "passes of learning to rank; 0 keeps what regression says")
    batch_size: int = option(256, "captions per step")
    pictures: int = option(1024, "pictures that a batch is ranked against")
    lr: float = option(5e-3, "learning rate")
    temperature: float = option(0.05, "of both losses")
    # Without it R@1 was 25.6.
    contrast: float = option(1.0, "weight of contrast; that of distillation is 1")
    seed: int = option(0, "of the batches")


@dataclass(frozen=True)
class Settings(settings.Settings):
    """A run's settings, and the table ``[queries]``."""

    queries: Fit = field(default_factory=Fit)


def frequent_pairs(texts: Sequence[np.ndarray], size: int, count: int) -> np.ndarray:
    """Return pairs of adjacent tokens in at least `count` texts, as `QueryTable` numbers them."""
    if not count:
        return np.zeros(0, dtype=np.int64)
    found = Counter(chain.from_iterable(set((t[:-1] * size + t[1:]).tolist()) for t in texts))
    return np.array(sorted(pair for pair, n in found.items() if n >= count), dtype=np.int64)


def bags(texts: Sequence[np.ndarray], size: int, pairs: np.ndarray) -> csr_array:
    """Return which tokens and pairs stand in which text, float32 [N, V + P]."""
    rows = [features_of(ids, size, pairs) for ids in texts]
    ends = np.cumsum([0, *map(len, rows)])
    indices = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    data = np.ones(len(indices), dtype=np.float32)
    return csr_array((data, indices, ends), shape=(len(texts), size + len(pairs)))


def regress(bag: csr_array, target: csr_array, lexicon: Lexicon, ridge: float) -> csr_array:
    """Fit rows so that their sums come near `target`; steps 1 and 2 of this module.

    Parameters
    ----------
    bag : csr_array [N, V + P]
        As `bags` gives it.
    target : csr_array [N, Va]
        Unit vectors of the texts.
    lexicon : Lexicon
        Of V tokens and Va terms.
    ridge : float
        Texts' worth of faith in the prior: a token asks for itself, a pair for nothing.

    Returns
    -------
    csr_array [V + P, Va]
        float32, full rows.
    """
    size = len(lexicon.tokens)
    tokens, pairs = bag[:, :size], bag[:, size:]
    identity = csr_array(
        (np.ones(len(lexicon), np.float32), (lexicon.ids, np.arange(len(lexicon)))),
        shape=(size, len(lexicon)),
    )
    own = tokens @ identity  # a text's own words
    weight = float(target.multiply(own).sum() / max(1.0, own.sum()))
    used = np.unique(tokens.indices)
    seen = csr_array(tokens[:, used])
    gram = (seen.T @ seen).toarray() + ridge * np.eye(len(used), dtype=np.float32)
    rest = csr_array(target - weight * own)
    change = solve(gram, (seen.T @ rest).toarray(), assume_a="pos", overwrite_a=True)
    place = csr_array(
        (np.ones(len(used), np.float32), (used, np.arange(len(used)))), shape=(size, len(used))
    )
    rows = csr_array(weight * identity + place @ csr_array(change.astype(np.float32)))
    if not pairs.shape[1]:
        return rows
    left = rest - seen @ csr_array(change.astype(np.float32))
    shrunk = diags_array(1 / (pairs.sum(0) + 4 * ridge)).astype(np.float32)
    return csr_array(vstack([rows, shrunk @ (pairs.T @ left)], format="csr"))


def heaviest(rows: csr_array, terms: int) -> csr_array:
    """Keep the entries of each row that are largest in size, of either sign."""
    rows = csr_array(rows, copy=True)
    sizes = csr_array((np.abs(rows.data), rows.indices, rows.indptr), shape=rows.shape)
    kept = top_terms(sizes, terms)
    kept.data = np.ones_like(kept.data)
    return csr_array(rows.multiply(kept))


class Ranker:
    """The table as something that learns; step 3 of this module.

    Parameters
    ----------
    rows : csr_array [V + P, Va]
        Which entries there are, and their first values.
    """

    def __init__(self, rows: csr_array) -> None:
        self.rows = csr_array(rows)
        self.values = torch.tensor(self.rows.data, dtype=torch.float32, requires_grad=True)

    def __call__(self, bag: csr_array) -> Tensor:
        """Return the queries of some texts, float32 [B, Va], not negative."""
        starts, counts = self.rows.indptr[bag.indices], np.diff(self.rows.indptr)[bag.indices]
        text = np.repeat(np.arange(bag.shape[0]), np.diff(bag.indptr))
        ends = np.cumsum(counts)
        entry = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            starts - (ends - counts), counts
        )
        place = np.repeat(text, counts) * self.rows.shape[1] + self.rows.indices[entry]
        total = torch.zeros(bag.shape[0] * self.rows.shape[1])
        chosen = self.values[torch.from_numpy(entry)]
        total = total.index_add(0, torch.from_numpy(place.astype(np.int64)), chosen)
        return torch.relu(total.view(bag.shape[0], -1))

    def learned(self) -> csr_array:
        """Return the rows as they are now."""
        data = self.values.detach().numpy().copy()
        return csr_array((data, self.rows.indices, self.rows.indptr), shape=self.rows.shape)


def learn_to_rank(
    rows: csr_array, bag: csr_array, target: csr_array, owner: np.ndarray, pictures: csr_array,
    fit: Fit,
) -> csr_array:  # fmt: skip
    """Train the entries of `rows` to rank pictures as the text encoder does; see `Fit`.

    Parameters
    ----------
    rows : csr_array [V + P, Va]
    bag : csr_array [N, V + P]
    target : csr_array [N, Va]
        Unit vectors of the texts.
    owner : int64 array [N]
        Picture of each text.
    pictures : csr_array [D, Va]
        Unit vectors of the pictures.
    """
    ranker, rng = Ranker(rows), np.random.default_rng(fit.seed)
    optimizer = torch.optim.Adam([ranker.values], lr=fit.lr)
    steps = fit.epochs * (len(owner) // fit.batch_size)
    for step in tqdm(range(steps), desc="queries", unit="step", leave=False):
        for group in optimizer.param_groups:
            group["lr"] = fit.lr * (1 - step / steps)
        texts = rng.choice(len(owner), fit.batch_size, replace=False)
        others = rng.choice(pictures.shape[0], min(fit.pictures, pictures.shape[0]), replace=False)
        ranked, right = np.unique(np.concatenate([owner[texts], others])), owner[texts]
        documents = torch.from_numpy(pictures[ranked].toarray())
        taught = torch.from_numpy((target[texts] @ pictures[ranked].T).toarray())
        scores = normalize(ranker(bag[texts]), dim=1) @ documents.T / fit.temperature
        teacher = softmax(taught / fit.temperature, dim=1)
        loss = -(teacher * log_softmax(scores, dim=1)).sum(1).mean()
        loss = loss + fit.contrast * cross_entropy(
            scores, torch.from_numpy(np.searchsorted(ranked, right))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ranker.learned()


def fit_table(
    model: LexLIP,
    texts: Sequence[str],
    owner: np.ndarray,
    pictures: csr_array,
    fit: Fit,
) -> QueryTable:
    """Fit a table to the text encoder of a model.

    Parameters
    ----------
    model : LexLIP
    texts : sequence of str
        N training captions.
    owner : int64 array [N]
        Picture of each.
    pictures : csr_array [D, V]
        Weights of the training pictures, as the model gives them.
    fit : Fit
    """
    lexicon, length = model.lexicon, model.config.max_text_length
    tokenizer = plain_tokenizer(model)
    special = np.array(model.tokenizer.all_special_ids)
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ids = [np.array(e.ids[: length - 2], dtype=np.int64) for e in encoded]
    # Apart from a special token no two tokens are a pair either.
    spoken = [part for row in ids for part in _between(row, special)]
    pairs = frequent_pairs(spoken, len(lexicon.tokens), fit.pair_count)
    bag = bags(ids, len(lexicon.tokens), pairs)
    bag = csr_array(bag @ diags_array(~np.isin(np.arange(bag.shape[1]), special) * 1.0))
    bag.eliminate_zeros()
    target = _unit(model.encode_text(texts), lexicon)
    rows = heaviest(regress(bag.astype(np.float32), target, lexicon, fit.ridge), fit.terms)
    if fit.epochs:
        documents = _unit(top_terms(pictures, TERMS), lexicon)
        rows = learn_to_rank(rows, bag, target, owner, documents, fit)
    rows.eliminate_zeros()
    return QueryTable(tokenizer, lexicon, rows, pairs, model.fingerprint, length, model.rounded)


def plain_tokenizer(model: LexLIP) -> Any:
    """Return a copy of the model's tokenizer that neither cuts nor pads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _between(ids: np.ndarray, special: np.ndarray) -> list[np.ndarray]:
    """Cut token ids at special ones, which are left out."""
    parts = np.split(ids, np.flatnonzero(np.isin(ids, special)))
    return [part[~np.isin(part, special)] for part in parts]


def _unit(weights: csr_array, lexicon: Lexicon) -> csr_array:
    """Unit rows with a column for each term of the allow-list, float32."""
    return unit_normalise(csr_array(weights[:, lexicon.ids])).astype(np.float32)


def captions_of(collection: Collection) -> tuple[list[str], np.ndarray]:
    """Return all captions, and the number of the picture of each."""
    owner = np.repeat(np.arange(len(collection)), [len(c) for c in collection.captions])
    return [c for captions in collection.captions for c in captions], owner


def weights_of(model: LexLIP, bench: Workbench, collection: Collection) -> csr_array:
    """Encode the pictures of a collection, [D, V], from the cache of training."""
    pairs = bench.pairs(model, collection, collection is bench.train)
    return model.encode_features(plain_features(model, pairs))


def main(overrides: Overrides = None, config: Config = "scenes", run: Run = "runs/scenes") -> None:
    """Fit a table to RUN/stage2, leave it there in ``queries``, and measure it on dev."""
    assert config is not None
    fit = settings.load_as(Settings, config, overrides or []).queries
    bench = Workbench.open(config, overrides or [])
    model = load(f"{run}/stage2")
    if not isinstance(model, LexLIP):
        raise LexLIPError(
            f"{run}/stage2 is a {type(model).__name__}: only the texts of a LexLIP fit into a table"
        )
    texts, owner = captions_of(bench.train)
    table = fit_table(model, texts, owner, weights_of(model, bench, bench.train), fit)
    shown = unit_normalise(top_terms(weights_of(model, bench, bench.dev), TERMS))
    asked, owner = captions_of(bench.dev)
    judged = relevance(owner, bench.dev.ids, bench.dev.qrels)
    report = {}
    for name, speaker in (("network", model), ("table", table)):
        scores = (unit_normalise(speaker.encode_query(asked)) @ shown.T).toarray()
        report[name] = recall(scores, judged)
        figures = " ".join(f"{k} {100 * v:.1f}" for k, v in report[name].items())
        typer.echo(f"dev, queries by {name}: {figures}")
    table.save_pretrained(f"{run}/stage2", fit=asdict(fit), dev=report, entries=table.rows.nnz)
    typer.echo(f"{run}/stage2/queries: {len(table.pairs)} pairs, {table.rows.nnz} entries")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
