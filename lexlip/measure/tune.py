"""Tuning: the best way to build and search an index within a budget, from measurements."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from lexlip.build.manifest import has_said
from lexlip.build.recipe import Recipe
from lexlip.data.roots import Sources
from lexlip.engines import Hit
from lexlip.errors import LexLIPError, check_count
from lexlip.impacts import quantise_query, query_terms
from lexlip.measure.curve import (
    DEFAULT_QUERY_TERMS,
    TIMED,
    Documents,
    K,
    Point,
    Qrels,
    Setting,
    agreement,
    curve,
    hits_of,
    median_ms,
    success,
)
from lexlip.rerank.rescore import rescore_hits

if TYPE_CHECKING:
    from lexlip.index import Index

_RESCORED = 100


@dataclass(frozen=True)
class Budget:
    """The most that one search, or one picture, may cost.

    Examples
    --------
    >>> Budget.parse("2ms"), Budget.parse("100 B")
    (Budget(most=2.0, unit='ms'), Budget(most=100.0, unit='B'))
    """

    most: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read milliseconds of a search, ``2ms``, or bytes of a picture, ``100B``.

        Raises
        ------
        LexLIPError
            For anything else.
        """
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|b)\s*", text.lower())
        if not found or not float(found[1]) > 0:
            raise LexLIPError(
                f"{text!r} is not a budget: give ms per search (2ms) or bytes per picture (100B)"
            )
        return cls(float(found[1]), {"ms": "ms", "b": "B"}[found[2]])

    def cost(self, point: Point) -> float:
        """Return the cost of a point in the budget's unit."""
        return point.ms if self.unit == "ms" else point.bytes


def _plain(setting: Setting) -> Setting:
    """Return the chosen settings, without the ones that are only shown."""
    return Setting(setting.max_terms, query_terms=setting.query_terms)


def choose(points: Sequence[Point], budget: Budget) -> Point:
    """Return the best point within a budget that `lexlip index` can build.

    The best has the highest sum of recalls where there are judgements, then the highest agreement;
    of equals the smaller, then the faster.

    Raises
    ------
    LexLIPError
        When nothing is within the budget; it names the cheapest there is.
    """
    possible = [p for p in points if p.setting == _plain(p.setting)]
    within = [point for point in possible if budget.cost(point) <= budget.most]
    if not within:
        least = min(possible, key=budget.cost)
        raise LexLIPError(
            f"nothing fits into {budget.most:g} {budget.unit}: the least is "
            f"{budget.cost(least):.3g} {budget.unit}, with {least.setting.max_terms} terms a "
            f"picture and {least.setting.query_terms} a query; give a larger --budget"
        )
    return max(within, key=lambda p: (sum(p.recall.values()), p.agreement, -p.bytes, -p.ms))


@dataclass(frozen=True)
class Tuned:
    """The result of `tune`: all points, the best within the budget, and commands that make it."""

    points: list[Point]
    best: Point | None
    commands: list[str]
    queries: str

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return asdict(self)


def tune(
    index: Index,
    budget: Budget | None = None,
    queries: Mapping[str, str] | None = None,
    qrels: Qrels | None = None,
    sample: int = 200,
) -> Tuned:
    """Measure an index and choose a setting; the index stays as it is.

    Reading the vectors back takes about 0.2 ms a picture from postings, 1 ms from Lucene; then
    the pictures are indexed some ten times, on the disk of temporary files.

    Parameters
    ----------
    index : Index
    budget : Budget, optional
        Without one nothing is chosen.
    queries : mapping of str to str, optional
        Texts by id. Without any, some documents of the index are the queries.
    qrels : mapping of str to set of str, optional
        Relevant ids by query.
    sample : int
        Number of documents to use as queries where none are given.

    Raises
    ------
    LexLIPError
        An index without words, queries without known words, judgements of other queries, or
        nothing within the budget.

    Examples
    --------
    >>> with Index.open("photos.lex") as index:                    # doctest: +SKIP
    ...     print(tune(index, Budget.parse("100B")).commands)
    ['lexlip index photos/ -o photos.lex --max-terms 24 ...']
    """
    sample = check_count("sample", sample)
    if has_said(index.manifest):
        raise LexLIPError(
            "tune measures words alone, and vectors or all words order this index: try "
            "--query-terms and --depth of lexlip search"
        )
    documents = Documents.of(index)
    if queries:
        names, vectors = list(queries), index.model.encode_query(list(queries.values()))
        said = f"{len(names)} queries given"
    else:
        rng = np.random.default_rng(0)
        size = len(documents.ids)
        rows = np.sort(rng.choice(size, min(sample, size), replace=False))
        names, vectors = [documents.ids[row] for row in rows], csr_array(documents.impacts[rows])
        said = f"{len(names)} documents of the index as queries (each finds itself)"
    if qrels is not None:
        qrels = {query: items for query, items in qrels.items() if query in set(names)}
        if not (queries and qrels):
            raise LexLIPError("no query is judged: give --queries with the ids of --qrels")
        said += f", {len(qrels)} of them judged"
    if not vectors.nnz:
        raise LexLIPError("no query has a word of the lexicon: give others")
    facts = index.manifest
    points = curve(facts["engine"], documents, facts["max_terms"], names, vectors, qrels)
    if index.side_stores.floats is not None:
        points.append(_rescored(index, names, vectors, qrels))
    best = choose(points, budget) if budget else None
    return Tuned(points, best, _commands(index, best.setting) if best else [], said)


def _rescored(index: Index, names: Sequence[str], queries: csr_array, qrels: Qrels | None) -> Point:
    """Measure the index itself with its best hits rescored, against itself without."""
    engine, floats, facts = index.engine, index.side_stores.floats, index.stats()
    rows = quantise_query(queries)
    asked = {
        name: (query_terms(rows, row), query_terms(queries, row))
        for row, name in enumerate(names)
        if rows.indptr[row] < rows.indptr[row + 1]
    }

    def search(query: tuple[dict[int, int], dict[int, int]]) -> list[Hit]:
        terms, exact = query
        hits = engine.search(terms, _RESCORED)
        return rescore_hits(hits, terms, exact, floats, facts["scale"], engine)[:K]

    whole = hits_of(lambda query: engine.search(query[0], K), asked)
    found = hits_of(search, asked)
    setting = Setting(facts["max_terms"], rescore=_RESCORED)
    return Point(
        setting,
        terms=facts["terms_per_image"],
        bytes=(facts["bytes"] + facts["float_bytes"]) / max(1, facts["documents"]),
        ms=median_ms({setting: (search, list(asked.values())[:TIMED])})[setting],
        agreement=agreement(found, whole),
        recall=success(found, qrels) if qrels else {},
    )


def _commands(index: Index, setting: Setting) -> list[str]:
    """Return commands to type: none where the index and the defaults are the setting."""
    facts, commands, folder = index.manifest, list[str](), shlex.quote(str(index.path))
    if setting.max_terms != facts["max_terms"]:
        words = ["lexlip", "index", *_places(index)]
        words += _options(replace(Recipe.of(facts), max_terms=setting.max_terms))
        commands.append(shlex.join([*words, "--replace"]))
    if setting.query_terms != DEFAULT_QUERY_TERMS:
        commands.append(f'lexlip search {folder} "..." --query-terms {setting.query_terms}')
    return commands


def _places(index: Index) -> list[str]:
    """Return what an index was made of, and its model, as arguments of ``lexlip index``."""
    sources = Sources.read(index.path, index.manifest)
    typed = index.manifest["source"]
    places = [root.path if Path(root.path).exists() else "SOURCE" for root in sources.roots]
    if Path(typed).exists() or not places:
        places[:1] = [typed if Path(typed).exists() else "SOURCE"]
    split = next((["--split", root.split] for root in sources.roots if root.split), [])
    exclude = [word for pattern in sources.exclude for word in ("--exclude", pattern)]
    made = ["-o", str(index.path), "-m", index.manifest["checkpoint"]]
    return [*places, *made, *split, *exclude]


def _options(recipe: Recipe) -> list[str]:
    """Return a recipe as options of ``lexlip index``, defaults left out."""
    words = []
    for name, value in recipe.facts().items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] if value else []
        elif name in ("engine", "max_terms") or value != getattr(Recipe, name):
            words += [option, str(value)]
    return words
