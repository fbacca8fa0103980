"""Systems of the benchmark: one small base class, and their shared helpers.

A system indexes the gallery once, then answers in both directions. All rankings are by score
descending and id ascending, so that runs of different systems can be compared.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tqdm import tqdm

from eval.metrics import Run
from lexlip.data.crops import with_crops
from lexlip.errors import LexLIPError
from lexlip.lexicon import split_words

if TYPE_CHECKING:
    from PIL.Image import Image

    from lexlip.models.speaker import Speaker

DEPTH = 100  # length of each ranking: ten times what the table needs
WARM_UP = 100  # searches before the clock starts: a JVM compiles hot code


class Gallery(Protocol):
    """The pictures that are searched; `lexlip.data.collection.Collection` is one."""

    @property
    def ids(self) -> list[str]:
        """Picture ids, all different."""

    @property
    def captions(self) -> list[list[str]]:
        """The captions of every picture, in the order of ``ids``."""

    def image(self, i: int) -> Image:
        """Picture number i."""

    def __len__(self) -> int:
        """Return the number of pictures."""


class System(ABC):
    """One row of the table.

    Attributes
    ----------
    name, note : str
        The row's name, and what the system reads or was trained on.
    checkpoint, fingerprint : str or None
        Where the weights came from.
    bytes_per_image, terms_per_image : float or None
        Size of the index, known after `index`; None for terms of a dense system.
    p50_ms : float or None
        Median time of one first-stage search in `t2i`, query encoding excluded.
    encode_ms : float or None
        Median time to turn one text query into its vector.
    """

    name: str = "system"
    note: str = ""
    checkpoint: str | None = None
    fingerprint: str | None = None
    bytes_per_image: float | None = None
    terms_per_image: float | None = None
    p50_ms: float | None = None
    encode_ms: float | None = None

    @abstractmethod
    def index(self, gallery: Gallery) -> None:
        """Index the pictures; called once, before any query."""

    @abstractmethod
    def t2i(self, queries: Mapping[str, str], k: int = DEPTH) -> Run:
        """Rank pictures for texts (query id -> text)."""

    @abstractmethod
    def i2t(self, image_ids: Sequence[str], captions: Mapping[str, str], k: int = DEPTH) -> Run:
        """Rank captions (caption id -> text) for pictures of the gallery."""

    def answers(self, query_ids: Iterable[str]) -> list[str]:
        """Return the text queries that this system can answer; by default all."""
        return list(query_ids)

    def words(self, k: int | None = None) -> list[list[tuple[str, float]]] | None:
        """Return each picture's weighted words, heaviest first, or None without words."""
        return None

    def tokenize(self, text: str) -> list[str]:
        """Split a caption into the units of `words`."""
        return split_words(text)

    def vectors(self, ids: Sequence[str], queries: Mapping[str, str]) -> tuple[Any, Any] | None:
        """Return the vectors of pictures and texts, a row each, or None where there are none."""
        return None

    def close(self) -> None:  # noqa: B027 - most systems hold nothing
        """Remove temporary files."""


def check_gallery(gallery: Gallery) -> None:
    """Refuse an empty gallery and one that names a picture twice (copies distort every recall).

    Raises
    ------
    LexLIPError
        With the repeated id.
    """
    if len(gallery) == 0:
        raise LexLIPError("the gallery is empty: choose another split or pool")
    seen: set[str] = set()
    for name in gallery.ids:
        if name in seen:
            raise LexLIPError(f"picture {name!r} is in the gallery twice: keep one of them")
        seen.add(name)


def best(scores: np.ndarray, ids: Sequence[str], k: int) -> list[tuple[str, float]]:
    """Return the k highest scores with their ids, equal ones in order of the id.

    Parameters
    ----------
    scores : np.ndarray
        [n], one score for each id.
    ids : Sequence[str]
        [n], ascending: then a stable sort is the tie rule.
    k : int
        Length of the ranking, at most the number of items.

    Examples
    --------
    >>> best(np.array([1.0, 3.0, 3.0]), ["a", "b", "c"], 2)
    [('b', 3.0), ('c', 3.0)]
    """
    if k < len(scores):
        # Everything at or above the k-th score: with ties that may be more than k.
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= kth)
    else:
        candidates = np.arange(len(scores))
    order = candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
    return [(ids[i], float(scores[i])) for i in order]


def search_all(
    search: Callable[[int], list[tuple[str, float]]], query_ids: Sequence[str], what: str
) -> tuple[Run, float]:
    """Search query by query; return the run and the median milliseconds of one search.

    Parameters
    ----------
    search : Callable[[int], list[tuple[str, float]]]
        Answers query number i; timed, so it does nothing else.
    query_ids : Sequence[str]
        Names of the queries.
    what : str
        Label of the progress bar.
    """
    for i in range(min(WARM_UP, len(query_ids))):
        search(i)
    run: Run = {}
    seconds = []
    for i, query in enumerate(tqdm(query_ids, desc=what, leave=False, disable=None)):
        start = time.perf_counter()
        run[query] = search(i)
        seconds.append(time.perf_counter() - start)
    return run, 1000.0 * float(np.median(seconds)) if seconds else 0.0


def median_ms(call: Callable[[str], object], texts: Sequence[str], sample: int = 30) -> float:
    """Median milliseconds of one call, over the first few different texts, after a warm-up."""
    chosen = list(dict.fromkeys(texts))[: sample + 1]
    seconds = []
    for text in chosen:
        start = time.perf_counter()
        call(text)
        seconds.append(time.perf_counter() - start)
    return 1000.0 * float(np.median(seconds[1:] or seconds)) if seconds else 0.0


def encoded_pictures(
    encode: Callable[[Sequence[Image]], Any], gallery: Gallery, size: int, crops: int, what: str
) -> list[Any]:
    """Encode all pictures of a gallery, `size` at a time, whole and in `crops` corners."""
    return [
        with_crops(encode, [gallery.image(i) for i in part], crops)
        for part in batches(len(gallery), size, what)
    ]


def looked_at(crops: int) -> str:
    """Note on pictures that are encoded more than once.

    Examples
    --------
    >>> looked_at(0), looked_at(4)
    ('', ', whole and 4 corners')
    """
    return f", whole and {crops} corners" if crops else ""


def batches(total: int, size: int, what: str) -> Iterable[range]:
    """Ranges of at most ``size`` that cover ``range(total)``, with a progress bar."""
    for start in tqdm(range(0, total, size), desc=what, leave=False, disable=None):
        yield range(start, min(start + size, total))


def require_folder(folder: str | Path) -> Path:
    """Return a checkpoint folder.

    Raises
    ------
    LexLIPError
        It has no ``config.json``.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise LexLIPError(f"no checkpoint in {path}: give the folder that training wrote")
    return path


def load_model(folder: str | None) -> Speaker:
    """Load the checkpoint that a study measures.

    Raises
    ------
    LexLIPError
        None was given, or the folder holds none.
    """
    if not folder:
        raise LexLIPError("nothing to measure: give model=CHECKPOINT, or --run where there is one")
    from lexlip.models import load

    return load(require_folder(folder))
