"""Formats on disk: checkpoints and indexes that an earlier version wrote still open.

`tests/fixtures/before_packages` was written when the library was one flat folder of modules: eight
pictures of coarse noise (`tests.conftest.noise`), indexed by a tiny LexLIP with heads and a query
table, and by a tiny CLIP with a lexicon. One of the pictures was deleted from both indexes of the
LexLIP. What was found then stands in `expected.json`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lexlip import Index
from lexlip.build.encoded_parts import Encoded
from lexlip.errors import LexLIPError
from lexlip.models import load
from lexlip.models.query_table import QueryTable
from lexlip.storage.files import read_json

STORED = Path(__file__).resolve().parents[1] / "fixtures" / "before_packages"
EXPECTED = read_json(STORED / "expected.json")


@pytest.fixture
def stored(tmp_path, monkeypatch) -> Path:
    """A copy that may be written to, where its manifests find their checkpoints."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["postings.lex", pytest.param("lucene.lex", marks=pytest.mark.java)]
)
def test_an_index_answers_as_it_did(stored, name):
    expected = EXPECTED[name]
    terms = {int(term): weight for term, weight in expected["terms"].items()}
    with Index.open(stored / name) as index:
        assert index.model.fingerprint == expected["fingerprint"]
        assert [[hit.id, hit.score] for hit in index.search(terms, 5)] == expected["hits"]
        asked = index.query("a red circle")
        assert asked.keys() == terms.keys()
        assert all(abs(asked[term] - terms[term]) <= 1 for term in terms)
        assert index.check() == []


def test_an_index_of_an_old_clip_names_the_command_that_renews_its_model(stored):
    expected = EXPECTED["clip.lex"]
    terms = {int(term): weight for term, weight in expected["terms"].items()}
    with Index.open(stored / "clip.lex") as index:
        assert [[hit.id, hit.score] for hit in index.search(terms, 5)] == expected["hits"]
        with pytest.raises(LexLIPError, match="renew it with lexlip lexicalise PICTURES --clip"):
            index.search("a red circle")


def test_what_lies_beside_an_index_is_read(stored):
    expected = EXPECTED["postings.lex"]
    with Index.open(stored / "postings.lex") as index:
        rescored = index.search("a red circle", 5, rescore=8)
        reranked = index.search("a red circle", 5, rerank="filip")
    assert [hit.id for hit in rescored] == expected["rescored"]
    assert [hit.id for hit in reranked] == expected["reranked"]


def test_an_index_can_be_changed(stored):
    with Index.open(stored / "postings.lex", mode="w") as index:
        before = len(index)
        assert index.delete(["00.png"]) == 1
    with Index.open(stored / "postings.lex") as index:
        assert len(index) == before - 1


def test_checkpoints_and_parts_open(stored):
    model = load(stored / "checkpoint")
    assert QueryTable.from_pretrained(stored / "checkpoint").fingerprint == model.fingerprint
    assert len(Encoded.open(stored / "encoded").read(0).ids) == 8


def test_no_fixture_names_a_folder_of_the_machine_that_made_it():
    fixtures = STORED.parent
    found = [path for path in fixtures.rglob("*.json") if b'"/' in path.read_bytes()]
    assert len(list(fixtures.rglob("*.json"))) > 10 and found == []
