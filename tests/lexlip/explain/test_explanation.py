"""Explanations add up: to every score that a search returns, on every engine."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.explain.alignment_drawing import draw
from lexlip.explain.drawing import cell, fit, paint, sheet, warm
from lexlip.explain.explanation import explain
from lexlip.explain.lookup import find_id, find_picture
from lexlip.explain.sheet import draw_explanation
from lexlip.models.localisation.alignment import align
from lexlip.models.localisation.occlusion import occlusion
from lexlip.query.contributions import contributions
from lexlip.query.prepared import PreparedQuery
from lexlip.query.query import Query
from tests.support.oracles import as_dicts, collection

QUERY = "a red circle above two blue squares"
NUMBER = 1000


def lexlip(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def signed(rng, v):
    """A random query: words of either sign, one of weight above 0 at least."""
    terms = rng.choice(v, size=rng.integers(1, 9), replace=False).tolist()
    weights = rng.integers(1, 65, len(terms)) * rng.choice([1, 1, -1], len(terms))
    weights[0] = abs(weights[0])
    return dict(zip(terms, weights.tolist(), strict=True))


def test_a_thousand_random_pairs_add_up_to_the_score(engine):
    ids, impacts = collection(150, v=40, seed=11, high=255)
    engine.add(ids[:20], impacts[100:120])  # replaced below
    engine.commit()
    engine.add(ids, impacts)
    engine.commit()
    documents, tokens = as_dicts(ids, impacts), [f"word{i}" for i in range(40)]
    rng, pairs, negative = np.random.default_rng(5), 0, 0
    while pairs < NUMBER:
        terms, penalty = signed(rng, 40), int(rng.choice([0, 0, 7]))
        hits = PreparedQuery(terms, penalty=penalty).search(engine, 200)
        for number in rng.permutation(len(hits))[:10]:
            id, score = hits[number]
            found = contributions(engine, id, terms, tokens, penalty)
            assert sum(it.score for it in found) == score
            by_hand = {
                tokens[term]: weight * documents[id].get(term, -penalty if weight > 0 else 0)
                for term, weight in terms.items()
            }
            assert {it.word: it.score for it in found} == {w: s for w, s in by_hand.items() if s}
            assert [it.score for it in found] == sorted((it.score for it in found), reverse=True)
            negative += score < 0
            pairs += 1
    assert negative > 10


@pytest.fixture(scope="module")
def made(photos, checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("explain") / "photos.lex"
    result = lexlip("index", photos, "-o", path, "-m", checkpoint, "--engine", "postings")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def index(made, model):
    with Index.open(made, model) as opened:
        yield opened


@pytest.mark.parametrize("text", [QUERY, "star", "red + 2:star -0.5:wall", "circle missing:9",
                                  "must:red", "circle^40 -red>=250"])  # fmt: skip
def test_why_adds_up_and_points_at_patches(index, photos, text):
    query = Query.parse(text)
    hits = index.search(query, 12)
    assert hits
    for id, score in hits:
        found = explain(index, id, query, find_picture(index, id))
        assert found.score == score and found.words == index.explain(id, query)
        assert not found.changed
        lacking = 0
        for word in found.words:
            heat = found.patches.heat[found.terms[word.word]]
            if word.impact > 0:
                assert heat.flat[found.patch(word.word)] == heat.max() > 0
            else:
                assert found.patch(word.word) == -1
                lacking += word.score
        scores = {found.terms[word.word]: word.score for word in found.words}
        assert found.patches.shares(scores).sum() == score - lacking
        assert all(len(it.attention) == len(it.provenance.words) for it in found.texts)


def test_a_query_of_pictures_and_words_has_no_text(index, photos):
    query = Query.image(photos / "03.png") - 0.2 * Query.from_words({"red": 3})
    found = explain(index, "04.png", query)
    assert found.texts == [] and found.patches is None and found.patch("red") == -1


def test_ids_and_pictures_are_found_either_way(index, photos, tmp_path, monkeypatch):
    assert find_id(index, "04.png") == find_id(index, str(photos / "04.png")) == "04.png"
    assert find_picture(index, "04.png") == photos / "04.png"
    monkeypatch.chdir(photos)
    assert find_id(index, "./04.png") == "04.png"
    for name in ("broken.png", "nothing", ".", "", "x" * 300):
        with pytest.raises(LexLIPError, match="is not in"):
            find_id(index, name)


def test_pictures_of_a_table_are_found(model, photos, tmp_path, no_flush):
    table = tmp_path / "in" / "pictures.csv"
    table.parent.mkdir()
    table.write_text(f"image,id\n{photos}/00.png,zero\n{photos}/01.png,one\n{tmp_path}/x.png,x\n")
    with Index.create(tmp_path / "t.lex", model, table, engine="postings") as built:
        assert find_picture(built, "one") == photos / "01.png"
        assert find_picture(built, "x") is find_picture(built, "y") is None
        table.write_text("nonsense")
        assert find_picture(built, "one") is None


def test_the_table_is_printed_with_its_sum(made, index, model):
    hit = index.search(QUERY, 1)[0]
    result = lexlip("explain", made, QUERY, hit.id)
    assert result.exit_code == 0 and result.stderr == "", result.output
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["word", "query", "impact", "score", "row,", "column"]
    found = explain(index, hit.id, Query.parse(QUERY), find_picture(index, hit.id))
    for word, line in zip(found.words, lines, strict=False):
        row, column = divmod(found.patch(word.word), 4)
        numbers = [str(word.query), str(word.impact), str(word.score)]
        assert line.split() == [word.word, *numbers, f"{row + 1},", str(column + 1)]
    assert lines[len(found.words)].split() == ["sum", str(hit.score)]
    said = result.stdout.partition("word of the text")[2].splitlines()[1:]
    assert [line.split()[0] for line in said] == QUERY.split()
    assert sum(float(line.split()[-1]) for line in said) == pytest.approx(1, abs=0.05)


def test_json_is_one_object(made, index, photos):
    hit = index.search(QUERY, 1)[0]
    result = lexlip("explain", made, QUERY, photos / hit.id, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["id"] == hit.id and not said["changed"]
    assert said["score"] == hit.score == sum(word["score"] for word in said["words"])
    assert sum(said["patches"]["scores"]) == hit.score
    assert said["patches"]["grid"] == [4, 4] and said["patches"]["box"] == [0, 0, 1, 1]
    for word in said["words"]:
        heat = said["patches"]["words"][word["word"]]
        assert len(heat) == 16 and heat[word["patch"]] == max(heat) == 1
    [text] = said["texts"]
    assert (text["text"], text["weight"]) == (QUERY, 1)
    assert [word["word"] for word in text["words"]] == QUERY.split()
    raised = {term for word in text["words"] for term in word["terms"]}
    assert raised == set(dict(index.words(index.query(QUERY))))


def test_the_picture_is_drawn(made, index, photos, tmp_path):
    for name, size in (("why.png", "PNG"), ("why.jpg", "JPEG")):
        result = lexlip("explain", made, QUERY, "03.png", "-o", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert f"drawn in {tmp_path / name}" in result.stdout
        assert Image.open(tmp_path / name).format == size
    found = explain(index, "03.png", Query.parse(QUERY), photos / "03.png")
    two = draw_explanation(found, photos / "03.png", most=2)
    three = draw_explanation(found, photos / "03.png", most=3)
    assert two.size == (3 * 250 + 14, three.height) and three.width == 4 * 250 + 14


def test_pixels_are_those_that_cost_most_when_hidden(made, index, model, photos, tmp_path):
    query, out = Query.parse(QUERY), tmp_path / "why.png"
    result = lexlip("explain", made, QUERY, "03.png", "--pixels", "--json", "-o", out)
    assert result.exit_code == 0 and Image.open(out).width > 400, result.output
    said = json.loads(result.stdout)["patches"]["pixels"]
    found = explain(index, "03.png", query, photos / "03.png", pixels=True)
    lost = occlusion(model, photos / "03.png", found.terms.values())
    assert said.keys() == found.terms.keys()
    for word, shares in said.items():
        heat = lost[found.terms[word]].flatten()
        np.testing.assert_allclose(shares, heat / max(heat.max(), 1e-9), atol=1e-3)
    plain = explain(index, "03.png", query, photos / "03.png")
    assert draw_explanation(found, photos / "03.png") != draw_explanation(plain, photos / "03.png")


def test_mistakes_are_one_line(made, photos, tmp_path):
    for arguments, part in (
        ((made, QUERY, "gone.png"), "'gone.png' is not in"),
        ((made, " ", "03.png"), "the query is empty"),
        ((tmp_path, QUERY, "03.png"), "no index at"),
        ((made, QUERY, "03.png", "-o", tmp_path / "why.xyz"), "why.png"),
        ((made, QUERY, "03.png", "-o", tmp_path / "no" / "why.png"), "cannot draw in"),
        ((made, "must:xyzzy red", "03.png"), "xyzzy"),
    ):
        result = lexlip("explain", *arguments)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.splitlines()
        assert line.startswith("lexlip: ") and part in line
    assert list(tmp_path.iterdir()) == []


def test_a_query_without_a_known_word(made):
    result = lexlip("explain", made, "xyzzy", "03.png")
    assert result.exit_code == 0 and "sum" in result.stdout


@pytest.fixture
def moved(photos, checkpoint, tmp_path, no_flush):
    """An index of a folder of two pictures, and that folder."""
    folder, path = tmp_path / "in", tmp_path / "x.lex"
    folder.mkdir()
    for name in ("00.png", "01.png"):
        Image.open(photos / name).save(folder / name)
    lexlip("index", folder, "-o", path, "-m", checkpoint, "--engine", "postings")
    return path, folder


def test_a_picture_that_is_gone_is_said_in_one_line(moved, photos, tmp_path):
    path, folder = moved
    (folder / "00.png").unlink()
    result = lexlip("explain", path, QUERY, "00.png", "-o", tmp_path / "why.png")
    assert result.exit_code == 0 and "sum" in result.stdout and "row" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert "00.png: its picture is not where it was indexed" in line
    assert not (tmp_path / "why.png").exists()
    elsewhere = lexlip("explain", path, QUERY, photos / "00.png")
    assert elsewhere.stderr == "" and "row, column" in elsewhere.stdout


def test_a_picture_that_has_changed_is_said_in_one_line(moved, photos):
    path, folder = moved
    Image.open(photos / "07.png").save(folder / "00.png")
    result = lexlip("explain", path, QUERY, "00.png")
    assert result.exit_code == 0 and "sum" in result.stdout
    (line,) = result.stderr.splitlines()
    assert "the picture is not the one in the index" in line


def test_heads_align_words_and_patches(model_with_heads, photos, tmp_path, no_flush):
    with Index.create(tmp_path / "h.lex", model_with_heads, photos, engine="postings") as built:
        found = explain(built, "02.png", Query.parse(QUERY), photos / "02.png")
        exact = align(model_with_heads, photos / "02.png", QUERY)
        np.testing.assert_array_equal(found.alignment.patches, exact.patches)
        assert draw_explanation(found, photos / "02.png", most=1).width == 3 * 250 + 14


def test_heat_lies_on_the_patch():
    grey = Image.new("RGB", (80, 40), (128, 128, 128))
    hot = np.zeros((2, 4), np.float32)
    hot[1, 2] = 0.3  # scaled to its largest
    made = np.asarray(warm(grey, hot, -1, (0.5, 0, 1, 1))).astype(int)
    tinted = np.ptp(made, axis=2) > 20
    ys, xs = np.nonzero(tinted)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (60, 69, 20, 39)
    assert tinted.sum() == 200
    framed = np.asarray(warm(grey, hot * 0, 3, (0, 0, 1, 1), "#0000ff"))
    assert tuple(framed[0, 60]) == (0, 0, 255) and tuple(framed[10, 70]) == tuple(made[0, 0])


def test_patches_cover_the_picture_without_gaps():
    for size in ((80, 40), (31, 17), (3, 5)):
        covered = np.zeros(size[::-1], int)
        for patch in range(12):
            left, top, right, bottom = cell(size, (3, 4), patch)
            covered[top:bottom, left:right] += 1
        assert (covered == 1).all()


def test_drawings_keep_the_shape_of_the_picture(model_with_heads):
    tall = Image.new("RGB", (40, 60), "red")
    assert fit(tall, 100).size == (100, 150)
    assert fit(Image.new("RGB", (1, 500)), 100).size == (100, 200)
    assert fit(Image.new("RGB", (500, 1)), 100).size == (100, 12)
    assert draw(tall, align(model_with_heads, tall, "a red circle"), 100).size == (100, 180)
    painted = paint(
        Image.new("RGB", (40, 40), "black"), (1, 2), ["#ff0000", "#00ff00"], (0, 0, 1, 1)
    )
    assert painted.getpixel((10, 20))[0] > 100 > painted.getpixel((30, 20))[0]
    two = sheet([(tall, ["word " * 40, "two"]), (fit(tall, 60), [])])
    assert two.size == (14 + 2 * (60 + 14), 14 + (60 + 6 + 2 * 20) + 14)
