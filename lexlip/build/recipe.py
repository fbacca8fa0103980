"""The recipe of an index: the options that decide how documents become postings.

An option is declared here once. The command line, the jobs, the manifest and the encoding read it
from here; only the module that acts on it needs to know its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lexlip.data.crops import CORNERS, check_crops
from lexlip.errors import LexLIPError
from lexlip.settings import option

VECTORS = ("auto", "yes", "no")


@dataclass(frozen=True)
class Recipe:
    """Options of an index, chosen once and kept in its manifest.

    Options marked `encodes` decide what a document's vectors are. The others decide how the
    vectors are stored, so encoded parts can be indexed with any value of those.

    Raises
    ------
    LexLIPError
        When an option has the wrong type or an impossible value.

    Examples
    --------
    >>> Recipe(max_terms=32).facts()  # doctest: +NORMALIZE_WHITESPACE
    {'max_terms': 32, 'engine': 'postings', 'keep_floats': False, 'keep_views': False,
    'vectors': 'auto', 'crops': 0}
    >>> Recipe(crops=5)
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: crops is 5: 0 to 4 corners can be looked at
    """

    max_terms: int = option(64, "terms kept per document", encodes=True)
    engine: str = option(
        "postings", "postings, lucene (needs Java >= 21), opensearch:PLACE or milvus:PLACE"
    )
    keep_floats: bool = option(False, "store unquantised vectors too, 6 bytes a term, to rescore")
    keep_views: bool = option(
        False, "store what rerankers look at too; the model needs heads", encodes=True
    )
    vectors: str = option(
        "auto",
        "keep the model's vectors, a byte a number, to order hits: auto (if it has any), yes, no",
        encodes=True,
    )
    crops: int = option(
        0, f"corners encoded besides the whole picture, 0 to {len(CORNERS)}", encodes=True
    )

    def __post_init__(self) -> None:
        from lexlip.engines import check_engine  # here: the command line declares options quickly

        for name, value in self.facts().items():
            wanted = type(getattr(Recipe, name))  # of the default
            if type(value) is not wanted:
                raise LexLIPError(f"{name} must be {wanted.__name__}, not {value!r}")
        if self.max_terms < 1:
            raise LexLIPError(f"max_terms is {self.max_terms}: keep at least one term per document")
        check_engine(self.engine)
        if self.vectors not in VECTORS:
            raise LexLIPError(f"vectors is {self.vectors!r}: choose one of {', '.join(VECTORS)}")
        check_crops(self.crops)

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Recipe:
        """Read the recipe of an index, or of encoded parts, from its manifest.

        Options that are younger than the manifest have their defaults.
        """
        names = [field.name for field in fields(Recipe)]
        return Recipe(**{name: manifest[name] for name in names if name in manifest})

    def facts(self) -> dict[str, Any]:
        """Return all options by name, as a manifest keeps them."""
        return {field.name: getattr(self, field.name) for field in fields(Recipe)}

    def encoding(self) -> dict[str, Any]:
        """Return the options that decide what a document's vectors are."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(Recipe)
            if field.metadata.get("encodes")
        }
