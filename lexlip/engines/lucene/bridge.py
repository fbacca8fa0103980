"""The way to Lucene: its jar, its classes through pyjnius, and its errors as one line.

A method of a pyjnius class remembers the object that it was last looked up on, for all threads
and all objects of that class: `a.search` looked up in one thread calls `b.search` once another
thread looks that up. So no method is kept in a variable, and threads take turns: `WRITING` around
changes, `READING` around the short calls of a search, `SEARCHING` around the long one. No class's
method is called under two of them.
"""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lexlip.engines.lucene import java
from lexlip.errors import LexLIPError
from lexlip.storage.fair_lock import FairLock
from lexlip.storage.folder_lock import InUse

PACKAGE = "org.apache.lucene."
_NO_ROOM = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
_MOST_CLAUSES = 8192
"""1,024 terms, a filter of the most comparisons (each becomes five clauses at the most), and
conditions on 1,024 terms (two clauses each)."""

_CLASSES = (
    PACKAGE + "analysis.custom.CustomAnalyzer",
    PACKAGE + "codecs.CodecUtil",
    PACKAGE + "document.Document",
    PACKAGE + "document.DoubleField",
    PACKAGE + "document.Field",
    PACKAGE + "document.Field$Store",
    PACKAGE + "document.FieldType",
    PACKAGE + "document.KeywordField",
    PACKAGE + "document.StoredField",
    PACKAGE + "index.DirectoryReader",
    PACKAGE + "index.IndexOptions",
    PACKAGE + "index.IndexWriter",
    PACKAGE + "index.IndexWriterConfig",
    PACKAGE + "index.MultiTerms",
    PACKAGE + "index.Term",
    PACKAGE + "queries.function.FunctionRangeQuery",
    PACKAGE + "queries.function.valuesource.TermFreqValueSource",
    PACKAGE + "queryparser.classic.QueryParser",
    PACKAGE + "search.BooleanClause$Occur",
    PACKAGE + "search.BooleanQuery$Builder",
    PACKAGE + "search.FieldExistsQuery",
    PACKAGE + "search.IndexSearcher",
    PACKAGE + "search.MatchAllDocsQuery",
    PACKAGE + "search.MatchNoDocsQuery",
    PACKAGE + "search.PrefixQuery",
    PACKAGE + "search.ScoreMode",
    PACKAGE + "search.Sort",
    PACKAGE + "search.SortField",
    PACKAGE + "search.SortedNumericSelector$Type",
    PACKAGE + "search.SortedSetSelector$Type",
    PACKAGE + "search.TermQuery",
    PACKAGE + "search.TermRangeQuery",
    PACKAGE + "search.WildcardQuery",
    PACKAGE + "store.FSDirectory",
    PACKAGE + "store.IOContext",
    PACKAGE + "util.BytesRef",
    "io.anserini.search.ScoredDocs",
    "io.anserini.search.similarity.ImpactSimilarity",
    "java.io.File",
    "java.lang.CharSequence",
    "java.lang.String",
    "java.util.HashMap",
)


class Turnstile:
    """Lets calls on one object run side by side, and calls on different objects in turn."""

    def __init__(self) -> None:
        self._lock = FairLock()
        self._receiver: Any = None

    def on(self, receiver: Any) -> AbstractContextManager[None]:
        """Hold the turnstile for calls on `receiver`."""

        def turn() -> None:
            self._receiver = receiver

        return self._lock.shared(lambda: self._receiver is not receiver, turn)


WRITING = threading.Lock()
READING = threading.Lock()
SEARCHING = Turnstile()


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
    raise LexLIPError("pyserini, which has Lucene, is missing: pip install 'lexlip[lucene]'")


@functools.cache
def classes() -> SimpleNamespace:
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
    found["IndexSearcher"].setMaxClauseCount(_MOST_CLAUSES)
    return SimpleNamespace(cast=jnius.cast, JavaException=jnius.JavaException, **found)


@functools.cache
def analyzer() -> Any:
    """Return the analyzer that reads `12|34` as term 12 with frequency 34."""
    lucene = classes()
    builder = lucene.CustomAnalyzer.builder().withTokenizer("whitespace", lucene.HashMap())
    return builder.addTokenFilter("delimitedTermFrequency", lucene.HashMap()).build()


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Turn what Lucene throws into one line about the index at `path`."""
    try:
        yield
    except classes().JavaException as error:
        name, reason = _cause(error)
        if name == "LockObtainFailedException":
            message = "is open for writing elsewhere: close that engine or process first"
        elif name == "IndexNotFoundException":
            message = "holds no Lucene index: build it first"
        elif reason in _NO_ROOM:
            message = (
                f"keeps its last commit, this one failed: {reason}; "
                "make room, then open the index again"
            )
        else:
            message = f"failed in Lucene: {name}: {reason}"
        kind = InUse if name == "LockObtainFailedException" else LexLIPError
        raise kind(f"{path} {message}") from None


def _cause(error: Any) -> tuple[str, str]:
    """Return the class and the message of an exception.

    A writer whose disk was full says that a merge failed, or that it is closed: why, is in its
    trace, and that is what is returned.
    """
    name, reason = str(error.classname).rpartition(".")[2], str(error.innermessage)
    trace = [str(line) for line in error.stacktrace or ()]
    for line, cause in zip(trace, trace[1:], strict=False):
        found, _, why = cause.partition(": ")
        if line == "Caused by:" and (why in _NO_ROOM or name == "AlreadyClosedException"):
            name, reason = found.rpartition(".")[2], why
    return name, reason


def damaged_files(directory: Any) -> list[str]:
    """Read all files of a directory's newest commit; name files that differ from their sums."""
    lucene = classes()
    damaged = []
    newest = lucene.DirectoryReader.listCommits(directory).toArray()[-1]
    for name in sorted(str(name) for name in newest.getFileNames().toArray()):
        try:
            source = directory.openInput(name, lucene.IOContext.READONCE)
            try:
                lucene.CodecUtil.checksumEntireFile(source)
            finally:
                source.close()
        except lucene.JavaException as error:
            reason = str(error.innermessage).partition(" (resource=")[0]
            damaged.append(f"{name} is damaged: {reason}")
    return damaged
