"""Queries without a neural network: a learned table of what each token of a text asks for.

Inference-free learned sparse retrieval: the words that a text encoder would make of a text are
approximated by a sum over its tokens, so that a text costs its tokenisation and some additions::

    query(text) = max(0, sum of the rows of its distinct tokens and adjacent pairs of tokens)

A row holds a few terms with weights of either sign: the token itself and what it implies ("puppy":
dog, small), or what a pair means beyond its tokens ("hot dog": not hot, not dog). Special tokens
have no row, so an empty text asks for nothing. ``python -m pretrain.fit_query_table`` fits a table.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from lexlip.data.given import as_texts
from lexlip.errors import LexLIPError, check_count
from lexlip.impacts import MAX_QUERY_WEIGHT
from lexlip.lexicon import Lexicon
from lexlip.models.bounds import check_size
from lexlip.models.digests import FILES, check_digests, digests
from lexlip.models.localisation.base import ReadText
from lexlip.models.localisation.results import Raised, TextProvenance
from lexlip.models.localisation.seen import checked_terms
from lexlip.models.speaker import SpeakerMixin
from lexlip.models.typed import as_meant
from lexlip.models.windows import spans
from lexlip.models.word_tokenizer import WordTokenizer
from lexlip.storage.files import MANIFEST, atomic_directory, read_json, write_json

FORMAT = "lexlip-query-table/1"
FOLDER = "queries"
"""Folder of a table in the checkpoint whose text encoder it replaces."""


def is_table(checkpoint: str | os.PathLike[str]) -> bool:
    """Say whether a checkpoint has a query table."""
    return (Path(checkpoint) / FOLDER / MANIFEST).is_file()


class QueryTable(SpeakerMixin):
    """A `lexlip.models.speaker.Speaker` of texts, for an index of its model's pictures.

    It replaces the model's text encoder; pictures need the model itself.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        The model's, without truncation or padding.
    lexicon : Lexicon
        The model's.
    rows : csr_array [V + P, Va]
        What each vocabulary id asks for, then what each pair does; a column for each term of the
        allow-list.
    pairs : int64 array [P]
        Pairs of adjacent tokens as ``first * V + second``, ascending.
    model : str
        Fingerprint of the model.
    max_length : int
        Longest window of a text in tokens, special tokens included.
    rounded : mapping of str to str, optional
        Fingerprints of the model in lower precisions.

    Examples
    --------
    >>> table = QueryTable.from_pretrained("runs/demo/stage2")       # doctest: +SKIP
    >>> index = Index.open("photos.lex", table)                      # doctest: +SKIP
    >>> index.search("two hearts")                                 # doctest: +SKIP
    [Hit(id='17.png', score=20810), ...]
    """

    def __init__(
        self,
        tokenizer: Any,
        lexicon: Lexicon,
        rows: csr_array,
        pairs: NDArray[np.int64],
        model: str,
        max_length: int,
        rounded: Mapping[str, str] | None = None,
    ) -> None:
        size = len(lexicon.tokens)
        if rows.shape != (size + len(pairs), len(lexicon)):
            raise LexLIPError(
                f"the query table has shape {rows.shape} for {size} tokens, {len(pairs)} pairs and "
                f"{len(lexicon)} terms: fit it again"
            )
        self.tokenizer = WordTokenizer(tokenizer)
        self.lexicon, self.rows, self.pairs = lexicon, rows, pairs
        self.fingerprint, self.max_length = model, max_length
        self.rounded: dict[str, str] = dict(rounded or {})
        self.name_or_path = ""

    def features(self, text: str) -> list[NDArray[np.int64]]:
        """Return the rows that each window of a text adds up: distinct tokens, then known pairs.

        A token or a pair counts once, however often it occurs in a window; most texts are one
        (`lexlip.models.windows`).
        """
        read = self._read(as_meant(text))
        ids, room = np.array(read.ids, dtype=np.int64), max(1, self.max_length - 2)
        parts = spans(read.word_ids, room) if len(ids) > room else [(0, len(ids))]
        size = len(self.lexicon.tokens)
        return [features_of(ids[start:end], size, self.pairs) for start, end in parts]

    def weights_of(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the term ids [T], ascending, and the weights [T] above 0 of a text.

        A long text has the largest weights of its windows.
        """
        sums = [total for rows in self.features(text) if len(total := self._sum(rows))]
        total = sums[0] if sums else np.zeros(0)
        for more in sums[1:]:
            total, less = (total, more) if len(total) > len(more) else (more, total)
            total[: len(less)] = np.maximum(total[: len(less)], less)
        columns = np.flatnonzero(total > 0)
        return self.lexicon.ids[columns].astype(np.int64), total[columns].astype(np.float32)

    def trace_text(self, text: str, terms: Iterable[int] | None = None) -> TextProvenance:
        """Find the word of a text that adds most to each term.

        A pair of tokens counts for the word of its second one. Of a long text the window counts in
        which a term weighs most.

        Parameters
        ----------
        text : str
        terms : iterable of int, optional
            Term ids; by default those that the text has.

        Raises
        ------
        LexLIPError
            For a number that is not a term id.
        """
        wanted = None if terms is None else checked_terms(terms, len(self.lexicon.tokens))
        read = ReadText.of(meant := as_meant(text), self._read(meant))
        ids, size = np.array(read.ids, np.int64), len(self.lexicon.tokens)
        room = max(1, self.max_length - 2)
        best: dict[int, Raised] = {}
        for start, end in spans(read.numbers, room) if len(ids) > room else [(0, len(ids))]:
            part = ids[start:end]
            held = np.zeros((len(read.words), len(self.lexicon)))
            for row in features_of(part, size, self.pairs).tolist():
                at = int(np.flatnonzero(part == row)[0]) if row < size else self._second(part, row)
                held[read.numbers[start + at]] += self.rows[[row]].toarray()[0]
            total = held.sum(0) if len(held) else np.zeros(len(self.lexicon))
            for column in np.flatnonzero(total > 0).tolist():
                term = int(self.lexicon.ids[column])
                found = Raised(int(held[:, column].argmax()), math.expm1(total[column]), 0.0)
                if term not in best or found.logit > best[term].logit:
                    best[term] = found
        chosen = best if wanted is None else {t: best.get(t, Raised(-1, 0.0, 0.0)) for t in wanted}
        return TextProvenance(read.words, chosen)

    def _second(self, ids: NDArray[np.int64], row: int) -> int:
        """Return the place of the second token of a pair."""
        size = len(self.lexicon.tokens)
        places = np.flatnonzero(ids[:-1] * size + ids[1:] == self.pairs[row - size])
        return int(places[0]) + 1

    def _read(self, text: str) -> Any:
        return self.tokenizer.raw.encode(text, add_special_tokens=False)

    def _sum(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Add up rows of the table; columns behind the last one that has a weight are left out."""
        starts, ends = self.rows.indptr, self.rows.indptr[1:]
        entries = [slice(starts[row], ends[row]) for row in rows]
        if not entries:
            return np.zeros(0)
        columns = np.concatenate([self.rows.indices[entry] for entry in entries])
        weights = np.concatenate([self.rows.data[entry] for entry in entries])
        return np.bincount(columns, weights).astype(np.float64, copy=False)

    def terms(
        self, text: str, max_terms: int = 64, max_weight: int = MAX_QUERY_WEIGHT
    ) -> dict[int, int]:
        """Turn a text into ``{term id: weight}``, which `Index.search` takes; see `Index.query`.

        The same as `Index.query` with a table, without matrices: these took twice as long as
        everything else.
        """
        check_count("max_terms", max_terms)
        check_count("max_weight", max_weight, most=MAX_QUERY_WEIGHT)
        ids, weights = self.weights_of(text)
        if not len(ids):
            return {}
        kept = np.sort(np.lexsort((ids, -weights))[:max_terms])
        whole = np.rint(weights[kept] / float(weights.max()) * max_weight).astype(np.int64)
        pairs = zip(ids[kept].tolist(), whole.tolist(), strict=True)
        return {term: weight for term, weight in pairs if weight}

    def encode_text(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Texts to weights over the vocabulary, csr_array float32 [N, V].

        `batch_size` has no effect here.
        """
        texts = as_texts(texts)
        found = [self.weights_of(text) for text in texts]
        ends = np.cumsum([0, *(len(ids) for ids, _ in found)])
        ids = np.concatenate([np.zeros(0, dtype=np.int64), *(ids for ids, _ in found)])
        data = np.concatenate([np.zeros(0, np.float32), *(weights for _, weights in found)])
        shape = (len(texts), len(self.lexicon.tokens))
        return csr_array((data, ids, ends), shape=shape)

    def save_pretrained(self, folder: str | os.PathLike[str], **facts: Any) -> None:
        """Write the table, its tokenizer and a manifest into the folder ``queries`` of `folder`.

        Parameters
        ----------
        folder : path
            The checkpoint that the table was fitted to, or any other folder.
        facts
            What else the manifest says: how it was fitted.
        """
        tensors = {
            "indptr": self.rows.indptr.astype(np.int64),
            "indices": self.rows.indices.astype(np.int32),
            "weights": self.rows.data.astype(np.float16),
            "pairs": self.pairs,
            "lexicon_ids": self.lexicon.ids,
        }
        manifest = {
            "format": FORMAT,
            "model": self.fingerprint,
            "rounded": self.rounded,
            "vocabulary": self.lexicon.hash,
            "max_length": self.max_length,
            **facts,
        }
        with atomic_directory(Path(folder) / FOLDER) as new:
            save_file(tensors, new / "table.safetensors")
            (new / "tokenizer.json").write_text(self.tokenizer.raw.to_str(), encoding="utf-8")
            write_json(new / MANIFEST, {**manifest, FILES: digests(new)})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> QueryTable:
        """Read the table of a checkpoint; neither torch nor the checkpoint's weights are loaded.

        Raises
        ------
        LexLIPError
            When it is missing, corrupted, or of another format.
        """
        from tokenizers import Tokenizer

        folder = Path(name) / FOLDER
        advice = "fit one with the job pretrain.fit_query_table (training needs a clone of lexlip)"
        if not is_table(name):
            raise LexLIPError(f"no query table at {folder}: {advice}")
        for file in (MANIFEST, "tokenizer.json"):
            check_size(folder / file)
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict):
            raise LexLIPError(f"{folder / MANIFEST} is corrupted: {advice}")
        if manifest.get("format") != FORMAT:
            raise LexLIPError(f"{folder} has format {manifest.get('format')!r:.60}: {advice}")
        check_digests(folder, manifest)
        try:
            tensors = load_file(folder / "table.safetensors")
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            vocabulary = tokenizer.get_vocab()
            tokens = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
            lexicon = Lexicon(tokens, tensors["lexicon_ids"])
            pairs = tensors["pairs"]
            shape = (len(tokens) + len(pairs), len(lexicon))
            data = tensors["weights"].astype(np.float64)
            rows = csr_array((data, tensors["indices"], tensors["indptr"]), shape=shape)
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise LexLIPError(f"the query table at {folder} is corrupted: {advice}") from error
        except Exception as error:  # tokenizers raises nothing more special
            raise LexLIPError(f"{folder}/tokenizer.json is corrupted: {advice}") from error
        if lexicon.hash != manifest["vocabulary"]:
            raise LexLIPError(f"the query table at {folder} is corrupted: {advice}")
        table = cls(
            tokenizer,
            lexicon,
            rows,
            pairs,
            manifest["model"],
            manifest["max_length"],
            manifest.get("rounded"),
        )
        table.name_or_path = str(name)
        return table


def features_of(ids: NDArray[np.int64], size: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of a text's token ids: each distinct token, then each known pair.

    Parameters
    ----------
    ids : int64 array [L]
    size : int
        Number of tokens in the vocabulary.
    pairs : int64 array [P]
        As in `QueryTable`.

    Examples
    --------
    >>> features_of(np.array([3, 1, 3, 1]), 5, np.array([8, 16])).tolist()
    [1, 3, 5, 6]
    """
    rows = np.unique(ids)
    if len(ids) > 1 and len(pairs):
        wanted = np.unique(ids[:-1] * size + ids[1:])
        places = np.searchsorted(pairs, wanted)
        known = places[pairs[np.minimum(places, len(pairs) - 1)] == wanted]
        rows = np.concatenate([rows, size + known])
    return rows
