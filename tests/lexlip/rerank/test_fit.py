"""Fit of hits that words alone order: the share of the query's words that a picture says."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.query.contributions import Contribution
from lexlip.rerank.fit import WEAK_SHARE, share_said, weak_from


def test_shares_of_wanted_words_are_counted():
    terms = {0: 60, 1: 20, 2: -10}
    has = [Contribution("red", 60, 200), Contribution("night", -10, 5)]
    assert share_said(terms, has) == 0.75 and share_said(terms, ()) == 0
    missing = Contribution("dog", 20, -30)  # with a penalty for words that are not there
    assert share_said(terms, [*has, missing]) == 0.75
    assert share_said({2: -10}, has) is None


def test_fits_are_asked_for_until_there_are_enough(index_path):
    with Index.open(index_path) as index:
        query = index.prepare("a red circle")
        hits, asked = index.search(query, 12), []
        ask = index.engine.contributions
        index.engine.contributions = lambda id, terms: asked.append(id) or ask(id, terms)
        assert index.fitting(hits, query, 0.01, 2) == hits[:2]
        assert asked == [hit.id for hit in hits[:2]]
        assert index.fitting(hits, query, 1.01, 2) == []


def test_a_line_is_drawn_after_the_last_that_fits():
    assert weak_from([0.9, 0.2, 0.8, 0.1], 0.5) == 3
    assert weak_from([0.1, 0.2], 0.5) == 0 and weak_from([0.9], 0.5) is None
    assert weak_from([0.1, None], 0.5) is None and weak_from([0.1], None) is None


@pytest.fixture(scope="module")
def index_path(model, checkpoint, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "i"
    Index.create(path, model, photos, engine="postings", checkpoint=checkpoint).close()
    return path


def test_every_road_gives_the_same_fit(index_path):
    text = "a red circle"
    with Index.open(index_path) as index:
        hits = index.search(text, 12)
        fits = index.fits(hits, text)
        query = index.prepare(text)
        for hit, fit in zip(hits, fits, strict=True):
            held = index.engine.contributions(hit.id, query.terms)
            wanted = sum(query.terms.values())
            assert fit == pytest.approx(sum(query.terms[t] for t in held) / wanted)
        cut = sorted(fits)[len(fits) // 2]
        kept = [hit for hit, fit in zip(hits, fits, strict=True) if fit >= cut]
        assert index.search(text, 12, min_fit=cut) == kept
        assert index.search(text, 1, min_fit=cut) == kept[:1]
        assert index.fits(hits, text, [index.explain(hit.id, text) for hit in hits]) == fits
        assert index.fits(hits, dict(query.terms)) == fits
        assert index.weak_below == WEAK_SHARE
    runner = CliRunner()
    asked = ["search", str(index_path), text, "-k", "12"]
    found = json.loads(runner.invoke(app, [*asked, "--json"]).stdout)
    assert [hit["fit"] for hit in found["hits"]] == pytest.approx(fits)
    fewer = json.loads(runner.invoke(app, [*asked, "--json", "--min-fit", str(cut)]).stdout)
    assert [hit["id"] for hit in fewer["hits"]] == [hit.id for hit in kept]
    table = runner.invoke(app, asked).stdout
    assert f"{100 * fits[0]:.0f}%" in table
    line = weak_from(fits, WEAK_SHARE)
    assert ("weak from here" in table or "no picture fits" in table) == (line is not None)


def test_the_server_says_how_hits_fit(index_path):
    from fastapi.testclient import TestClient

    from lexlip.server import create_app

    with TestClient(create_app(index_path), base_url="http://localhost") as client:
        found = client.get("/search", params={"q": "a red circle", "k": 12}).json()
        with Index.open(index_path) as index:
            fits = index.fits(index.search("a red circle", 12), "a red circle")
        assert [hit["fit"] for hit in found["hits"]] == pytest.approx(fits)
        assert found["weak_below"] == WEAK_SHARE
        bare = client.get("/search", params={"q": "a red circle", "explain": False}).json()
        assert {hit["fit"] for hit in bare["hits"]} == {None}
        least = sorted(fits)[-2]
        fewer = client.get("/search", params={"q": "a red circle", "k": 12, "min_fit": least})
        assert [hit["fit"] for hit in fewer.json()["hits"]] == [f for f in fits if f >= least]


@pytest.mark.parametrize("least", [0.0, 0.6])
def test_leaving_out_what_fits_less_changes_no_order(
    model_with_heads, images, tmp_path, no_flush, least
):
    """Also of hits that a reranker orders, in Python and over HTTP."""
    from fastapi.testclient import TestClient

    from lexlip.server import create_app

    model_with_heads.save_pretrained(tmp_path / "model")
    pictures = {f"{number:02}": picture for number, picture in enumerate(images)}
    path, text = tmp_path / "i", "a red circle"
    with Index.create(
        path, model_with_heads, pictures, engine="postings", keep_views=True,
        checkpoint=tmp_path / "model",
    ) as index:  # fmt: skip
        for how in ({"rerank": "filip"}, {"rerank": "filip", "depth": 5}, {"rerank": "none"}):
            every = index.search(text, 12, **how)
            fits = index.fits(every, text)
            wanted = [hit for hit, fit in zip(every, fits, strict=True) if fit >= least]
            assert index.search(text, 12, min_fit=least, **how) == wanted
    with TestClient(create_app(path), base_url="http://localhost") as client:
        params = {"q": text, "k": 12, "rerank": "filip", "min_fit": least, "depth": 5}
        found = client.get("/search", params=params).json()["hits"]
    with Index.open(path) as index:
        wanted = index.search(text, 12, rerank="filip", depth=5, min_fit=least)
    assert [hit["id"] for hit in found][: len(wanted)] == [hit.id for hit in wanted]


def test_a_fit_is_a_number(index_path):
    with Index.open(index_path) as index:
        for wrong in (float("nan"), float("inf"), "3", True):
            with pytest.raises(LexLIPError, match="min_fit is"):
                index.search("a red circle", min_fit=wrong)
