"""Long texts: every word counts, in networks and tables, in Python and over HTTP."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from lexlip import Index
from lexlip.models.dense_control import DenseDualEncoder
from lexlip.models.lexical.lexicalise import lexicalise
from lexlip.models.windows import pool_vectors, reading, spans, windows
from lexlip.server.app import create_app
from lexlip.server.settings import Settings
from tests.support.clips import WORDS, small_clip, small_tokenizer

START = "a small green square above " * 12
LONG = START + "a red circle"


@pytest.fixture(scope="module", params=["network", "table"])
def speaker(request, model, word_table):
    return {"network": model, "table": word_table}[request.param]


def test_the_end_of_a_long_text_is_read(speaker):
    said = dict(speaker.words_of(LONG, 100))
    assert {"red", "circle", "green", "square"} <= set(said)
    assert (speaker.encode_text([LONG]) != speaker.encode_text([START])).nnz


def test_a_long_text_has_the_largest_weights_of_its_windows(model):
    parts = model.windows(LONG).parts
    assert len(parts) > 3 and " ".join(parts) == LONG
    alone = model.encode_text(parts).toarray()
    whole = model.encode_text(["a star", LONG, "", "a red circle"])
    assert np.allclose(whole.toarray()[1], alone.max(0), rtol=1e-5)
    others = model.encode_text(["a star", "", "a red circle"]).toarray()
    assert np.allclose(whole.toarray()[[0, 2, 3]], others, atol=1e-4)
    words, views = model.represent_text([LONG])
    assert np.allclose(words.toarray(), whole.toarray()[[1]], rtol=1e-5) and len(views) == 1


@given(st.lists(st.integers(1, 5), max_size=40), st.integers(1, 9))
def test_windows_are_whole_words_and_fit(lengths, size):
    words = [number for number, length in enumerate(lengths) for _ in range(length)]
    found = spans(words, size)
    assert found[0][0] == 0 and found[-1][1] == len(words)
    assert all(a[1] == b[0] for a, b in pairwise(found))
    assert all(end - start <= size for start, end in found)
    for _, end in found[:-1]:
        cut = words[end - 1] == words[end]
        assert not cut or lengths[words[end]] > size


@given(st.text(max_size=200))
def test_no_text_is_too_odd_to_read(model, text):
    parts, (count,) = model.windows([text])
    assert len(parts) == count >= 1
    sizes = [len(model.tokenizer(part)["input_ids"]) for part in parts]
    assert max(sizes) <= model.config.max_text_length


def test_views_of_all_windows_are_compared(model_with_heads):
    parts = model_with_heads.windows(LONG).parts
    alone = model_with_heads.represent_text(parts)[1]
    whole = model_with_heads.represent_text([LONG, "a star"])[1]
    tokens = np.concatenate([t[:n] for t, n in zip(alone.tokens, alone.counts, strict=True)])
    assert whole.counts[0] == len(tokens) > whole.counts[1]
    assert np.allclose(whole.tokens[0, : len(tokens)], tokens, atol=1e-5)
    assert np.allclose(np.linalg.norm(whole.mean, axis=1), 1, atol=1e-5)
    assert np.allclose(whole.log_variance[0], alone.log_variance.mean(0), atol=1e-5)


def test_vectors_of_windows_are_averaged(make_model):
    dense = make_model(kind=DenseDualEncoder)
    parts = dense.windows(LONG).parts
    alone, whole = dense.encode_query(parts), dense.encode_query([LONG, "a star"])
    mean = alone.mean(0) / np.linalg.norm(alone.mean(0))
    assert np.allclose(whole[0], mean, atol=1e-5)
    assert np.allclose(whole[1], dense.encode_query(["a star"])[0], atol=1e-5)
    assert pool_vectors(alone, [1] * len(alone)) is alone


def test_dual_encoders_read_long_texts(images, tmp_path):
    clip = lexicalise(small_clip(tmp_path / "clip", small_tokenizer()), images, WORDS)
    long = "red dog " * clip.encoder.max_text_length + "big star"
    read = reading(clip.encoder.tokenizer)
    room = clip.encoder.max_text_length - clip.encoder.tokenizer.num_special_tokens_to_add()
    parts = windows(long, read, room)
    assert len(parts) > 1 and " ".join(parts) == long
    mean = clip.encoder.embed_text(parts).mean(0)
    both = clip.embed_text([long, "red dog"])
    assert np.allclose(both[0], mean / np.linalg.norm(mean), atol=1e-5)
    assert np.allclose(both[1], clip.encoder.embed_text(["red dog"])[0], atol=1e-5)
    other = clip.embed_text([long.replace("big star", "red dog")])[0]
    assert not np.allclose(both[0], other, atol=1e-4)


def test_a_trace_of_a_long_text_gives_its_weights(model):
    weights = model.encode_text([LONG])
    traced = model.trace_text(LONG)
    assert list(traced.words) == LONG.split()
    assert set(traced.raised) == set(weights.indices.tolist())
    for term, weight in zip(weights.indices.tolist(), weights.data, strict=True):
        assert traced.raised[term].weight == pytest.approx(weight, rel=1e-4)
    shares = model.text_attention(LONG)
    assert [word for word, _ in shares] == LONG.split()
    assert sum(share for _, share in shares) == pytest.approx(1)


def test_an_index_and_http_read_long_texts(speaker, model, tmp_path):
    path = tmp_path / "texts.lex"
    texts = {"long": LONG, "star": "a star", "start": START}
    with Index.create(path, speaker, texts, engine="postings") as index:
        terms = index.query(LONG)
        asked = index.search({t: w for t, w in terms.items()}, 3)
        assert index.search(LONG, 3) == asked and asked[0].id == "long"
    with TestClient(create_app(path, speaker, Settings()), "http://127.0.0.1") as client:
        found = client.get("/search", params={"q": LONG, "k": 3}).json()
    assert {"red", "circle"} <= {word["word"] for word in found["query"]["words"]}
    assert [(hit["id"], hit["score"]) for hit in found["hits"]] == asked
