"""All documents of a Lucene index with their impacts.

Lucene keeps postings by term, and asking it for one document after the other takes milliseconds
each. So all postings are read once, term by term, onto the disk, and turned there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from lexlip.engines.lucene.bridge import PACKAGE, READING, classes
from lexlip.engines.lucene.snapshot import IMPACTS, Snapshot
from lexlip.storage.spool import Spool

_MANY = 1024
_END = 2**31 - 1
_FREQUENCIES = 8  # PostingsEnum.FREQS


def walk(snapshot: Snapshot) -> Iterator[tuple[list[str], csr_array]]:
    """Yield (N ids, impacts int32 [N, V]) of all living documents, by id."""
    names = sorted(snapshot.ids())
    numbers = np.full(snapshot.most, -1, np.int64)  # of Lucene -> place among the names
    for start in range(0, len(names), _MANY):
        some = names[start : start + _MANY]
        hits = snapshot.find(some)
        place = {name: start + at for at, name in enumerate(some)}
        numbers[list(hits.lucene_docids)] = [place[name] for name in hits.docids]
    with tempfile.TemporaryDirectory(prefix="lexlip-") as folder:
        terms, by_term = [0], Spool(Path(folder) / "terms", np.uint8)
        for term, documents, impacts in _postings(snapshot):
            alive = numbers[documents] >= 0
            terms.append(term)
            by_term.append_row(numbers[documents[alive]], impacts[alive])
        rows = by_term.turned(Path(folder) / "documents", len(names))
        by_term.close()
        known, width = np.array(terms[1:], np.int32), max(terms) + 1
        for start in range(0, len(names), _MANY):
            stop = min(start + _MANY, len(names))
            found = rows.rows(start, stop, len(known))
            found = csr_array(
                (found.data.astype(np.int32), known[found.indices], found.indptr),
                shape=(stop - start, width),
            )
            found.sort_indices()  # terms come in the order of their digits as text
            yield names[start:stop], found


def _postings(snapshot: Snapshot) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield each term with its documents and impacts; dead documents are among them."""
    lucene = classes()
    with READING:
        plain = lucene.cast(PACKAGE + "index.IndexReader", snapshot.reader)
        found = lucene.MultiTerms.getTerms(plain, IMPACTS)
        if found is None:
            return
        each = lucene.cast(PACKAGE + "index.TermsEnum", found.iterator())
    while True:
        with READING:  # a term at a time, so that searches come in between
            if (term := each.next()) is None:
                return
            number = int(str(term.utf8ToString()))
            postings = each.postings(None, _FREQUENCIES)
            postings = lucene.cast(PACKAGE + "index.PostingsEnum", postings)
            documents, impacts = [], []
            while (document := postings.nextDoc()) != _END:
                documents.append(document)
                impacts.append(postings.freq())
        yield number, np.array(documents, np.int64), np.array(impacts, np.int64)
