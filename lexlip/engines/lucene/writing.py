"""The writer of a Lucene index: the lock of its folder, its settings, and its end."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from lexlip.engines.lucene.bridge import WRITING, analyzer, classes, readable_errors
from lexlip.engines.lucene.snapshot import ID, IMPACTS
from lexlip.errors import LexLIPError
from lexlip.storage.folder_lock import FolderLock

_BUFFER_MB = 256.0


def new_writer(directory: Any) -> Any:
    """Return an IndexWriter of a directory."""
    lucene = classes()
    config = lucene.IndexWriterConfig(analyzer())
    config.setSimilarity(lucene.ImpactSimilarity())
    config.setRAMBufferSizeMB(_BUFFER_MB)
    config.setCommitOnClose(False)
    return lucene.IndexWriter(directory, config)


def new_fields() -> tuple[Any, Any]:
    """Return the fields of a document: its id, and its impacts."""
    lucene = classes()
    # Documents and frequencies only: no positions, no norms, no vectors.
    kind = lucene.FieldType()
    kind.setIndexOptions(lucene.IndexOptions.DOCS_AND_FREQS)
    kind.setTokenized(True)
    kind.setOmitNorms(True)
    kind.freeze()
    empty = lucene.cast("java.lang.CharSequence", lucene.String(""))
    return lucene.KeywordField(ID, "", lucene.Field_Store.YES), lucene.Field(IMPACTS, empty, kind)


def let_go(path: Path, writer: Any, lock: FolderLock | None) -> None:
    """Let the next writer in; what was not committed is lost."""
    if writer is not None:
        with suppress(LexLIPError), WRITING, readable_errors(path):
            writer.rollback()
    if lock is not None:
        lock.release()
