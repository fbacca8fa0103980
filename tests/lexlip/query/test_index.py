"""Queries with a model: what a sum is in the vocabulary, and what an index finds for it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from lexlip import Index, Query
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.impacts import quantise_query, query_terms, unit_normalise


@pytest.fixture(scope="module")
def folder(model, checkpoint, photos, tmp_path_factory):
    """An index of the twelve pictures, with float vectors; for reading only."""
    path = tmp_path_factory.mktemp("query") / "photos.lex"
    Index.create(
        path, model, photos, engine="postings", checkpoint=checkpoint, keep_floats=True
    ).close()
    return path


@pytest.fixture
def index(folder, model):
    with Index.open(folder, model) as opened:
        yield opened


def vector(model, *items):
    """Add up (weight, text or picture) by hand: float64 [V]."""
    total = np.zeros(len(model.lexicon.tokens))
    for weight, item in items:
        total += weight * unit_normalise(model.encode_document([item])).toarray()[0]
    return total


def quantised(total, max_terms=64):
    """Quantise a vector of either sign by hand: {term: weight}."""
    order = sorted(np.flatnonzero(total), key=lambda t: (-abs(total[t]), t))[:max_terms]
    scaled = {t: int(np.rint(total[t] / np.abs(total).max() * 64)) for t in sorted(order)}
    return {int(t): w for t, w in scaled.items() if w}


@pytest.mark.parametrize("text", ["a red circle", "two blue squares in the snow", "star"])
def test_a_query_of_one_text_is_that_text(index, text):
    assert index.query(Query.text(text)) == index.query(Query.parse(text)) == index.query(text)
    assert index.search(Query.parse(text), 5) == index.search(text, 5) != []
    assert index.search(3 * Query.text(text), 5) == index.search(text, 5)
    assert index.explain("03.png", Query.text(text)) == index.explain("03.png", text)


def test_a_query_of_one_picture_is_that_picture(index, images, photos):
    for i in (0, 5):
        path = photos / f"{i:02}.png"
        for query in (Query.image(path), Query.image(images[i]), Query.parse(f"img:{path}")):
            assert index.search(query, 5) == index.search(path, 5)


def test_parts_are_brought_to_length_one_and_quantised_once(index, model, images):
    parts = [(1.0, "a red circle"), (2.5, images[3]), (-4.0, "star"), (1.0, "a red circle")]
    query = Query()
    for weight, item in parts:
        query += weight * (Query.text(item) if isinstance(item, str) else Query.image(item))
    expected = quantised(vector(model, *parts))
    assert index.query(query) == expected
    assert min(expected.values()) < 0 and max(map(abs, expected.values())) == 64
    assert index.query(query, max_terms=5) == quantised(vector(model, *parts), 5)
    assert len(index.query(query, max_terms=5)) == 5


def test_weights_move_the_balance(index, model, images):
    picture, text = unit_normalise(model.encode_image(images[2:3])), "large green star"
    words = unit_normalise(model.encode_text([text]))
    of_text, of_picture = [], []
    for weight in (0.125, 0.25, 0.5, 1, 2, 4, 8):
        terms = index.query(Query.image(images[2]) + weight * Query.text(text))
        asked = np.zeros(words.shape[1])
        asked[list(terms)] = list(terms.values())
        asked /= np.linalg.norm(asked)
        of_text.append(float((words @ asked)[0]))
        of_picture.append(float((picture @ asked)[0]))
    assert of_text == sorted(set(of_text))
    assert of_picture == sorted(set(of_picture), reverse=True)
    # At weight one a picture of many words does not drown a text of few.
    assert of_text[3] == pytest.approx(of_picture[3], abs=0.05)


def test_whole_weights_stay_what_they_are(index):
    one, two = (index.query(text) for text in ("a red circle", "one large green star"))
    first, second = (
        Query.from_words({w: int(np.ceil(n / 16)) for w, n in index.words(t)}) for t in (one, two)
    )
    scores = [{hit.id: hit.score for hit in index.search(q, 100)} for q in (first, second)]
    for a, b in ((1, 1), (3, 4), (9, 1), (5, -2)):
        hits = index.search(a * first + b * second, 100)
        assert len(hits) == 12
        for name, score in hits:
            assert score == a * scores[0].get(name, 0) + b * scores[1].get(name, 0)
    assert index.query(Query.from_words(dict(index.words(one)))) == one
    # Beyond 64 the whole sum is scaled.
    assert max(index.query(65 * first).values()) == 64


def test_the_words_of_a_query_are_the_query(index, model):
    for text in (
        "a red circle",
        "star - square",
        "circle -0.5:blue must:red",
        "star boost:star^.5",
    ):
        query = Query.parse(text)
        resolved = query.resolved(model)
        assert index.search(resolved, 20) == index.search(query, 20)
        assert Query.parse(str(resolved)) == resolved
        assert resolved.words() == query.words(model) == dict(index.words(index.query(query)))
        assert all(type(weight) is int for weight in resolved.words().values())


def test_boosts_multiply_a_word_of_the_sum(model):
    tokens = model.lexicon.tokens
    total = vector(model, (1, "a red circle"), (1, "red square"))
    total[tokens.index("red")] *= 3
    query = Query.parse("a red circle + red square boost:red^3")
    assert dict(query.prepare(model).terms) == quantised(total)
    assert dict(Query.parse("red^3 circle^4 boost:red^2").words(model)) == {"red": 6, "circle": 4}
    assert "red" not in Query.parse("a red circle boost:red^0").words(model)


def test_what_cancels_out_is_gone(index):
    assert index.search(Query.parse("0.1:star 0.2:star -.3:star")) == []
    assert index.query(Query.parse("red^.1 red^.2 red^-.3 + star^2 circle^2 -1:circle^2")) == (
        index.query(Query.parse("star^2"))
    )


def test_what_is_looked_for_never_vanishes(index, model):
    terms = index.query(Query.parse("star -1000:square"))
    assert max(terms.values()) == 1 and min(terms.values()) == -64
    hits = index.search(Query.parse("star^1 square^-64"), 20)
    assert {hit.id for hit in hits} == {hit.id for hit in index.search({**one(model, "star")}, 20)}


def one(model, word, weight=1):
    return {model.lexicon.tokens.index(word): weight}


def having(index, model, *words, at_least=1):
    """Ids of the documents with all these words, an impact at a time."""
    found = [
        {h.id for h in index.search(one(model, word), 100) if h.score >= at_least} for word in words
    ]
    return set.intersection(*found)


def some_words(index, model, fewest=2, most=10):
    """Words that some but not all of the twelve pictures have."""
    words = [model.lexicon.tokens[i] for i in model.lexicon.ids]
    return [w for w in words if fewest <= len(having(index, model, w)) <= most]


def test_must_and_exclude_are_exact_and_leave_scores_alone(index, model):
    every = index.search("a red circle above two blue squares", 100)
    words = some_words(index, model)
    assert len(words) >= 2
    for first, second in zip(words, words[1:], strict=False):
        for at_least in (1, 30):
            base = Query.text("a red circle above two blue squares")
            has = having(index, model, first, at_least=at_least)
            both = having(index, model, first, second, at_least=at_least)
            hits = index.search(base.exclude(first, at_least), 100)
            assert hits == [h for h in every if h.id not in has]
            assert index.search(base.must(first, at_least), 100) == [
                h for h in every if h.id in has
            ]
            pair = f"a {first} {second}"  # words of no content do not count
            assert index.search(base.must(pair, at_least), 100) == [
                h for h in every if h.id in both
            ]
            assert index.search(base.exclude(pair, at_least), 100) == [
                h for h in every if h.id not in both
            ]
            k = len(hits) // 2 + 1
            assert index.search(base.exclude(first, at_least), k) == hits[:k]


def test_filters_go_with_exclusions_and_subtractions(index, model):
    word = some_words(index, model)[0]
    query = Query.text("a red circle") - 0.5 * Query.text("star")
    query = query.exclude(word)
    every = index.search(query, 100)
    assert every == index.search(query, 100, "bytes >= 0") != []
    sizes = {hit.id: index.engine.fetch([hit.id])[0]["bytes"] for hit in every}
    cut = sorted(sizes.values())[len(sizes) // 2]
    kept = [hit for hit in every if sizes[hit.id] >= cut]
    assert index.search(query, 100, f"bytes >= {cut}") == kept
    assert index.search(query, 2, f"bytes >= {cut}") == kept[:2]


def test_explanations_sum_to_the_score(index):
    for text in ("a red circle -0.8:star", "star missing:40", "circle -2:square missing:7"):
        query = Query.parse(text)
        hits = index.search(query, 12)
        for hit in hits:
            why = index.explain(hit.id, query)
            assert sum(c.score for c in why) == hit.score
        if "-" in text:
            assert any(c.score < 0 for hit in hits for c in index.explain(hit.id, query))
    plain = {hit.id: hit.score for hit in index.search("star", 12)}
    assert all(h.score <= plain[h.id] for h in index.search(Query.parse("star missing:40"), 12))


def test_rescoring_takes_signed_queries(index, model, images):
    query = Query.parse("a red circle -0.5:star")
    hits = index.search(query, 12, rescore=12)
    exact = vector(model, (1, "a red circle"), (-0.5, "star"))
    exact /= np.linalg.norm(exact)
    cosines = unit_normalise(model.encode_image(images)) @ exact
    assert len(hits) > 1
    for hit in hits:
        assert hit.score == pytest.approx(cosines[int(hit.id[:2])], abs=0.01)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    with pytest.raises(LexLIPError, match="missing"):
        index.search(query.penalise(2), 5, rescore=5)


def test_must_alone_looks_for_its_words(index, model):
    word = some_words(index, model)[0]
    hits = index.search(Query.parse(f"must:{word}"), 100)
    assert {h.id for h in hits} <= having(index, model, word) and hits
    assert hits == index.search(Query.text(word).must(word), 100)


@pytest.mark.parametrize("text", ["-star", "-1:star", "red^-3", "-2:star -1:square -red", "0:star"])
def test_nothing_looked_for_is_said_so(index, text):
    with pytest.raises(LexLIPError, match="only what is not wanted: add what to look for"):
        index.search(Query.parse(text))


@pytest.mark.parametrize("text", ["a -xyzzy", "a must:xyzzy", "a xyzzy^3", "a boost:xyzzy^2"])
def test_unknown_words_are_named(index, text):
    with pytest.raises(LexLIPError, match="'xyzzy' is not in the model's lexicon"):
        index.search(Query.parse(text))
    with pytest.raises(LexLIPError, match="did you mean 'circle'"):
        index.search(Query.parse(text.replace("xyzzy", "circel")))


def test_words_without_content_are_no_condition(index):
    with pytest.raises(LexLIPError, match="'the' has no word that a picture can have"):
        index.search(Query.parse("star must:the"))


def test_unknown_texts_find_nothing(index, model):
    query = Query.parse("xyzzy")
    assert index.search(query) == [] and query.words(model) == {}
    assert index.search(query.resolved(model).must("star")) == []
    assert index.search(Query.parse("xyzzy + star"), 5) == index.search("star", 5)


def test_plain_search_reads_no_grammar(index, model):
    text = "a red circle -star"
    weights = query_terms(quantise_query(model.encode_text([text])))
    assert index.query(text) == weights != index.query(Query.parse(text))


def test_signed_terms_are_searched(index, model):
    terms = {**one(model, "red", 9), **one(model, "star", -4)}
    assert index.search(terms, 12) == index.search(Query.parse("red^9 star^-4"), 12)


@pytest.mark.java
def test_lucene_finds_the_same(index, model, photos, tmp_path, lucene):
    words = some_words(index, model)
    with Index.create(tmp_path / "photos.lex", model, photos, engine="lucene") as other:
        for text in (
            f"a red circle - {words[0]}",
            f"star -0.5:square must:{words[1]}",
            f"a circle + 2:img:{photos / '03.png'} -{words[0]}>=40 missing:3",
            'star + "two blue squares" -2:red boost:star^3',
        ):
            query = Query.parse(text)
            assert other.search(query, 7) == index.search(query, 7)
            for hit in other.search(query, 3):
                assert other.explain(hit.id, query) == index.explain(hit.id, query)


# The command line


def lexlip(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_search_reads_the_grammar(folder, index, model):
    word = some_words(index, model)[0]
    text = f"a red circle + 2:star -3:square -{word}"
    found = json.loads(lexlip("search", folder, text, "--json", "--explain", "-k", 12).stdout)
    query = Query.parse(text)
    assert [(h["id"], h["score"]) for h in found["hits"]] == index.search(query, 12)
    assert found["query"] == query.words(model) and found["asked"].endswith(f"-{word}")
    assert all(sum(h["words"].values()) == h["score"] for h in found["hits"])
    assert any(score < 0 for h in found["hits"] for score in h["words"].values())
    shown = lexlip("search", folder, text, "--explain").stdout
    assert f" -{word}\n" in shown and ":-" in shown
    asked = shown.partition("query: ")[2].partition("\n")[0]
    again = lexlip("search", folder, asked, "--json", "-k", 3)
    assert again.exit_code == 0 and json.loads(again.stdout)["asked"].endswith(f"-{word}")


def test_search_adds_a_picture_to_a_text(folder, index, photos):
    path = photos / "04.png"
    found = json.loads(lexlip("search", folder, "star", "--image", path, "--json").stdout)
    same = json.loads(lexlip("search", folder, f"star + img:{path}", "--json").stdout)
    hits = index.search(Query.text("star") + Query.image(path))
    assert [(h["id"], h["score"]) for h in found["hits"]] == hits and found == same


def test_words_shows_what_a_query_is(checkpoint, model):
    result = lexlip("words", "a red circle -0.5:star - square must:red", "-m", checkpoint)
    assert result.exit_code == 0, result.output
    *rows, conditions = result.stdout.splitlines()
    words = Query.parse("a red circle -0.5:star").words(model)
    assert [row.split()[:2] for row in rows] == [
        [f"{weight:.3f}", word] for word, weight in list(words.items())[:20]
    ]
    assert conditions == "must:red -square"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('red "circle', "at character 5"),
        ("red -", "at character 5"),
        ("star - xyzzy", "'xyzzy' is not in"),
        ("-star", "add what to look for"),
        ("star img:http://x.y/z.png", "is a URL"),
    ],
)
def test_a_broken_query_is_one_line(folder, checkpoint, text, message):
    for command in (("search", folder, "--", text), ("words", "-m", checkpoint, "--", text)):
        result = lexlip(*command)
        assert result.exit_code == 2 and result.stdout == "", result.output
        (line,) = result.stderr.splitlines()
        assert line.startswith("lexlip: ") and message in line
