"""The forward store: by id, what rerankers look at of each document.

Tokens are kept as a codec makes them (`lexlip.storage.codecs`), Gaussians in half precision beside
the sum of their variances, with which the closed-form distance of PCME++ is one inner product:
CSD = 2 - 2 <mean, query mean> + total variance + the query's (Chun, ICLR 2024). They are made
durable before the engine commits, as the float vectors are (`lexlip.storage.floats`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.storage.arrays import map_array, save_array
from lexlip.storage.codecs import Codec, codec_type
from lexlip.storage.fields import save, take
from lexlip.storage.ids import check_ids
from lexlip.storage.part_store import PartStore, Places
from lexlip.storage.views import Views

_SMALL = 256
"""Parts up to this many documents are always merged: 3 MB at 49 int8 tokens of width 256."""

_GAUSSIANS = ("mean", "log-variance", "total-variance")
_TOKENS, _CODEC = "tokens-", "codec-"  # how files of a codec's rows and parameters begin


@dataclass(frozen=True)
class Gathered:
    """Tokens of K candidates as `lexlip.rerank.kernel.late_scores` takes them.

    Attributes
    ----------
    codes : int8 [K, P, d]
        A candidate's own tokens first; what follows means nothing.
    scales : float32 [K, P]
        A token is its codes times its scale.
    counts : int32 [K]
        How many tokens each candidate has: 0 for one that is not held.
    held : bool [K]
        Which candidates the store holds.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    counts: NDArray[np.int32]
    held: NDArray[np.bool_]


@dataclass(frozen=True)
class _Rows:
    """Documents of a part, or on their way into one: arrays with a row each, by name."""

    codec: Codec | None  # None where there are no tokens
    fields: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Spread:
    """Gaussians of K candidates as they are kept: what is not asked for is not read.

    A candidate that the store does not hold has zeros.
    """

    _places: Places[_Rows]
    _size: int

    @property
    def held(self) -> NDArray[np.bool_]:
        """True for candidates that the store holds, bool [K]."""
        return self._places.source >= 0

    @cached_property
    def mean(self) -> NDArray[np.float16]:
        """Unit vectors but for the rounding, float16 [K, D]."""
        return self._read("mean", np.float16, self._size)

    @cached_property
    def log_variance(self) -> NDArray[np.float16]:
        """Logarithms, float16 [K, D]: variances are right to 0.4 % where above exp(-16)."""
        return self._read("log-variance", np.float16, self._size)

    @cached_property
    def total_variance(self) -> NDArray[np.float32]:
        """Sums of the variances as they were written, float32 [K]."""
        return self._read("total-variance", np.float32)

    def _read(self, name: str, kind: Any, *shape: int) -> NDArray[Any]:
        if self._size and self._places.sources:
            return take(self._places, name)
        return np.zeros((len(self._places), *shape), kind)


def _tokens(places: Places[_Rows]) -> tuple[Codec, NDArray[np.int32], dict[str, NDArray[Any]]]:
    """Return the codec, how many tokens each document has, and these tokens as they are kept."""
    codec, fields = places.sources[0].codec, places.sources[0].fields
    assert codec is not None
    names = [name for name in fields if name.startswith(_TOKENS)]
    rows = {name.removeprefix(_TOKENS): take(places, name) for name in names}
    return codec, take(places, "counts"), rows


class ForwardStore(PartStore[_Rows]):
    """Views of documents by id, in a folder of memory-mapped parts.

    One process may write, any number may read, each seeing one state until `reopen`. The first
    write fixes the codec, what it learned, and the widths of tokens and Gaussians.

    Parameters
    ----------
    path : path
        The folder.
    mode : {"r", "w"}
        "w" makes the folder if there is none.
    model : str, optional
        Fingerprint of the model whose views these are; a store of another model is refused.
    codec : str, optional
        How tokens are kept, one of `lexlip.storage.codecs.CODECS`: "int8" for a new store.

    Attributes
    ----------
    path : Path

    Raises
    ------
    LexLIPError
        The folder is missing (mode "r"), damaged, open for writing elsewhere (mode "w"), of
        another model, or keeps tokens in another way.

    Examples
    --------
    >>> import tempfile
    >>> store = ForwardStore(tempfile.mkdtemp(), "w")
    >>> tokens = np.array([[[0.6, 0.8], [1, 0]], [[0, 1], [0, 0]]], np.float32)
    >>> nothing = np.zeros((2, 0), np.float32)
    >>> store.write(["a", "b"], Views(tokens, np.array([2, 1], np.int32), nothing, nothing))
    >>> store.held(["b", "nobody"]).tolist(), len(store), store.token_size
    ([True, False], 2, 2)
    >>> store.read(["b", "nobody"]).tokens.tolist()
    [[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]
    >>> found = store.gather(["a"])
    >>> found.codes.tolist(), found.counts.tolist()
    ([[[76, 102], [127, 0]]], [2])
    >>> store.close()
    """

    FORMAT = "lexlip-views-1"

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Literal["r", "w"] = "r",
        model: str | None = None,
        codec: str | None = None,
    ) -> None:
        if codec is not None:
            codec_type(codec)
        self._model, self._codec = model, codec
        super().__init__(path, mode, _SMALL)

    def _check(self, facts: Mapping[str, Any]) -> None:
        model, codec = facts.get("model"), facts.get("codec")
        if self._model and model and self._model != model:
            raise LexLIPError(
                f"{self.path} holds views of model {model}, not of {self._model}: use that model, "
                "or build the index again with this one"
            )
        if self._codec and codec and self._codec != codec:
            raise LexLIPError(
                f"{self.path} keeps tokens as {codec}, not as {self._codec}: name no codec, or "
                "make a new store"
            )

    def _open(self, folder: Path, facts: Mapping[str, Any]) -> tuple[_Rows, int]:
        names, codec, d = ["counts"], None, facts["token_size"]
        if d:
            kind = codec_type(facts["codec"])
            codec = kind({name: map_array(folder, _CODEC + name) for name in kind.PARAMETERS})
            names += [_TOKENS + name for name in codec.encode(np.empty((0, d), np.float32))]
        if facts["gaussian_size"]:
            names += _GAUSSIANS
        fields = {name: map_array(folder, name) for name in names}
        if len(set(map(len, fields.values()))) != 1:
            raise ValueError("its arrays differ in length")
        return _Rows(codec, fields), len(fields["counts"])

    def _save(self, folder: Path, places: Places[_Rows]) -> None:
        codec = places.sources[0].codec
        for name, array in codec.parameters.items() if codec else ():
            save_array(folder, _CODEC + name, array)
        save(folder, places)

    @property
    def token_size(self) -> int:
        """Width of tokens; 0 where there are none."""
        return self._current().facts.get("token_size", 0)

    @property
    def gaussian_size(self) -> int:
        """Dimensions of Gaussians; 0 where there are none."""
        return self._current().facts.get("gaussian_size", 0)

    @property
    def codec(self) -> str | None:
        """Codec of the tokens; None where there are none."""
        return self._current().facts.get("codec")

    def write(self, ids: Sequence[str], views: Views) -> None:
        """Store views in the place of those with the same ids; durable on return.

        Parameters
        ----------
        ids : sequence of str
            N names; of one that comes twice the last views stay.
        views : Views
            Of N documents, of any P. Those of the first write are what a codec learns from.

        Raises
        ------
        LexLIPError
            When numbers or widths differ from what they must be, views are not finite, or writing
            fails, as on a full disk: then all is as it was.
        """
        self._writable()
        names = [name.encode() for name in check_ids(ids)]
        if len(names) != len(views):
            raise LexLIPError(f"{len(names)} ids but views of {len(views)} documents: one each")
        if not names:
            return
        facts = self._facts_with(views)
        fields: dict[str, NDArray[Any]] = {"counts": np.zeros(len(names), np.int32)}
        codec = self._codec_for(views, facts["codec"]) if views.has_tokens else None
        if codec is not None:
            fields["counts"] = views.counts.astype(np.int32)
            mask = views.mask
            for name, rows in codec.encode(views.tokens[mask]).items():
                field = np.zeros((*mask.shape, rows.shape[1]), rows.dtype)
                field[mask] = rows
                fields[_TOKENS + name] = field
        if views.has_gaussians:
            total = np.exp(views.log_variance.astype(np.float64)).sum(1).astype(np.float32)
            halves = (views.mean.astype(np.float16), views.log_variance.astype(np.float16))
            fields |= zip(_GAUSSIANS, (*halves, total), strict=True)
        if not all(np.isfinite(array).all() for array in fields.values()):
            raise LexLIPError("some views are not finite or too large: train the heads again")
        self._write(names, _Rows(codec, fields), facts)

    def _facts_with(self, views: Views) -> dict[str, Any]:
        """Check views, and say what the store is once they are written."""
        facts = self._current().facts
        here = {"token_size": views.tokens.shape[2], "gaussian_size": views.mean.shape[1]}
        if not any(here.values()):
            raise LexLIPError("these views hold neither tokens nor Gaussians: train heads first")
        if not all(facts.get(name, size) == size for name, size in here.items()):
            held = [facts[name] for name in here]
            raise LexLIPError(
                f"{self.path} holds tokens of width {held[0]} and Gaussians of width {held[1]}, "
                f"these have {list(here.values())}: use the model that it was made with"
            )
        positions = views.tokens.shape[1]
        if views.has_tokens and not 0 <= views.counts.min() <= views.counts.max() <= positions:
            raise LexLIPError(f"counts must be 0..{positions}, the tokens that there is room for")
        if not np.isfinite(views.tokens).all():
            raise LexLIPError("some tokens are not finite: train the token head again")
        codec = facts.get("codec") or self._codec or "int8"
        model = facts.get("model") or self._model
        return {**here, "model": model, "codec": codec if here["token_size"] else None}

    def _codec_for(self, views: Views, name: str) -> Codec:
        """Return the codec of this store, made now where it is new."""
        parts = self._current().parts
        if parts and parts[0].rows.codec:
            return parts[0].rows.codec
        return codec_type(name).fit(views.tokens[views.mask])

    def held(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of K documents are here, bool [K]."""
        return self._current().find(ids).source >= 0

    def read(self, ids: Sequence[str]) -> Views:
        """Return the views of K documents; one that is not here has count 0 and zeros."""
        snapshot = self._current()
        places, width = snapshot.find(ids), self.token_size
        tokens = np.zeros((len(places), 0, width), np.float32)
        counts = np.zeros(len(places), np.int32)
        if width and snapshot.parts:
            codec, counts, rows = _tokens(places)
            tokens = codec.decode(rows)
        spread = Spread(places, self.gaussian_size)
        both = (half.astype(np.float32) for half in (spread.mean, spread.log_variance))
        views = Views(tokens, counts, *both)
        tokens[~views.mask] = 0
        return views

    def gather(self, ids: Sequence[str]) -> Gathered:
        """Return the tokens of K candidates, as fast as can be: int8 ones are not decoded."""
        snapshot = self._current()
        places, width = snapshot.find(ids), self.token_size
        held = places.source >= 0
        if not (width and snapshot.parts):
            none = np.zeros((len(places), 0), np.float32)
            counts = np.zeros(len(places), np.int32)
            return Gathered(np.zeros((*none.shape, width), np.int8), none, counts, held)
        codec, counts, rows = _tokens(places)
        return Gathered(*codec.codes(rows), counts, held)

    def gaussians(self, ids: Sequence[str]) -> Spread:
        """Return the Gaussians of K candidates, of which only what is used is read."""
        return Spread(self._current().find(ids), self.gaussian_size)
