"""BM25 over human captions: picture search when somebody has described every picture.

It never sees a picture. A picture's document is all its captions but one; the held-out caption is
the query. So it answers a fifth of the usual queries, and the benchmark counts it over those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from eval.bench.systems import DEPTH, Gallery, System, best, check_gallery, search_all
from eval.metrics import Run
from lexlip.errors import LexLIPError
from lexlip.measure import bm25

# The 33 words that Lucene's English analysis leaves out. With `lexlip.lexicon.STOP_WORDS`, a longer
# list, the published figures would differ: 52.5 % instead of 52.3 % R@1 on Flickr8k dev.
LUCENE_STOP_WORDS = frozenset(
    """a an and are as at be but by for if in into is it no not of on or such that the their then
    there these they this to was will with""".split()
)


class BM25System(System):
    """BM25 (Lucene's formula) with the usual settings of short-passage retrieval.

    Parameters
    ----------
    k1, b : float
        Term saturation and length normalisation.
    held_out : int
        Number of the caption that is the query and not indexed; the last one of a picture with
        fewer captions.
    """

    def __init__(self, k1: float = 0.9, b: float = 0.4, held_out: int = 4) -> None:
        self.name = "bm25 captions"
        self.k1, self.b, self.held_out = k1, b, held_out
        self.note = (
            f"reads human captions, no pictures: one caption (number {held_out}) is the query, the "
            f"others are the text; k1={k1} b={b}; counted over the held-out captions only"
        )

    def index(self, gallery: Gallery) -> None:
        """Index the joined captions of every picture, without the held-out one."""
        check_gallery(gallery)
        self._documents: dict[str, str] = {}
        self._asking: set[str] = set()
        for name, captions in sorted(zip(gallery.ids, gallery.captions, strict=True)):
            if not captions:
                raise LexLIPError(f"picture {name!r} has no captions: leave it out for BM25")
            held = min(self.held_out, len(captions) - 1)
            self._asking.add(f"{name}#{held}")
            self._documents[name] = " ".join(c for i, c in enumerate(captions) if i != held)
        self._pictures = _Scorer(self._documents, self.k1, self.b)
        self.bytes_per_image = self._pictures.index.bytes / len(gallery)
        self.terms_per_image = self._pictures.index.postings / len(gallery)

    def answers(self, query_ids: Iterable[str]) -> list[str]:
        """Return the held-out captions among the queries; the others are indexed."""
        return [query for query in query_ids if query in self._asking]

    def t2i(self, queries: Mapping[str, str], k: int = DEPTH) -> Run:
        """Rank pictures by the captions of other people."""
        texts = [tokens(text) for text in queries.values()]
        run, self.p50_ms = search_all(
            lambda i: self._pictures.search(texts[i], k), list(queries), f"{self.name}: t2i"
        )
        return run

    def i2t(self, image_ids: Sequence[str], captions: Mapping[str, str], k: int = DEPTH) -> Run:
        """Rank single captions by the indexed captions of a picture."""
        scorer = _Scorer(captions, self.k1, self.b)
        texts = [tokens(self._documents[name]) for name in image_ids]
        run, _ = search_all(
            lambda i: scorer.search(texts[i], k), list(image_ids), f"{self.name}: i2t"
        )
        return run


def tokens(text: str) -> list[str]:
    """Lower-case words without Lucene's English stop words.

    Examples
    --------
    >>> tokens("A dog is on the beach .")
    ['dog', 'beach']
    """
    return bm25.tokens(text, LUCENE_STOP_WORDS)


class _Scorer:
    """An index over texts; ids ascending, so that ties are in order of the id."""

    def __init__(self, texts: Mapping[str, str], k1: float, b: float) -> None:
        self.ids = sorted(texts)
        self.index = bm25.BM25([tokens(texts[name]) for name in self.ids], k1, b)

    def search(self, words: list[str], k: int) -> list[tuple[str, float]]:
        """Return the best k documents that share a word with the query."""
        ranking = best(self.index.scores(words), self.ids, k)
        return [(name, score) for name, score in ranking if score > 0]
