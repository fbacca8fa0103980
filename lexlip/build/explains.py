"""Explanations by words: what a document shares with a query, of one document or of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lexlip.build.intake import known_ids
from lexlip.build.manifest import has_said
from lexlip.engines import Engine
from lexlip.query.contributions import Contribution, all_contributions

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker
    from lexlip.query.prepared import PreparedQuery
    from lexlip.query.query import AnyQuery


class Explains:
    """The part of `lexlip.index.Index` that says why documents are found."""

    manifest: dict[str, Any]
    engine: Engine

    if TYPE_CHECKING:

        @property
        def model(self) -> Speaker:
            """The model that encodes."""

        def prepare(self, item: AnyQuery) -> PreparedQuery:
            """Encode a query once."""

    def explain(self, id: str, item: AnyQuery) -> list[Contribution]:
        """Say why a document is found: the words that it shares with a query, heaviest first.

        Parameters
        ----------
        id : str
        item : str, picture, Query, mapping or PreparedQuery
            As for `search`; a prepared query encodes nothing. must and exclude decide what is
            found and add nothing to a score.

        Returns
        -------
        list of Contribution
            Their scores add up to the integer score of the hit, exactly: that of the words that
            found it (`OrderedHit.words`), where `account` says that something else orders. Where
            words are said of documents, those come first: the others may be there to correct a sum.
        """
        return self.explain_all([id], item)[0]

    def explain_all(self, ids: Sequence[str], item: AnyQuery) -> list[list[Contribution]]:
        """Say why each of several documents is found; faster than one after the other.

        Parameters
        ----------
        ids : sequence of str
        item
            As for `explain`.

        Raises
        ------
        LexLIPError
            When one of the documents is missing.

        Examples
        --------
        >>> hits = index.search("a dog on a beach", k=10)                         # doctest: +SKIP
        >>> index.explain_all([hit.id for hit in hits], "a dog on a beach")[0]    # doctest: +SKIP
        [Contribution(word='dog', query=64, impact=201), ...]
        """
        names = known_ids(self.engine, ids)
        query, said = self.prepare(item), has_said(self.manifest)
        terms: Mapping[int, int] = query.terms
        return all_contributions(self.engine, names, terms, self.model.lexicon, query.penalty, said)
