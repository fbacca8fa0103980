"""Pictures looked at whole and in corners: the mean, and the same one wherever it is computed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from indexing.encode import encode
from indexing.settings import Settings
from lexlip import Index
from lexlip.build.encode import chunks
from lexlip.build.recipe import Recipe
from lexlip.cli import app
from lexlip.data.collection import load_collection
from lexlip.data.crops import CORNERS, check_crops, crop, with_crops
from lexlip.errors import LexLIPError
from lexlip.explain.explanation import explain
from lexlip.explain.lookup import find_picture
from lexlip.models.localisation.patches import provenance
from lexlip.query.query import Query
from lexlip.settings import Data


def test_two_corners_see_all_of_a_picture_and_four_its_corners():
    picture = Image.fromarray(np.arange(60 * 40, dtype=np.uint16).reshape(40, 60).astype(np.uint8))
    whole = np.asarray(picture)
    places = (slice(0, 32), slice(0, 48)), (slice(8, 40), slice(12, 60))
    for corner, (rows, columns) in zip(CORNERS[:2], places, strict=True):
        assert (np.asarray(crop(picture, corner)) == whole[rows, columns]).all()
    top_right, bottom_left = (np.asarray(crop(picture, corner)) for corner in CORNERS[2:])
    assert (top_right == whole[:32, 12:]).all() and (bottom_left == whole[8:, :48]).all()


def test_a_picture_of_one_pixel_has_corners():
    assert {crop(Image.new("RGB", (1, 1)), corner).size for corner in CORNERS} == {(1, 1)}


@pytest.mark.parametrize("crops", [0, 1, 4])
def test_weights_are_the_mean_of_all_looks(model, images, crops):
    looks = [images, *([crop(image, corner) for image in images] for corner in CORNERS[:crops])]
    expected = np.mean([model.encode_image(look).toarray() for look in looks], axis=0)
    found = with_crops(model.encode_image, images, crops)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6, atol=1e-7)


def test_no_crops_change_no_bit(model, images):
    whole = model.encode_image(images)
    assert with_crops(model.encode_image, images, 0, whole) is whole


@pytest.mark.parametrize("crops", [-1, 5])
def test_other_numbers_of_corners_are_one_line(model, photos, tmp_path, crops):
    with pytest.raises(LexLIPError, match=f"crops is {crops}: 0 to 4 corners"):
        check_crops(crops)
    with pytest.raises(LexLIPError, match="0 to 4 corners"):
        Index.create(tmp_path / "x.lex", model, photos, engine="postings", crops=crops)
    with pytest.raises(LexLIPError, match="0 to 4 corners"):
        Settings(data=str(photos), model=str(tmp_path), out="x", crops=crops)
    assert not list(tmp_path.iterdir())


def test_an_index_remembers_how_its_pictures_are_looked_at(model, photos, images, tmp_path):
    with Index.create(tmp_path / "a.lex", model, photos, engine="postings", crops=4) as index:
        assert index.manifest["crops"] == 4
        before = {hit.id: hit.score for hit in index.search("red", 20)}
        index.add(photos, force=True)
        assert {hit.id: hit.score for hit in index.search("red", 20)} == before
    with Index.create(tmp_path / "b.lex", model, photos, engine="postings") as plain:
        assert {hit.id: hit.score for hit in plain.search("red", 20)} != before


def test_parts_hold_what_chunks_do(model, checkpoint, photos, tmp_path):
    asked = Settings(data=str(photos), model=str(checkpoint), out="x", max_terms=99, crops=2)
    encoded = encode(asked, Data(), tmp_path / "parts")
    built = Index.from_encoded(tmp_path / "p.lex", encoded, model, engine="postings")
    with built, Index.create(
        tmp_path / "c.lex", model, photos, engine="postings", max_terms=99, crops=2
    ) as index:  # fmt: skip
        assert built.manifest["crops"] == index.manifest["crops"] == 2
        assert built.search("red green", 20) == index.search("red green", 20)
    (chunk,) = chunks(model, load_collection(str(photos)), recipe=Recipe(crops=2))
    np.testing.assert_allclose(
        next(iter(encoded)).weights.toarray(), chunk.weights.toarray(), rtol=1e-6
    )
    # Parts of other crops are others.
    whole = Settings(data=str(photos), model=str(checkpoint), out="x", max_terms=99)
    again = next(iter(encode(whole, Data(), tmp_path / "parts")))
    assert (again.weights.toarray() != chunk.weights.toarray()).any()


def test_a_picture_that_was_cut_has_not_changed(model, checkpoint, photos, tmp_path):
    path = tmp_path / "photos.lex"
    options = ["-m", str(checkpoint), "--engine", "postings", "--crops", "4"]
    done = CliRunner().invoke(app, ["index", str(photos), "-o", str(path), *options])
    assert done.exit_code == 0, done.output
    with Index.open(path, model) as index:
        hits = index.search("red", 3)
        assert hits
        for hit in hits:
            assert not explain(
                index, hit.id, Query.parse("red"), find_picture(index, hit.id)
            ).changed


def test_views_for_rerankers_are_of_the_whole(model_with_heads, photos, tmp_path):
    collection = load_collection(str(photos))
    (plain,) = chunks(model_with_heads, collection, recipe=Recipe(keep_views=True))
    (cut,) = chunks(model_with_heads, collection, recipe=Recipe(keep_views=True, crops=4))
    assert plain.views is not None and cut.views is not None
    assert (plain.views.tokens == cut.views.tokens).all()
    assert (plain.weights.toarray() != cut.weights.toarray()).any()


def test_a_patch_of_a_corner_lies_where_its_middle_is(model, images):
    """Every word that a look has, has a patch; and the heat of each look is in the common one."""
    picture, terms = images[0], model.lexicon.ids.tolist()
    plain = provenance(model, picture, terms)
    found = provenance(model, picture, terms, crops=4)
    weights = with_crops(model.encode_image, [picture], 4).toarray()
    assert found.grid == plain.grid == (4, 4)
    gained = 0
    for term in terms:
        heat = found.heat[term]
        assert (heat >= plain.heat[term]).all()
        assert (found.patches[term] >= 0) == (weights[0, term] > 0) == (heat.max() > 0)
        if found.patches[term] >= 0:
            assert heat.flat[found.patches[term]] == heat.max() >= weights[0, term] - 1e-5
        gained += plain.patches[term] < 0 <= found.patches[term]
    assert gained
    # Four patches in four fifths have their middles at 0.1, 0.3, 0.5 and 0.7, or 0.2 further on.
    near, far = [0, 1, 2, 2], [1, 2, 2, 3]
    for across, down in CORNERS:
        part = provenance(model, crop(picture, (across, down)), terms)
        cells = np.ix_(far if down else near, far if across else near)
        for term in terms:
            assert (found.heat[term][cells] >= part.heat[term]).all()


def test_explanations_of_an_index_with_crops_have_patches(model, photos, tmp_path):
    with Index.create(tmp_path / "p.lex", model, photos, engine="postings", crops=4) as index:
        hits = index.search("red green star", 12)
        assert hits
        for hit in hits:
            query = Query.parse("red green star")
            found = explain(index, hit.id, query, find_picture(index, hit.id))
            assert all(found.patch(word.word) >= 0 for word in found.words if word.impact > 0)
