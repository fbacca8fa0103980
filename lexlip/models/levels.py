"""Levels: lengths of documents that keep hubs down.

Among vectors some documents are near to all queries: hubs, which push right answers from their
ranks (Radovanović et al., JMLR 2010). A bank of typical queries c shows them. What a document x has
for queries in general is

    b(x) = T log mean_c exp(cos(c, x) / T)

(an inverted softmax: Smith et al., ICLR 2017), and its length becomes (b of a typical document /
b(x))^power in place of 1. A length is part of the impacts: searching costs what it did, no engine
knows of it, and an explanation still adds up. ``python -m pretrain.fit_levels`` leaves a bank in
the folder of a checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array, diags_array

from lexlip.errors import LexLIPError
from lexlip.impacts import unit_normalise
from lexlip.models.digests import FILES, check_digests, digests
from lexlip.models.fingerprints import check_same
from lexlip.storage.files import MANIFEST, atomic_directory, read_json, sha256_file, write_json

FORMAT = "lexlip-levels/1"
FOLDER = "levels"
"""Folder of the bank in the checkpoint whose documents it levels."""

_BANK = "bank.safetensors"
_KINDS = ("pictures", "texts")
_ROWS = 256
"""Documents that are compared with the bank at a time."""

MOST = 2.0
"""Largest length of a document, and one over the smallest."""


def has_levels(checkpoint: str | os.PathLike[str]) -> bool:
    """Say whether a checkpoint has a bank."""
    return (Path(checkpoint) / FOLDER / MANIFEST).is_file()


@dataclass(frozen=True)
class Levels:
    """Typical documents and queries of a model, and what follows for the length of others.

    Parameters
    ----------
    bank : mapping of str to csr_array [C, V]
        Unit rows of ``pictures`` and of ``texts``: the queries of documents of the other kind.
    typical : mapping of str to float
        b of a typical document of each kind.
    model : str
        Fingerprint of the model.
    temperature : float
        T.
    power : float
        0 leaves all lengths at one.

    Examples
    --------
    >>> bank = {"pictures": csr_array([[1.0, 0.0]]), "texts": csr_array([[1.0, 0.0], [0.8, 0.6]])}
    >>> levels = Levels.fit(bank, "a model", power=1.0)
    >>> [f"{x:.2f}" for x in levels.lengths(csr_array([[2.0, 0.0], [0.0, 2.0]]), texts=False)]
    ['1.00', '1.69']
    """

    bank: Mapping[str, csr_array]
    typical: Mapping[str, float]
    model: str
    temperature: float = 0.03
    power: float = 0.4
    rounded: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the model in lower precision, by its name."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    """sha256 of the file of the bank, which an index remembers."""

    @classmethod
    def fit(
        cls,
        bank: Mapping[str, csr_array],
        model: str,
        temperature: float = 0.03,
        power: float = 0.4,
        rounded: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> Levels:
        """Take the bank's own items for typical documents.

        Parameters
        ----------
        bank : mapping of str to csr_array [C, V]
            ``pictures`` and ``texts``, of any lengths.
        model : str
            Fingerprint.
        temperature, power : float
        rounded : mapping of str to str, optional
            Fingerprints of the model in lower precision.
        facts
            What else the manifest says.
        """
        rows = {kind: unit_normalise(csr_array(bank[kind])) for kind in _KINDS}
        told = dict(rounded or {})
        blank = cls(rows, dict.fromkeys(_KINDS, 1.0), model, temperature, power, told, facts)
        typical = {kind: float(blank._near(rows[kind], kind).mean()) for kind in _KINDS}
        return cls(rows, typical, model, temperature, power, told, facts)

    def lengths(self, weights: csr_array, texts: bool) -> NDArray[np.float32]:
        """Lengths that documents should have, float32 [N]; 1 for one without words.

        Parameters
        ----------
        weights : csr_array [N, V]
            Of any lengths.
        texts : bool
            Whether the documents are texts, which pictures look for.
        """
        rows, kind = unit_normalise(csr_array(weights)), "texts" if texts else "pictures"
        near = np.maximum(self._near(rows, kind), 1e-6)
        lengths = np.clip((self.typical[kind] / near) ** self.power, 1 / MOST, MOST)
        return np.where(np.diff(rows.indptr) > 0, lengths, 1.0).astype(np.float32)

    def levelled(self, weights: csr_array, texts: bool) -> csr_array:
        """Documents [N, V] with the lengths that they should have, float32."""
        rows = unit_normalise(csr_array(weights))
        lengths = diags_array(self.lengths(rows, texts))
        return csr_array(lengths @ rows, dtype=np.float32)

    def _near(self, rows: csr_array, kind: str) -> NDArray[np.float64]:
        """b of unit rows [N, V]."""
        from scipy.special import logsumexp

        queries = self._transposed["texts" if kind == "pictures" else "pictures"]
        parts = [np.zeros(0)]
        for start in range(0, rows.shape[0], _ROWS):
            cosines = (rows[start : start + _ROWS] @ queries).toarray().astype(np.float64)
            mean = logsumexp(cosines / self.temperature, axis=1) - np.log(queries.shape[1])
            parts.append(self.temperature * mean)
        return np.concatenate(parts)

    @cached_property
    def _transposed(self) -> dict[str, csr_array]:
        return {kind: csr_array(rows.T, dtype=np.float32) for kind, rows in self.bank.items()}

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the bank and a manifest into the folder ``levels`` of a checkpoint."""
        tensors = {}
        for kind, rows in self.bank.items():
            tensors[f"{kind}.indptr"] = rows.indptr.astype(np.int64)
            tensors[f"{kind}.indices"] = rows.indices.astype(np.int32)
            tensors[f"{kind}.weights"] = rows.data.astype(np.float16)
        manifest = {
            "format": FORMAT,
            "model": self.model,
            "rounded": dict(self.rounded),
            "terms": int(self.bank["texts"].shape[1]),
            "temperature": self.temperature,
            "power": self.power,
            "typical": dict(self.typical),
            **self.facts,
        }
        with atomic_directory(Path(folder) / FOLDER) as new:
            save_file(tensors, new / _BANK)
            write_json(new / MANIFEST, {**manifest, FILES: digests(new)})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> Levels | None:
        """Read the bank of a checkpoint; None where it has none.

        Raises
        ------
        LexLIPError
            When it is corrupted, or of another format.
        """
        folder = Path(name) / FOLDER
        if not has_levels(name):
            return None
        try:
            facts = read_json(folder / MANIFEST)
            if facts["format"] != FORMAT:
                raise KeyError(facts["format"])
            check_digests(folder, facts, [_BANK])
            arrays, width = load_file(folder / _BANK), int(facts["terms"])
            bank = {}
            for kind in _KINDS:
                indptr, indices, data = (
                    arrays[f"{kind}.{part}"] for part in ("indptr", "indices", "weights")
                )
                shape = (len(indptr) - 1, width)
                rows = csr_array((data.astype(np.float32), indices, indptr), shape=shape)
                rows.check_format()
                bank[kind] = unit_normalise(rows)
            typical = {kind: float(facts["typical"][kind]) for kind in _KINDS}
            numbers = float(facts["temperature"]), float(facts["power"])
            model, rounded = str(facts["model"]), dict(facts["rounded"])
            digest = sha256_file(folder / _BANK)
            return cls(bank, typical, model, *numbers, rounded, digest=digest)
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise LexLIPError(
                f"the levels at {folder} are corrupted: put back a copy, or delete that folder "
                "(then lengths are one)"
            ) from error


def levels_of(name: str | os.PathLike[str], speaker: Any) -> Levels | None:
    """Read the bank of a checkpoint for the model in it; None where it has none.

    A model that was never saved has no name, and no bank.

    Raises
    ------
    LexLIPError
        When it is of another model.
    """
    levels = Levels.from_pretrained(name) if name else None
    if levels is not None:
        advice = "delete that folder, or fit it again (the job pretrain.fit_levels)"
        known = {"model": levels.model, "rounded": levels.rounded, "checkpoint": name}
        check_same(Path(name) / FOLDER, known, speaker, advice)
    return levels
