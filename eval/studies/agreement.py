"""Agreement: the same pictures and captions judged by lexlip, sentence-transformers and mteb.

    python -m eval.studies.agreement

Each caption has one right picture, its own. lexlip's own rows are the products of its float
vectors, and an index with whole numbers. sentence-transformers runs its
SparseInformationRetrievalEvaluator, and mteb a task of text to image, each on the same checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from eval.metrics import KS, Run, recall_at
from lexlip.cli.console import Job, Overrides
from lexlip.data.scenes import Scene, make_scenes
from lexlip.home.demo import SCENES, SEED, SIZE
from lexlip.index import Index
from lexlip.models import load
from lexlip.models.shipped import SHIPPED
from lexlip.sentence_transformers import mteb_model, sparse_encoder
from lexlip.settings import from_overrides, option, resolve

NDCG = "nDCG@10"


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    model: str = option("", "checkpoint; by default the one that the package ships")
    scenes: int = option(SCENES, "pictures that are drawn")
    seed: int = option(SEED, "that they are drawn with")


class Judged(NamedTuple):
    """What one library found.

    Attributes
    ----------
    metrics : dict of str to float
        R@1, R@5, R@10 and nDCG@10, fractions of 1.
    scores : float array [Q, D], optional
        Of all pairs.
    """

    metrics: dict[str, float]
    scores: NDArray[np.float32] | None = None


class Pairs:
    """Pictures with captions, and which belongs to which.

    Parameters
    ----------
    scenes : sequence of Scene
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.pictures = {scene.id: scene.draw(SIZE) for scene in scenes}
        self.captions = {f"{s.id}#{n}": c.text for s in scenes for n, c in enumerate(s.captions)}
        self.right = {query: {query.rpartition("#")[0]} for query in self.captions}


def ours(pairs: Pairs, run: Run) -> dict[str, float]:
    """Metrics of a run, by `eval.metrics` and ir_measures."""
    import ir_measures

    judged = {query: dict.fromkeys(items, 1) for query, items in pairs.right.items()}
    ranked = {q: {item: -float(at) for at, (item, _) in enumerate(row)} for q, row in run.items()}
    gain = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], judged, ranked)
    return {**recall_at(run, pairs.right), NDCG: float(next(iter(gain.values())))}


def of_products(model: Any, pairs: Pairs) -> Judged:
    """Rank by the model's own similarity, in floats."""
    asked = model.encode_query([*pairs.captions.values()])
    scores = model.similarity(asked, model.encode_document([*pairs.pictures.values()]))
    names, run = list(pairs.pictures), {}
    for query, row in zip(pairs.captions, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:10]
        run[query] = [(names[at], float(row[at])) for at in best]
    return Judged(ours(pairs, run), scores)


def of_index(model: Any, pairs: Pairs) -> Judged:
    """Rank by an index: whole numbers, as a user searches."""
    with (
        TemporaryDirectory() as folder,
        Index.create(Path(folder) / "x.lex", model, pairs.pictures, engine="postings") as index,
    ):
        run = {
            query: [(hit.id, hit.score) for hit in index.search(text, k=10)]
            for query, text in pairs.captions.items()
        }
    return Judged(ours(pairs, run))


def of_sentence_transformers(model: str, pairs: Pairs) -> Judged:
    """Let sentence-transformers' evaluator rank and judge."""
    from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator

    encoder = sparse_encoder(model)
    pictures: Any = pairs.pictures  # the library's own types know texts alone
    judge = SparseInformationRetrievalEvaluator(
        pairs.captions, pictures, pairs.right, precision_recall_at_k=list(KS), write_csv=False
    )
    found = judge(encoder)
    asked = encoder.encode_query([*pairs.captions.values()])
    scores = encoder.similarity(asked, encoder.encode_document([*pictures.values()]))
    metrics = {f"R@{k}": found[f"dot_recall@{k}"] for k in KS}
    return Judged({**metrics, NDCG: found["dot_ndcg@10"]}, scores.cpu().numpy())


def task_of(pairs: Pairs) -> Any:
    """Return pictures and captions as a task of mteb, in memory."""
    from datasets import Dataset, Image
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class ScenesT2IRetrieval(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="ScenesT2IRetrieval",
            description="Find the drawn picture of a caption.",
            reference="https://example.org",
            dataset={"path": "lexlip/scenes", "revision": "1"},
            type="Any2AnyRetrieval",
            category="t2i",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            date=("2026-01-01", "2026-01-02"),
            domains=["Constructed"],
            task_subtypes=["Image Text Retrieval"],
            license="apache-2.0",
            annotations_creators="derived",
            dialect=[],
            modalities=["text", "image"],
            sample_creation="created",
            bibtex_citation="",
        )

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            """Lay out what mteb reads of its own data sets."""
            pictures = Dataset.from_dict({
                "id": list(pairs.pictures), "image": list(pairs.pictures.values())
            })  # fmt: skip
            self.dataset = {"default": {"test": {
                "corpus": pictures.cast_column("image", Image()),
                "queries": Dataset.from_dict({
                    "id": list(pairs.captions), "text": list(pairs.captions.values())
                }),
                "relevant_docs": {
                    query: dict.fromkeys(items, 1) for query, items in pairs.right.items()
                },
                "top_ranked": None,
            }}}  # fmt: skip
            self.data_loaded = True

    return ScenesT2IRetrieval()


def of_mteb(model: str, pairs: Pairs) -> Judged:
    """Let mteb rank and judge."""
    import mteb

    task = task_of(pairs)
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        result = mteb.evaluate(
            mteb_model(model), task, encode_kwargs={"batch_size": 64, "show_progress_bar": False},
            cache=None, prediction_folder=folder, show_progress_bar=False,
        )  # fmt: skip
        (file,) = Path(folder).rglob("*predictions.json")
        said: Mapping[str, Any] = json.loads(file.read_text())["default"]["test"]
    (found,) = result.task_results[0].scores["test"]
    scores = np.array([[said[q].get(p, 0.0) for p in pairs.pictures] for q in pairs.captions])
    metrics = {f"R@{k}": found[f"recall_at_{k}"] for k in KS}
    return Judged({**metrics, NDCG: found["ndcg_at_10"]}, scores.astype(np.float32))


def judged(name: str, pairs: Pairs) -> dict[str, Judged]:
    """Return what each library finds with a checkpoint, by name of the library."""
    model = load(name)
    return {
        "lexlip, products": of_products(model, pairs),
        "lexlip, index": of_index(model, pairs),
        "sentence-transformers": of_sentence_transformers(name, pairs),
        "mteb": of_mteb(name, pairs),
    }


def main(overrides: Overrides = None) -> None:
    """Print a table: metrics in percent, and the largest difference of a score from lexlip's."""
    settings = from_overrides(Settings, overrides or [])
    pairs = Pairs(make_scenes(settings.scenes, settings.seed))
    found = judged(str(resolve(settings.model)) if settings.model else str(SHIPPED), pairs)
    own = found["lexlip, products"].scores
    for name, one in found.items():
        row = "  ".join(f"{key} {100 * value:.3f}" for key, value in one.metrics.items())
        apart = (
            "" if one.scores is None or own is None else f"  {np.abs(one.scores - own).max():.1e}"
        )
        typer.echo(f"{name:>21}  {row}{apart}")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
