"""Walks over all documents, and the spools that they turn on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, vstack
from scipy.sparse import random as random_sparse

from lexlip.storage import spool as spools
from lexlip.storage.spool import Spool
from tests.support.oracles import as_dicts, collection


def walked(engine):
    """Return ids and {id: {term: impact}} as a walk yields them."""
    found = list(engine.walk())
    ids = [id for names, _ in found for id in names]
    every = {}
    for names, rows in found:
        assert rows.shape[0] == len(names)
        every |= as_dicts(names, rows)
    return ids, every


def test_a_walk_yields_all_living_documents_by_id(engine, monkeypatch):
    monkeypatch.setattr("lexlip.engines.postings.browsing._WALK", 50)
    monkeypatch.setattr("lexlip.engines.lucene.walking._MANY", 64)
    assert walked(engine) == ([], {})
    ids, impacts = collection(240, v=40, seed=4)
    engine.add(ids[:30], impacts[100:130])  # replaced below
    engine.commit()
    for part in np.array_split(np.arange(240), 3):
        engine.add([ids[i] for i in part], impacts[part])
        engine.commit()
    engine.delete(ids[200:])
    engine.add(["nothing"], csr_array((1, 40), dtype=np.int32))
    engine.commit()
    wanted = as_dicts(ids[:200], impacts[:200]) | {"nothing": {}}
    assert walked(engine) == (sorted(wanted), wanted)
    engine.compact()
    assert walked(engine) == (sorted(wanted), wanted)


@given(st.integers(0, 30), st.integers(1, 12), st.integers(0, 9), st.integers(1, 40))
@settings(max_examples=30)
def test_a_spool_is_the_matrix_and_its_transpose(tmp_path_factory, rows, width, seed, piece):
    folder = tmp_path_factory.mktemp("spool")
    matrix = csr_array(random_sparse(rows, width, 0.3, "csr", random_state=seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spools, "_PIECE", piece)
        spool = Spool(folder / "rows", np.float64)
        for start in range(0, rows, 7):
            spool.append(csr_array(matrix[start : start + 7]))
        spool.append_row(np.array([width - 1]), np.array([2.5]))
        whole = vstack([matrix, csr_array(([2.5], ([0], [width - 1])), shape=(1, width))])
        assert len(spool) == rows + 1 and spool.entries == matrix.nnz + 1
        assert (spool.rows(0, rows + 1, width) != csr_array(whole)).nnz == 0
        turned = spool.turned(folder / "columns", width)
        found = turned.rows(0, width, rows + 1)
        assert (found != csr_array(whole.T.tocsr())).nnz == 0 and found.has_sorted_indices
        spool.close()
