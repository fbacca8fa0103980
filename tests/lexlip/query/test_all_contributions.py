"""Reasons of many hits at once are those of each alone, in small and in large indexes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip import Query
from lexlip.errors import LexLIPError
from lexlip.index import Index
from lexlip.query import contributions as module
from lexlip.query.contributions import all_contributions, contributions, held_by
from tests.support.cone_speaker import cone_speaker, picture


@pytest.mark.parametrize("few", [0, 5000])
def test_many_are_as_one_after_the_other(engine, monkeypatch, few):
    monkeypatch.setattr(module, "_FEW", few)
    rng = np.random.default_rng(few)
    impacts = rng.integers(1, 256, (60, 30)) * (rng.random((60, 30)) < 0.3)
    ids = [f"{number}.jpg" for number in range(60)]
    engine.add(ids, csr_array(impacts.astype(np.int32)))
    engine.commit()
    engine.delete(ids[:3])
    engine.commit()
    terms = {
        int(t): int(w)
        for t, w in zip(rng.permutation(40)[:12], rng.integers(1, 65, 12), strict=True)
    }
    for chosen in (ids[5:6], ids[10:30], ids[40:20:-3]):
        for id, held in zip(chosen, held_by(engine, chosen, terms), strict=True):
            row = impacts[ids.index(id)]
            wanted = {t: int(row[t]) for t in terms if t < 30 and row[t]}
            assert held == wanted and list(held) == list(wanted)
    assert held_by(engine, [], terms) == []
    with pytest.raises(LexLIPError):
        held_by(engine, [ids[0], ids[9]], terms)


@pytest.mark.parametrize("few", [0, 5000])
def test_words_that_are_said_come_first_for_all(tmp_path, monkeypatch, few):
    monkeypatch.setattr(module, "_FEW", few)
    speaker, _ = cone_speaker(60, 80)
    pictures = {f"p{number:02}": picture(number) for number in range(60)}
    with Index.create(tmp_path / "x", speaker, pictures, engine="postings") as index:
        query = index.prepare("caption 61")
        ids = [hit.id for hit in index.search(query, 20)]
        found = index.explain_all(ids, query)
        assert found == [index.explain(id, query) for id in ids]
        for id, words in zip(ids, found, strict=True):
            said = {word for word, _ in speaker.words_of(pictures[id], 500)}
            marks = [one.word in said for one in words]
            assert marks == sorted(marks, reverse=True)
        assert any(any(one.word for one in words) for words in found)


def test_an_index_explains_all_hits_as_each(model, photos, tmp_path):
    with Index.create(tmp_path / "x", model, photos, engine="postings") as index:
        query = index.prepare(Query.parse("red circle -0.5:star missing:9"))
        ids = [hit.id for hit in index.search(query, 12)]
        assert index.explain_all(ids, query) == [index.explain(id, query) for id in ids]
        assert index.explain_all([], query) == []
        first = all_contributions(index.engine, ids[:1], query.terms, model.lexicon, 9)
        assert first[0] == contributions(index.engine, ids[0], query.terms,
                                         model.lexicon.tokens, 9)  # fmt: skip
