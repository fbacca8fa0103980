"""Collections: made, and asked once whether they rank rightly."""

from __future__ import annotations

from typing import Any

from lexlip.engines.milvus.documents import IMPACTS, INDEX, SEARCH, schema
from lexlip.engines.milvus.errors import not_loaded
from lexlip.engines.milvus.place import Place
from lexlip.errors import LexLIPError

_CASE = ({1: 0.5}, {1: 1.0})
"""The first has the smaller product with {1: 1}. Scores of BM25 come in the other order."""


def make(client: Any, place: Place) -> None:
    """Make the empty collection of a place, on a server that ranks rightly."""
    _check_ranking(client, place, f"{place.name}_ranking")
    if client.has_collection(place.name, timeout=place.timeout):
        client.drop_collection(place.name, timeout=place.timeout)
    _make(client, place, place.name, schema(client), IMPACTS)


def _make(client: Any, place: Place, collection: str, fields: Any, vector: str) -> None:
    index = client.prepare_index_params()
    index.add_index(vector, **INDEX)
    client.create_collection(
        collection,
        schema=fields,
        num_shards=place.shards,
        consistency_level="Strong",
        timeout=place.timeout,
    )
    # There is nothing yet to wait for.
    client.create_index(collection, index, sync=False, timeout=place.timeout)
    load(client, place, collection)


def load(client: Any, place: Place, collection: str | None = None) -> None:
    """Bring a collection into memory, where it can be searched."""
    client.load_collection(
        collection or place.name, replica_number=place.replicas, timeout=max(600, place.timeout)
    )


class Loaded:
    """A client whose collection is loaded again where a server that was restarted let go of it.

    Parameters
    ----------
    client : pymilvus.MilvusClient
    place : Place
        Of the collection.
    """

    def __init__(self, client: Any, place: Place) -> None:
        self._client, self._place = client, place

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def called(*args: Any, **options: Any) -> Any:
            from pymilvus.exceptions import MilvusException

            try:
                return method(*args, **options)
            except MilvusException as error:
                if not not_loaded(error):
                    raise
            load(self._client, self._place)
            return method(*args, **options)

        return called


def _check_ranking(client: Any, place: Place, collection: str) -> None:
    """Raise where two documents come in the wrong order, whatever version the server says it is."""
    from pymilvus import DataType

    fields = client.create_schema(auto_id=False)
    fields.add_field("number", DataType.INT64, is_primary=True)
    fields.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
    _make(client, place, collection, fields, "words")
    try:
        rows = [{"number": at, "words": words} for at, words in enumerate(_CASE)]
        client.insert(collection, rows, timeout=place.timeout)
        (found,) = client.search(
            collection, data=[{1: 1.0}], anns_field="words", limit=2, search_params=SEARCH,
            output_fields=["number"], timeout=place.timeout,
        )  # fmt: skip
    finally:
        client.drop_collection(collection, timeout=place.timeout)
    ranking = [(hit["entity"]["number"], float(hit["distance"])) for hit in found]
    if ranking != [(1, 1.0), (0, 0.5)]:
        raise LexLIPError(
            f"Milvus at {place.uri} ranks wrongly: inner products are 1.0 of document 1 and 0.5 of "
            f"document 0, and it says {ranking}: take another version"
        )
