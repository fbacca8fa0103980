"""A query table: what a text adds up to, and how an index is asked with it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.sparse import csr_array
from tokenizers import Tokenizer
from typer.testing import CliRunner

from lexlip import Index, Query
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.models.query_table import QueryTable, features_of
from tests.test_layering import modules_after


@pytest.fixture(scope="module")
def table(model):
    """Random rows for every word of the tiny model, and two pairs that it knows."""
    rng = np.random.default_rng(0)
    lexicon = model.lexicon
    size, wide = len(lexicon.tokens), len(lexicon)
    tokenizer = Tokenizer.from_str(model.processor.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    red, circle, star = (tokenizer.token_to_id(word) for word in ("red", "circle", "star"))
    pairs = np.sort([red * size + circle, circle * size + star])
    rows = rng.standard_normal((size + 2, wide)) * (rng.random((size + 2, wide)) < 0.4)
    rows[: len(model.processor.tokenizer.all_special_ids)] = 0
    return QueryTable(tokenizer, lexicon, csr_array(rows), pairs, model.fingerprint, 16)


@pytest.fixture(scope="module")
def folder(model, checkpoint, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "photos.lex"
    Index.create(path, model, photos, engine="postings", checkpoint=checkpoint).close()
    return path


def by_hand(table, words, pairs=()):
    """Add up rows of words and of numbered pairs, over the full vocabulary."""
    size = len(table.lexicon.tokens)
    ids = {table.tokenizer.raw.token_to_id(word) for word in words}
    total = sum(table.rows.toarray()[i] for i in [*ids, *(size + p for p in pairs)])
    full = np.zeros(size)
    full[table.lexicon.ids] = np.maximum(total, 0)
    return full


def test_a_text_is_the_sum_of_its_tokens_and_pairs(table):
    found = table.encode_text(["red star", "red circle", "star circle red", "circle star circle"])
    first, second = table.pairs // len(table.lexicon.tokens), (0, 1)
    number = {
        table.tokenizer.raw.id_to_token(int(t)): p for t, p in zip(first, second, strict=True)
    }
    expected = [
        by_hand(table, ["red", "star"]),
        by_hand(table, ["red", "circle"], [number["red"]]),
        by_hand(table, ["red", "circle", "star"]),
        by_hand(table, ["circle", "star"], [number["circle"]]),
    ]
    assert found.toarray() == pytest.approx(np.array(expected), abs=1e-6)
    assert found.has_sorted_indices and found.dtype == np.float32


def test_texts_without_known_words_ask_for_nothing(table):
    assert table.encode_text(["", "  ", "qqqq"]).nnz == 0
    assert table.encode_text([]).shape == (0, len(table.lexicon.tokens))
    assert table.terms("") == {} and table.words_of("qqqq") == []


def test_long_texts_are_read_in_windows(table):
    whole = table.encode_text(["red star " * 7 + "circle"]).toarray()  # 14 tokens fit
    parts = table.encode_text(["red star " * 4, "red star " * 3 + "circle"]).toarray()
    assert np.array_equal(whole[0], parts.max(0))


@pytest.mark.parametrize("seed", range(3))
def test_features_are_what_counting_finds(seed):
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(0, 100, 20))
    ids = rng.integers(0, 10, seed * 7)
    expected = sorted(set(ids.tolist()))
    adjacent = {int(a * 10 + b) for a, b in zip(ids[:-1], ids[1:], strict=True)}
    expected += [10 + i for i, pair in enumerate(pairs.tolist()) if pair in adjacent]
    assert features_of(ids, 10, pairs).tolist() == expected
    assert features_of(ids, 10, pairs[:0]).tolist() == sorted(set(ids.tolist()))


def test_it_is_read_as_it_was_written(table, tmp_path):
    table.save_pretrained(tmp_path, note="x")
    again = QueryTable.from_pretrained(tmp_path)
    texts = ["red circle", "a green star at night"]
    assert again.encode_text(texts).toarray() == pytest.approx(
        table.encode_text(texts).toarray(), abs=4e-3
    )  # weights are kept in half precision
    assert again.fingerprint == table.fingerprint and again.lexicon.hash == table.lexicon.hash
    manifest = json.loads((tmp_path / "queries" / "manifest.json").read_text())
    assert manifest["note"] == "x" and manifest["model"] == table.fingerprint


def test_damage_is_one_line(table, tmp_path):
    with pytest.raises(LexLIPError, match="no query table"):
        QueryTable.from_pretrained(tmp_path)
    table.save_pretrained(tmp_path)
    file = tmp_path / "queries" / "table.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LexLIPError, match="corrupted"):
        QueryTable.from_pretrained(tmp_path)
    file.write_bytes(whole)
    (tmp_path / "queries" / "tokenizer.json").write_text("{}")
    with pytest.raises(LexLIPError, match="corrupted"):
        QueryTable.from_pretrained(tmp_path)
    manifest = tmp_path / "queries" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("query-table/1", "query-table/9"))
    with pytest.raises(LexLIPError, match="query-table/9"):
        QueryTable.from_pretrained(tmp_path)


def test_an_index_is_asked_with_a_table(table, folder, model):
    with Index.open(folder, table) as asked, Index.open(folder, model) as other:
        text = "red circle"
        terms = asked.query(text)
        assert terms == table.terms(text) and max(terms.values()) == 64
        assert asked.query(text, max_terms=2, max_weight=9) == table.terms(text, 2, 9)
        assert asked.search(text, k=5) == other.search(terms, k=5)
        assert sum(c.score for c in asked.explain(asked.search(text)[0].id, text)) > 0
        query = Query.parse("red + 0.5:star -circle must:red")
        assert {hit.id for hit in asked.search(query)} <= {f"{i:02}.png" for i in range(12)}
        with pytest.raises(LexLIPError, match="texts only"):
            asked.search(folder / "x.png")
        with pytest.raises(LexLIPError, match="not in the model's lexicon"):
            asked.search(Query.text("red").must("qqqq"))


def test_a_table_of_another_model_is_refused(table, folder):
    other = QueryTable(table.tokenizer.raw, table.lexicon, table.rows, table.pairs, "0" * 64, 16)
    with pytest.raises(LexLIPError, match="another model"):
        Index.open(folder, other)


def test_the_command_line_searches_with_it(table, folder, model, photos, tmp_path):
    model.save_pretrained(tmp_path / "ckpt")
    table.save_pretrained(tmp_path / "ckpt")
    arguments = ["search", str(folder), "red circle", "--json", "-k", "3", "--encoder"]
    done = CliRunner().invoke(app, [*arguments, "table", "-m", str(tmp_path / "ckpt")])
    assert done.exit_code == 0, done.output
    with Index.open(folder, QueryTable.from_pretrained(tmp_path / "ckpt")) as index:
        expected = [hit.id for hit in index.search("red circle", k=3)]
    assert [hit["id"] for hit in json.loads(done.stdout)["hits"]] == expected
    none = CliRunner().invoke(app, [*arguments, "table"])  # the index's own checkpoint has none
    assert none.exit_code == 2 and "no query table" in none.stderr
    wrong = CliRunner().invoke(app, [*arguments, "oracle"])
    assert wrong.exit_code == 2 and "choose auto, network or table" in wrong.stderr


def test_a_table_needs_no_torch():
    loaded = modules_after("import lexlip.models.query_table, lexlip.index, tokenizers")
    assert not loaded & {"torch", "transformers"}
