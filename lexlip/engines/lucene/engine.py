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

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from scipy.sparse import csr_array

from lexlip.engines.base import (
    Columns,
    Condition,
    Hit,
    check_conditions,
    check_documents,
    check_query,
    check_terms,
)
from lexlip.engines.candidates import WithoutArrays
from lexlip.engines.lucene.bridge import (
    READING,
    SEARCHING,
    WRITING,
    analyzer,
    classes,
    damaged_files,
    lucene_jar,
    readable_errors,
)
from lexlip.engines.lucene.browsing import Browses
from lexlip.engines.lucene.metadata import (
    KINDS,
    STORED,
    DocumentForms,
    dump_kinds,
    join,
)
from lexlip.engines.lucene.snapshot import EXPLAINED, ID, IMPACTS, Snapshot, with_ids
from lexlip.engines.lucene.writing import let_go, new_fields, new_writer
from lexlip.engines.rows import load_values, metadata_of_rows
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Value, merge_kinds, read_columns
from lexlip.filters.where import Where
from lexlip.storage.folder_lock import locked
from lexlip.storage.ids import check_ids, closed, read_only
from lexlip.storage.views import Vectors

__all__ = ["LuceneEngine", "lucene_jar"]


class LuceneEngine(Browses, WithoutArrays):
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
        self._snapshot: Snapshot | None = None
        if self.path.exists() and not self.path.is_dir():
            raise LexLIPError(f"{self.path} is a file: give the name of a folder")
        if mode == "r" and not self.path.is_dir():
            raise LexLIPError(f"{self.path} does not exist: build the index first")
        self._lock = locked(self.path) if mode == "w" else None
        try:
            self._open(mode)
        except BaseException:
            self._let_go()
            raise

    def _open(self, mode: Literal["w", "r"]) -> None:
        lucene = classes()
        with WRITING, readable_errors(self.path):
            self._directory = lucene.FSDirectory.open(lucene.File(str(self.path)).toPath())
            self._parser = lucene.QueryParser(IMPACTS, analyzer())
            self._by_id = lucene.Sort(
                lucene.SortField.FIELD_SCORE,
                lucene.KeywordField.newSortField(ID, False, lucene.SortedSetSelector_Type.MIN),
            )
            if mode == "w":
                self._open_writer()
            self._snapshot = Snapshot(self._directory)
            self._kinds = self._snapshot.kinds  # those of uncommitted documents included

    def _open_writer(self) -> None:
        self._writer = new_writer(self._directory)
        self._id_field, self._impacts_field = new_fields()
        self._forms = DocumentForms(classes(), [self._id_field, self._impacts_field])
        if not classes().DirectoryReader.indexExists(self._directory):
            self._writer.commit()

    def _check_writable(self) -> None:
        if self._snapshot is None:
            raise closed(str(self.path))
        if self._writer is None:
            raise read_only(self.path)

    def add(
        self,
        ids: Sequence[str],
        impacts: csr_array,
        columns: Mapping[str, Sequence[Any]] | None = None,
        vectors: Vectors | None = None,
    ) -> None:
        """Add documents, replacing those with the same id; see `Engine.add`."""
        self.refuse(vectors)
        self._check_writable()
        names, matrix = check_documents(ids, impacts)
        metadata = read_columns(columns, len(names))
        rows = metadata_of_rows(metadata, len(names))
        ends = matrix.indptr.tolist()
        numbers, values = matrix.indices.tolist(), matrix.data.tolist()
        new_term = classes().Term
        with WRITING, readable_errors(self.path):
            kinds = self._kinds = merge_kinds(self._kinds, metadata)
            for row, name in enumerate(names):
                span = slice(ends[row], ends[row + 1])
                pairs = zip(numbers[span], values[span], strict=True)
                self._id_field.setStringValue(name)
                self._impacts_field.setStringValue(" ".join([f"{t}|{w}" for t, w in pairs]))
                document = self._forms.fill(rows[row], kinds)
                self._writer.updateDocument(new_term(ID, name), document)

    def copy(self, of: Sequence[str], ids: Sequence[str], columns: Columns = None) -> None:
        """Add documents with the impacts of others; see `Engine.copy`."""
        self.add(ids, self.impacts(of), columns)

    def _count_written(self) -> int:
        """Return the number of documents, uncommitted changes applied."""
        reader = classes().DirectoryReader.open(self._writer)
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
        with WRITING, readable_errors(self.path):
            before = self._count_written()
            # One query for all; pyjnius takes the Query overload of this method, not the Terms.
            self._writer.deleteDocuments(with_ids(names))
            return before - self._count_written()

    def commit(self, user_data: Mapping[str, str] | None = None) -> None:
        """Make all changes durable and visible; see `Engine.commit`.

        Parameters
        ----------
        user_data
            A few strings kept with this commit, in place of the earlier ones; None keeps those.

        Raises
        ------
        LexLIPError
            When writing fails, as on a full disk. The last commit stays and can be searched; to
            change it, open it again: what was not committed is lost.
        """
        self._check_writable()
        if user_data is not None and KINDS in user_data:
            raise LexLIPError(f"user data {KINDS!r} is the engine's own: take another name")
        with WRITING, readable_errors(self.path):
            last = self._current()
            if user_data is not None or self._kinds != last.kinds:
                data = classes().HashMap()
                for key, value in (last.user_data if user_data is None else user_data).items():
                    data.put(key, value)
                if self._kinds:
                    data.put(KINDS, dump_kinds(self._kinds))
                self._writer.setLiveCommitData(data.entrySet())
            self._writer.commit()
            old, self._snapshot = self._snapshot, Snapshot(self._directory)
            if old is not None:
                old.reader.close()

    def compact(self) -> None:
        """Merge the index into one segment and commit; see `Engine.compact`."""
        self._check_writable()
        with WRITING, readable_errors(self.path):
            self._writer.forceMerge(1)
        self.commit()

    @property
    def generation(self) -> int:
        """The number of the commit that is shown."""
        return self._current().generation

    def stale(self) -> bool:
        """Say whether there is a newer commit; see `Engine.stale`."""
        with WRITING, readable_errors(self.path):
            return not self._current().reader.isCurrent()

    def reopen(self) -> bool:
        """Go on to the newest commit and return whether there was one; see `Engine.reopen`."""
        with WRITING, readable_errors(self.path):
            old = self._current()
            if old.reader.isCurrent():
                return False
            self._snapshot = Snapshot(self._directory)
            old.reader.close()
            return True

    def verify(self) -> list[str]:
        """Compare every file of the newest commit with its checksum; see `Engine.verify`."""
        self._current()
        with READING, readable_errors(self.path):
            return damaged_files(self._directory)

    @property
    def user_data(self) -> dict[str, str]:
        """The strings of the last `commit(user_data)`."""
        return dict(self._current().user_data)

    def _current(self) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is None:
            raise closed(str(self.path))
        return snapshot

    @contextmanager
    def _held(self) -> Iterator[Snapshot]:
        """Yield the current snapshot, which no commit closes meanwhile."""
        with READING:
            snapshot = self._current()
            while not snapshot.reader.tryIncRef():
                snapshot = self._current()
        try:
            yield snapshot
        finally:
            with READING:
                snapshot.reader.decRef()

    def _parse(self, query: Mapping[int, int]) -> Any:
        """Return the query for {term: weight}, which is not empty. Call it under `READING`."""
        clauses = " ".join([f"{term}^{weight}" for term, weight in query.items()])
        return self._parser.parse(clauses)

    def search(
        self,
        terms: Mapping[int, int],
        k: int,
        where: Where | None = None,
        conditions: Sequence[Condition] = (),
        among: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Return the best `k` hits, exactly; see `Engine.search`."""
        query, k = check_query(terms, k)
        conditions = check_conditions(conditions)
        ids = None if among is None else check_ids(among)
        lucene = classes()
        with self._held() as snapshot, readable_errors(self.path):
            with READING:
                clauses = snapshot.clauses(where, conditions, ids)
                if not query or ids == []:
                    return []
                parsed = self._parse(query)
                if clauses:
                    parsed = join(lucene, (parsed, "MUST"), *clauses)
            searcher = snapshot.searcher
            k = min(k, snapshot.most)
            with SEARCHING.on(searcher):
                top = searcher.search(parsed, min(k + 1, snapshot.most))
                hits = lucene.ScoredDocs.fromTopDocs(top, searcher)
                scores = hits.scores
                if len(scores) > k and scores[k] == scores[k - 1]:
                    # The cut is inside a tie, where the fast search keeps any: sort by id too.
                    top = searcher.search(parsed, k, self._by_id, True)
                    hits = lucene.ScoredDocs.fromTopDocs(top, searcher)
                    scores = hits.scores
            found = [Hit(name, int(score)) for name, score in zip(hits.docids, scores, strict=True)]
        found.sort(key=lambda hit: (-hit.score, hit.id))
        return found[:k]

    def contributions(self, id: str, terms: Iterable[int]) -> dict[int, int]:
        """Return the impacts that a committed document has; see `Engine.contributions`."""
        (name,) = check_ids([id])
        query, _ = check_query(dict.fromkeys(terms, 1), 1)
        with self._held() as snapshot, readable_errors(self.path):
            found = snapshot.find([name]).lucene_docids
            if not found:
                raise LexLIPError(f"no document {name!r} in {self.path}: is it committed?")
            if not query:
                return {}
            with READING:
                # Lucene's account of a score names each term and, at weight 1, its impact.
                parsed = self._parse(query)
                account = str(snapshot.searcher.explain(parsed, found[0]).toString())
        impacts = {int(term): int(float(value)) for value, term in EXPLAINED.findall(account)}
        return {term: impacts[term] for term in query if term in impacts}

    def ids(self) -> list[str]:
        """Return the ids of all committed documents; see `Engine.ids`."""
        with self._held() as snapshot, readable_errors(self.path):
            return snapshot.ids()

    def impacts(self, ids: Sequence[str]) -> csr_array:
        """Return all impacts of committed documents; see `Engine.impacts`."""
        with self._held() as snapshot, readable_errors(self.path):
            return snapshot.impacts(check_ids(ids), self._parse)

    def frequencies(self, terms: Iterable[int]) -> dict[int, int]:
        """Return {term: how many documents have it}; see `Engine.frequencies`."""
        numbers = check_terms(terms)
        with self._held() as snapshot, readable_errors(self.path), READING:
            return snapshot.frequencies(numbers)

    def fetch(self, ids: Iterable[str]) -> list[dict[str, Value] | None]:
        """Return the metadata of committed documents; see `Engine.fetch`."""
        names = check_ids(ids)
        if not names:
            return []
        with self._held() as snapshot, readable_errors(self.path):
            hits = snapshot.find(list(dict.fromkeys(names)))
            with READING:
                stored = [document.get(STORED) for document in hits.lucene_documents]
            found = dict(zip(hits.docids, stored, strict=True))
        return [
            load_values(found[name], snapshot.kinds) if name in found else None for name in names
        ]

    def __len__(self) -> int:
        """Return the number of committed documents."""
        return self._current().documents

    def stats(self) -> dict[str, int]:
        """Return `documents`, `postings` and `bytes` on disk.

        Postings of deleted documents count until Lucene merges them away (`compact` does).
        """
        snapshot = self._current()
        sizes = [entry.stat().st_size for entry in os.scandir(self.path) if entry.is_file()]
        return {"documents": snapshot.documents, "postings": snapshot.postings, "bytes": sum(sizes)}

    def close(self) -> None:
        """Close the files; what was not committed is lost. Closing twice is fine."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is None:
            return
        try:
            with WRITING, readable_errors(self.path):
                snapshot.reader.close()
                if self._writer is not None:
                    self._writer.rollback()
                    self._writer = None
                self._directory.close()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Let the next writer in, whatever became of this one."""
        writer, lock, self._writer, self._lock = self._writer, self._lock, None, None
        let_go(self.path, writer, lock)
