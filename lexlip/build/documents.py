"""Documents of an index: their ids, metadata, words and impacts, without a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, overload

from scipy.sparse import csr_array

from lexlip.build.intake import known_ids
from lexlip.build.manifest import has_said
from lexlip.engines import Engine
from lexlip.engines.browsing import Facet, facets
from lexlip.errors import LexLIPError, check_count
from lexlip.filters.columns import Value
from lexlip.filters.where import Where
from lexlip.storage.ids import is_id

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker


class HoldsDocuments:
    """The part of `lexlip.index.Index` that shows what it holds."""

    path: Path
    manifest: dict[str, Any]
    engine: Engine

    if TYPE_CHECKING:

        @property
        def model(self) -> Speaker:
            """The model that encodes."""

    def __len__(self) -> int:
        """Return how many documents there are."""
        return len(self.engine)

    def __iter__(self) -> Iterator[str]:
        """Go through the ids of all documents, in order."""
        return iter(sorted(self.engine.ids()))

    def __contains__(self, id: object) -> bool:
        """Return whether there is a document of this id, in any Unicode form."""
        if not isinstance(id, str) or not is_id(id):
            return False
        return self.engine.fetch(known_ids(self.engine, [id]))[0] is not None

    def __repr__(self) -> str:
        """Say what this is, and how much of it."""
        facts = f"engine={self.manifest['engine']!r}, checkpoint={self.manifest['checkpoint']!r}"
        try:
            count = f"{len(self)} documents"
        except Exception:  # an engine that was closed, or whose files are gone
            count = "closed"
        return f"<Index {str(self.path)!r}: {count}, {facts}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or sent to another process: an index is open files."""
        raise LexLIPError(
            f"an index is open files and cannot be copied or pickled: open {self.path} again there"
        )

    @overload
    def metadata(self, ids: str) -> dict[str, Value]: ...  # type: ignore[overload-overlap]

    @overload
    def metadata(self, ids: Iterable[str]) -> list[dict[str, Value]]: ...

    def metadata(self, ids: Any) -> Any:
        """Return the metadata of one document, or of several.

        Parameters
        ----------
        ids : str, or iterable of str

        Returns
        -------
        dict, or list of dict
            ``{column: value}``, missing values left out.

        Raises
        ------
        LexLIPError
            When there is no such document.

        Examples
        --------
        >>> hits = index.search("a dog on a beach")                           # doctest: +SKIP
        >>> index.metadata(hits[0].id)                                        # doctest: +SKIP
        {'folder': '2024', 'bytes': 810532, 'taken': '2024-05-31T17:05:00'}
        """
        if isinstance(ids, str):
            return self.metadata([ids])[0]
        found = self.engine.fetch(names := known_ids(self.engine, ids))
        if None in found:
            raise self._missing(names[found.index(None)])
        return found

    def words_of(
        self, id: str, top_k: int | None = None, said: bool = False
    ) -> list[tuple[str, int]]:
        """Return the words of a document with their impacts 1..255, heaviest first.

        Parameters
        ----------
        id : str
        top_k : int, optional
            The heaviest ones only.
        said : bool
            Of a model with vectors: the words that are true of the document, which conditions
            ask for, in place of those that find it.

        Raises
        ------
        LexLIPError
            When there is no such document.

        Examples
        --------
        >>> index.words_of("a.jpg", top_k=2)                                  # doctest: +SKIP
        [('dog', 201), ('beach', 188)]
        """
        tokens = self.model.lexicon.tokens
        count = len(tokens) if top_k is None else check_count("top_k", top_k, 0)
        row = self.engine.impacts(known_ids(self.engine, [id]))
        first = len(tokens) if said and has_said(self.manifest) else 0
        pairs = zip(row.indices.tolist(), row.data.tolist(), strict=True)
        words = [(t - first, impact) for t, impact in pairs if 0 <= t - first < len(tokens)]
        words.sort(key=lambda word: (-word[1], word[0]))
        return [(tokens[term], impact) for term, impact in words[:count]]

    def impacts(self, ids: Iterable[str]) -> csr_array:
        """Return the impacts of documents: what a search adds up, and any engine can index.

        It reads all postings, in one pass: ask for many documents at once.

        Parameters
        ----------
        ids : iterable of str
            N documents; ``list(index)`` for all.

        Returns
        -------
        csr_array int32 [N, V]
            Whole numbers 1..255 of the words that find them, a column for each token of
            ``index.model.lexicon.tokens``.

        Raises
        ------
        LexLIPError
            When there is no such document.
        """
        size = len(self.model.lexicon.tokens)
        found = csr_array(self.engine.impacts(known_ids(self.engine, ids))[:, :size])
        found.resize((found.shape[0], size))
        return found

    def facets(self, where: str | Where | None = None, most: int = 100) -> list[Facet]:
        """Return what each column of the metadata holds, by name.

        Parameters
        ----------
        where : str or Where, optional
            Only of documents with such metadata; as for `lexlip.Index.search`.
        most : int
            Values of a column that are counted, the most frequent ones.

        Returns
        -------
        list of Facet
            Values and how many documents have each, or the smallest and the largest value of
            numbers and dates.

        Raises
        ------
        LexLIPError
            For a filter that does not fit the columns.

        Examples
        --------
        >>> index.facets("taken >= '2024'")[0]                                # doctest: +SKIP
        Facet(name='camera', kind='str', values=(('NIKON D850', 210), ...), whole=True, ...)
        """
        return facets(self.engine, check_count("most", most), Where.of(where))

    def _missing(self, id: str) -> LexLIPError:
        return LexLIPError(f"no document {id!r} in {self.path}: check the id")
