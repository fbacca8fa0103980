"""An index as Python people look at it: length, ids, metadata, words, impacts, a line of text."""

from __future__ import annotations

import copy
from collections import Counter
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from lexlip import Hit, Index, Lexicon, LexLIPError, Query
from lexlip.engines.browsing import Facet
from lexlip.impacts import document_impacts
from lexlip.models.lexical.lexicalise import lexicalise
from lexlip.query.prepared import PreparedQuery
from tests.support.clips import WORDS, small_clip, small_tokenizer


@pytest.fixture(scope="module")
def index(kind, model, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("documents") / "photos.lex"
    with Index.create(path, model, photos, engine=kind) as index:
        yield index


def test_ids_are_gone_through_in_order(index):
    assert list(index) == sorted(index) == [f"{n:02}.png" for n in range(12)]
    assert len(index) == 12 and "03.png" in index and index
    for other in ("nothing.png", "", 3, None, "x" * 2000, "\ud800"):
        assert other not in index


def test_an_id_is_there_in_any_unicode_form(model, images, tmp_path):
    with Index.create(tmp_path / "x.lex", model, {"caf\u00e9": images[0]}) as index:
        assert "cafe\u0301" in index and index.metadata("cafe\u0301") == {}
        assert index.words_of("cafe\u0301") == index.words_of("caf\u00e9") != []


def test_metadata_of_one_and_of_several(index, photos):
    size = (photos / "03.png").stat().st_size
    assert index.metadata("03.png")["bytes"] == size
    assert index.metadata(iter(["03.png", "02.png"]))[0] == index.metadata("03.png")
    assert index.metadata([]) == []


def test_impacts_are_those_that_were_built(index, model, photos):
    weights = model.encode_document([photos / name for name in ("03.png", "07.png")])
    terms, scale = index.manifest["max_terms"], index.manifest["scale"]
    wanted, _ = document_impacts(weights, terms, scale)
    found = index.impacts(["03.png", "07.png"])
    assert found.shape == (2, len(model.lexicon.tokens)) and (found != wanted).nnz == 0
    words = index.words_of("03.png")
    row = wanted.toarray()[0]
    assert words == [
        (model.lexicon.tokens[t], row[t])
        for t in np.lexsort((np.arange(len(row)), -row))[: len(words)]
    ]
    assert len(words) == (row > 0).sum() and index.words_of("03.png", 2) == words[:2]
    assert index.impacts([]).shape == (0, len(model.lexicon.tokens))


def test_missing_documents_are_said_so(index):
    for call in (index.metadata, index.words_of, lambda id: index.impacts([id])):
        with pytest.raises(LexLIPError, match="'none.png'"):
            call("none.png")


@pytest.mark.parametrize("ids", [None, 3, [3], [None], [""]], ids=repr)
def test_no_ids_are_said_so(index, ids):
    for call in (index.metadata, index.impacts):
        with pytest.raises(LexLIPError, match="id"):
            call(ids)


def test_facets_count_values(index, photos):
    found = {facet.name: facet for facet in index.facets()}
    assert found["folder"].values == (("", 12),) and isinstance(found["folder"], Facet)
    sizes = [(photos / name).stat().st_size for name in index]
    assert (found["bytes"].smallest, found["bytes"].largest) == (min(sizes), max(sizes))
    some = index.facets(f"bytes > {sorted(sizes)[5]}")
    wanted = Counter("" for size in sizes if size > sorted(sizes)[5])
    assert dict(next(f for f in some if f.name == "folder").values) == wanted
    with pytest.raises(LexLIPError, match="most"):
        index.facets(most=0)


def test_words_that_are_true_of_a_picture(images, tmp_path):
    clip = lexicalise(small_clip(tmp_path / "clip", small_tokenizer()), images, WORDS)
    source = {f"{number}": image for number, image in enumerate(images[:4])}
    with Index.create(tmp_path / "x.lex", clip, source) as index:
        said = clip.represent([images[0]]).said
        true = dict(clip.decode(said)[0])
        found = dict(index.words_of("0", said=True))
        assert found.keys() <= true.keys() and found
        heaviest = max(true, key=true.__getitem__)
        assert index.words_of("0", 1, said=True)[0][0] == heaviest
        assert {word for word, _ in index.words_of("0")} <= set(clip.lexicon.tokens)
        assert index.impacts(["0"]).shape == (1, len(clip.lexicon.tokens))


def test_a_line_says_what_something_is(index, model, word_table, tmp_path):
    line = repr(index)
    assert "12 documents" in line and str(index.path) in line and index.manifest["engine"] in line
    for it in (index, model, word_table, model.lexicon, index.prepare("red")):
        assert "\n" not in repr(it) and len(repr(it)) < 500, repr(it)
    assert repr(model).startswith("<LexLIP ") and f"{len(model.lexicon):,} words" in repr(model)
    assert repr(Lexicon(("a", "dog"), np.array([1]))) == "<Lexicon: 1 words of 2 tokens: 'dog'>"
    assert repr(Hit("a.jpg", 3)) == "Hit(id='a.jpg', score=3)"
    assert repr(Query.parse("red -blue")) == "Query.parse('red -blue')"
    assert repr(PreparedQuery({1: 2}, {1: 0.5})).startswith("PreparedQuery(terms={1: 2}")
    with Index.create(tmp_path / "x.lex", model, {"a": "red"}) as other:
        pass
    assert "closed" in repr(other)


def test_an_index_goes_to_no_other_process(index):
    for send in (ForkingPickler.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(LexLIPError, match="open .* again there"):
            send(index)


def test_a_network_without_a_tokenizer_has_a_line_too(model):
    bare = type(model)(model.config)
    assert repr(bare) == "<LexLIP '': no lexicon yet>"
