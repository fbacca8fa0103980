"""Documents as Milvus keeps them: rows that are added and never changed.

A row has a number, from 0 on in the order of additions; it is one version of a document. What a
commit shows are the rows up to its last one, without those that it names dead. Rows with numbers
below 0 hold states (`lexlip.engines.milvus.state`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.filters.columns import Kind, Value

ROW, NAME, SUM, SIZE, IMPACTS = "row", "name", "sum", "size", "impacts"
TAGS, NUMBERS, TEXT = "tags", "numbers", "text"

CAP = 16_384
"""Most rows of an answer: what a server gives."""

NO_TERM = 2**31
"""A term that no document has: Milvus takes no empty vector, so an empty document has this one."""

_MOST_TAGS = 4096
_LONGEST = 65_535
_COLUMNS = 2**32
_WORDS = 2**61

INDEX = {
    "index_type": "SPARSE_INVERTED_INDEX",
    "metric_type": "IP",
    # Exact. Milvus Lite 2.5.1 answers without an index where it does not know the name of one.
    "params": {"inverted_index_algo": "DAAT_MAXSCORE"},
}
SEARCH = {"metric_type": "IP", "params": {"drop_ratio_search": 0.0}}
"""Nothing is dropped, so that scores are exact."""


def number_of(text: str) -> int:
    """Return a number below 2**61 that stands for a text in expressions: they need no quotes.

    Examples
    --------
    >>> number_of("a.jpg") == number_of("a.jpg") != number_of("b.jpg")
    True
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 3


def has_column(number: int) -> int:
    """Return the tag of rows that have a value in a column."""
    return _COLUMNS + 2 * number


def lacks_column(number: int) -> int:
    """Return the tag of rows that were made when the column was there, and have no value in it."""
    return _COLUMNS + 2 * number + 1


def has_value(number: int, value: Value) -> int:
    """Return the tag of rows with a text, or a truth value, in a column."""
    return _WORDS + number_of(f"{number}:{value}")


def number_value(value: Any) -> float:
    """Return a number as JSON has it: infinity as the largest float."""
    largest = sys.float_info.max
    return max(-largest, min(largest, float(value))) + 0.0


def schema(client: Any) -> Any:
    """Return the fields of a collection."""
    from pymilvus import DataType

    made = client.create_schema(auto_id=False, enable_dynamic_field=False)
    made.add_field(ROW, DataType.INT64, is_primary=True)
    made.add_field(NAME, DataType.VARCHAR, max_length=1024)
    made.add_field(SUM, DataType.INT64)
    made.add_field(SIZE, DataType.INT64)
    made.add_field(IMPACTS, DataType.SPARSE_FLOAT_VECTOR)
    made.add_field(TAGS, DataType.ARRAY, element_type=DataType.INT64, max_capacity=_MOST_TAGS)
    made.add_field(NUMBERS, DataType.JSON)
    made.add_field(TEXT, DataType.VARCHAR, max_length=_LONGEST)
    return made


def document(
    row: int,
    id: str,
    impacts: Mapping[int, int],
    values: Mapping[str, Value],
    columns: Mapping[str, tuple[int, Kind]],
) -> dict[str, Any]:
    """Return the row of a document; `columns` has the number and kind of all columns.

    Raises
    ------
    LexLIPError
        When it has more terms, or longer metadata, than Milvus takes.
    """
    tags, numbers = list(impacts), {}
    for name, (number, kind) in columns.items():
        value = values.get(name)
        tags.append(lacks_column(number) if value is None else has_column(number))
        if value is not None and kind in ("int", "float"):
            numbers[str(number)] = number_value(value)
        elif value is not None:
            tags.append(has_value(number, value))
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":")) if values else ""
    if len(tags) > _MOST_TAGS:
        raise LexLIPError(
            f"document {id!r:.80} has {len(tags)} terms and values: Milvus takes {_MOST_TAGS}"
        )
    if (size := len(text.encode())) > _LONGEST:
        raise LexLIPError(
            f"the metadata of {id!r:.80} has {size:,} bytes: Milvus takes {_LONGEST:,}"
        )
    vector = {term: float(impact) for term, impact in impacts.items()}
    return {
        ROW: row,
        NAME: id,
        SUM: number_of(id),
        SIZE: len(impacts),
        IMPACTS: vector or {NO_TERM: 1.0},
        TAGS: tags,
        NUMBERS: numbers,
        TEXT: text,
    }


def note(row: int, text: str) -> dict[str, Any]:
    """Return a row that holds a text and is no document."""
    return {
        ROW: row, NAME: "", SUM: 0, SIZE: 0, IMPACTS: {NO_TERM: 1.0}, TAGS: [], NUMBERS: {},
        TEXT: text,
    }  # fmt: skip


def impacts_of(vector: Mapping[int, float]) -> dict[int, int]:
    """Return the impacts {term: impact} of a row's vector, by term.

    Examples
    --------
    >>> impacts_of({9: 255.0, 2: 1.0})
    {2: 1, 9: 255}
    """
    return {term: int(vector[term]) for term in sorted(vector) if term != NO_TERM}


def in_list(field: str, values: Sequence[int]) -> str:
    """Return the expression of the rows with one of these numbers in a field."""
    return f"{field} in [{','.join(map(str, values))}]"
