"""An index with views: made, changed, reranked, tuned and asked on the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lexlip import Index, Query
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.measure.shares import choose
from lexlip.models.localisation.alignment import align
from lexlip.query.prepared import PreparedQuery
from lexlip.rerank.stage import RerankedHit

TEXT = "a red circle above two blue squares"


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(5)
    return {f"{i:02}": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(12)}


@pytest.fixture
def index(tmp_path, model_with_heads, pictures, no_flush):
    with Index.create(
        tmp_path / "i.lex", model_with_heads, pictures, engine="postings", keep_views=True
    ) as made:
        yield made


@pytest.mark.parametrize("name", ["filip", "csd", "naaf"])
def test_the_second_stage_orders_what_the_first_one_found(index, model_with_heads, pictures, name):
    first = index.search(TEXT, k=8)
    hits = index.search(TEXT, k=8, rerank=name, depth=8)
    assert {hit.id for hit in hits} == {hit.id for hit in first}
    words = {hit.id: hit.score for hit in first}
    assert all(isinstance(hit, RerankedHit) and hit.words == words[hit.id] for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    # The scores are those of the pictures encoded anew.
    _, views = model_with_heads.represent_image([pictures[hit.id] for hit in hits])
    spread = views.log_variance.mean(1) / 2
    np.testing.assert_allclose([hit.uncertainty for hit in hits], spread, atol=2e-3)
    if name == "csd":
        query = index.prepare(TEXT).views[0][1]
        wanted = 2 * views.mean @ query.mean[0] - np.exp(views.log_variance).sum(1)
        np.testing.assert_allclose([hit.likeness for hit in hits], wanted, atol=5e-3)
    # The score by words is the one that is explained.
    best = hits[0]
    assert sum(it.score for it in index.explain(best.id, TEXT)) == best.words


@pytest.mark.parametrize("kind", ["text", "picture", "sum", "musts"])
def test_one_pass_through_a_tower_serves_both_stages(
    index, model_with_heads, pictures, monkeypatch, kind
):
    one, other = Query.text("a red circle"), Query.text("two blue squares beside a star")
    shown = Query.image(pictures["01"])
    item, passes = {
        "text": (TEXT, ["text"]),
        "picture": (pictures["01"], ["vision"]),
        "sum": (one + 2 * other - 0.5 * shown + Query.from_words({"red": 3}), ["text", "vision"]),
        "musts": (one.must("red").boost("circle", 2), ["text"]),
    }[kind]
    # What each stage says by itself, of each text and picture by itself.
    stage, first = index.second_stage, index.search(item, k=12)
    parts = item.parts if isinstance(item, Query) else Query.text(TEXT).parts
    if kind == "picture":
        parts = shown.parts
    seen = [
        (part.weight, views)
        for part in parts
        if not isinstance(part.content, tuple)
        for _, views in index.prepare(Query((replace(part, weight=1.0),))).views
    ]
    alone = replace(index.prepare(item), seen=seen)
    wanted = {name: stage.rerank(first, alone, name) for name in ("filip", "csd")}
    calls: list[str] = []
    for tower in ("text", "vision"):
        trunk = getattr(model_with_heads, tower).trunk
        run = trunk.forward
        monkeypatch.setattr(
            trunk, "forward", lambda *a, t=tower, run=run, **kw: calls.append(t) or run(*a, **kw)
        )
    for name, hits in wanted.items():
        calls.clear()
        found = index.search(item, k=12, rerank=name)
        assert sorted(calls) == passes
        prepared = index.prepare(item, views=True)
        assert index.rerank(index.search(prepared, k=12), prepared, name) == found
        assert [index.explain(hit.id, prepared) for hit in found]
        assert sorted(calls) == sorted(2 * passes)
        assert [(hit.id, hit.words) for hit in found] == [(hit.id, hit.words) for hit in hits]
        numbers = [(hit.score, hit.likeness, hit.uncertainty) for hit in found]
        before = [(hit.score, hit.likeness, hit.uncertainty) for hit in hits]
        np.testing.assert_allclose(numbers, before, atol=1e-4)


def test_shares_go_from_the_words_alone_to_the_reranker_alone(index, model_with_heads):
    stage, first = index.second_stage, index.search(TEXT, k=12)
    seen = index.prepare(TEXT)
    by_words = stage.rerank(first, seen, "filip", share=0.0)
    assert [hit.id for hit in by_words] == [hit.id for hit in first]
    alone = [hit.likeness for hit in stage.rerank(first, seen, "filip", share=1.0)]
    assert alone == sorted(alone, reverse=True)


def test_parts_of_a_query_count_with_their_weights(index, model_with_heads, pictures):
    stage, ids = index.second_stage, ["00", "01", "02"]
    query = 2 * Query.text("a red circle") - Query.image(pictures["01"])
    one = stage.likeness("filip", index.prepare("a red circle"), ids)
    other = stage.likeness("filip", index.prepare(pictures["01"]), ids)
    both = stage.likeness("filip", index.prepare(query), ids)
    np.testing.assert_allclose(both, 2 * one - other, rtol=1e-5)
    assert len(index.search(query, rerank="filip")) > 0
    with pytest.raises(LexLIPError, match="weighted words cannot be reranked"):
        index.search({1: 5}, rerank="filip")


def test_views_follow_what_is_added_replaced_and_deleted(index, pictures):
    index.add({"00": pictures["01"], "new": pictures["02"]}, force=True)
    views = index.side_stores.views.read(["00", "01", "02", "new"])
    np.testing.assert_array_equal(views.tokens[0], views.tokens[1])
    np.testing.assert_array_equal(views.tokens[2], views.tokens[3])
    assert index.delete(["03"]) == 1
    index.compact()
    assert index.side_stores.views.held(["03", "00"]).tolist() == [False, True]
    facts = index.stats()
    assert facts["view_bytes"] == index.side_stores.views.bytes > 0 and index.check() == []


def test_a_bulk_build_keeps_the_same_views(tmp_path, model_with_heads, pictures, no_flush, index):
    from lexlip.build.encode import as_source, encode_pictures
    from lexlip.build.encoded_parts import Encoded
    from lexlip.build.recipe import Recipe

    source, folder = as_source(pictures), tmp_path / "parts"
    recipe = Recipe(keep_views=True)
    with Encoded.plan(folder, model_with_heads, source, recipe, part_size=5) as encoded:
        for number in encoded.missing():
            rows = encoded.rows(number)
            chunk = encode_pictures(model_with_heads, source, rows, recipe=recipe)
            encoded.write(number, chunk)
    with Index.from_encoded(
        tmp_path / "b.lex", folder, model_with_heads, engine="postings"
    ) as built:
        ids = list(pictures)
        ours, theirs = (each.side_stores.views.read(ids) for each in (built, index))
        # The scale of the codes is fitted to the first part, here a smaller one.
        np.testing.assert_allclose(ours.tokens, theirs.tokens, atol=0.02)
        np.testing.assert_array_equal(ours.mean, theirs.mean)
        assert [hit.id for hit in built.search(TEXT)] == [hit.id for hit in index.search(TEXT)]
    # Parts without views are another plan.
    with Encoded.plan(folder, model_with_heads, source, Recipe(), part_size=5) as encoded:
        assert encoded.missing() == [0, 1, 2]


def test_shares_are_chosen_saved_and_used(index, model_with_heads):
    first = [hit.id for hit in index.search(TEXT, k=12)]
    found, seen = index.search(TEXT, k=12), index.prepare(TEXT)
    alone = [hit.id for hit in index.second_stage.rerank(found, seen, "filip", share=1.0)]
    assert first[0] != alone[0]
    for right, share in ((first[0], 0.0), (alone[0], None)):
        [chosen] = choose(index, ["filip"], {"q": TEXT, "unjudged": "x"}, {"q": {right}})
        assert chosen.recall == 1.0
        assert chosen.share > 0 if share is None else chosen.share == share
        assert index.search(TEXT, rerank="filip")[0].id == right
        with Index.open(index.path, model_with_heads) as again:
            assert again.search(TEXT, rerank="filip")[0].id == right
    assert chosen.alone == 1.0 and chosen.words == 0.0
    with pytest.raises(LexLIPError, match="no query has a judgement"):
        choose(index, ["filip"], {"q": TEXT}, {})


def test_an_ambiguous_query_is_reranked_deeper(index, model_with_heads, monkeypatch):
    seen = index.prepare(TEXT)
    level = seen.uncertainty
    stage = index.second_stage
    assert not stage.ambiguous(seen)
    stage.save({}, level - 0.1)
    assert stage.ambiguous(seen)
    depths = []
    search = PreparedQuery.candidates
    monkeypatch.setattr(
        "lexlip.query.prepared.PreparedQuery.candidates",
        lambda query, engine, k, where=None: depths.append(k) or search(query, engine, k, where),
    )
    index.search(TEXT, k=3, rerank="filip")
    stage.save({}, level + 0.1)
    index.search(TEXT, k=3, rerank="filip")
    assert depths == [200, 100]


def test_what_cannot_be_reranked_says_why(
    tmp_path, make_model, model_with_heads, pictures, no_flush
):
    plain = make_model()
    with pytest.raises(LexLIPError, match="no heads"):
        Index.create(tmp_path / "a.lex", plain, pictures, engine="postings", keep_views=True)
    assert not (tmp_path / "a.lex").exists()
    with (
        Index.create(tmp_path / "b.lex", model_with_heads, pictures, engine="postings") as without,
        pytest.raises(LexLIPError, match="keeps nothing to rerank with"),
    ):
        without.search(TEXT, rerank="filip")


def test_words_find_their_patches(model_with_heads, pictures):
    found = align(model_with_heads, pictures["00"], TEXT)
    assert found.patches.shape == found.cosines.shape == (4, 4)
    _, views = model_with_heads.represent_image([pictures["00"]])
    _, said = model_with_heads.represent_text([TEXT])
    cosines = views.tokens[0] @ said.tokens[0, : said.counts[0]].T
    np.testing.assert_array_equal(found.patches.ravel(), cosines.argmax(1))
    assert len(found.words) == said.counts[0] and "red" in found.words


def test_the_command_line_reranks(tmp_path, model_with_heads, pictures, no_flush):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    model_with_heads.save_pretrained(tmp_path / "model")
    run = CliRunner().invoke
    out, model = str(tmp_path / "p.lex"), str(tmp_path / "model")
    made = run(app, ["index", str(tmp_path / "photos"), "-o", out, "-m", model, "--engine",
                     "postings", "--keep-views"])  # fmt: skip
    assert made.exit_code == 0, made.output
    found = run(app, ["search", out, TEXT, "--rerank", "filip", "-k", "3", "--json"])
    hits = json.loads(found.stdout)["hits"]
    assert len(hits) == 3 and {"words", "likeness", "uncertainty"} <= hits[0].keys()
    assert run(app, ["search", out, TEXT, "--rerank", "best"]).exit_code == 2
    (tmp_path / "q.tsv").write_text(f"q\t{TEXT}\n")
    (tmp_path / "q.qrels").write_text("q 0 03.png 1\n")
    tuned = run(app, ["tune", out, "--rerank", "filip,csd", "--queries", str(tmp_path / "q.tsv"),
                      "--qrels", str(tmp_path / "q.qrels")])  # fmt: skip
    assert tuned.exit_code == 0 and tuned.output.count("saved") == 2, tuned.output
    drawn = run(app, ["align", str(tmp_path / "photos" / "00.png"), TEXT, "-m", model, "-o",
                      str(tmp_path / "why.png")])  # fmt: skip
    assert drawn.exit_code == 0 and Image.open(tmp_path / "why.png").size[0] == 448
