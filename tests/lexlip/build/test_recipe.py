"""The recipe of an index: declared once, checked before anything is encoded, kept as it was."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
import typer.main

from indexing.settings import Settings
from lexlip import Index
from lexlip.build.encode import encode_pictures
from lexlip.build.encoded_parts import Encoded
from lexlip.build.recipe import Recipe
from lexlip.cli import app
from lexlip.data.collection import load_collection
from lexlip.errors import LexLIPError

OPTIONS = {field.name: field for field in fields(Recipe)}
OTHER = Recipe(
    max_terms=7, engine="postings", keep_floats=True, keep_views=True, vectors="no", crops=1
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_terms": 0}, "max_terms is 0: keep at least one term"),
        ({"max_terms": 8.0}, "max_terms must be int, not 8.0"),
        ({"max_terms": True}, "max_terms must be int, not True"),
        ({"engine": "lucine"}, "no engine 'lucine': choose one of lucene, postings"),
        ({"engine": None}, "engine must be str, not None"),
        ({"keep_floats": 1}, "keep_floats must be bool, not 1"),
        ({"keep_views": "yes"}, "keep_views must be bool, not 'yes'"),
        ({"vectors": True}, "vectors must be str, not True"),
        ({"vectors": "all"}, "vectors is 'all': choose one of auto, yes, no"),
        ({"crops": -1}, "crops is -1: 0 to 4 corners"),
        ({"crops": 5}, "crops is 5: 0 to 4 corners"),
    ],
)
@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_a_wrong_option_is_one_line_before_anything_is_encoded(
    model, photos, tmp_path, monkeypatch, kind, options, message
):
    for name in ("encode_image", "encode_text", "represent_image", "represent_text"):
        monkeypatch.setattr(type(model), name, lambda *_: pytest.fail("encodes first"))
    source = photos if kind == "pictures" else {"a": "a red circle"}
    with pytest.raises(LexLIPError, match=message) as raised:
        Index.create(tmp_path / "x.lex", model, source, **{"engine": "postings", **options})
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_an_unknown_option_is_an_error(model, photos, tmp_path):
    with pytest.raises(TypeError, match="max_term"):
        Index.create(tmp_path / "x.lex", model, photos, engine="postings", max_term=8)


def test_every_option_is_everywhere():
    """On the command line, among a job's keys, in the manifest: from one declaration."""
    command = typer.main.get_command(app).commands["index"]
    given = {parameter.name: parameter for parameter in command.params}
    for name, field in OPTIONS.items():
        assert given[name].opts == [f"--{name.replace('_', '-')}"]
        assert given[name].default == field.default
        assert given[name].help == field.metadata["help"]
    job = {field.name: field for field in fields(Settings)}
    assert {name: job[name] for name in OPTIONS} == OPTIONS
    settings = Settings(**OTHER.facts(), data="x", model="y", out="z")
    assert settings.recipe == OTHER and OTHER.facts().keys() == OPTIONS.keys()
    assert Recipe.of(json.loads(json.dumps(OTHER.facts()))) == OTHER


def test_an_index_keeps_its_recipe(model_with_heads, photos, tmp_path):
    with Index.create(tmp_path / "a.lex", model_with_heads, photos, OTHER) as index:
        assert Recipe.of(index.manifest) == OTHER
    changed = {"max_terms": 6, "keep_views": False}
    with Index.create(tmp_path / "b.lex", model_with_heads, photos, OTHER, **changed) as index:
        assert Recipe.of(index.manifest) == replace(OTHER, **changed)


def test_a_manifest_older_than_an_option_has_its_default():
    assert Recipe.of({"max_terms": 7, "engine": "postings", "scale": 3.0}) == Recipe(
        max_terms=7, engine="postings"
    )


def test_parts_fix_what_was_encoded_and_no_more(model, photos, tmp_path):
    source, recipe = load_collection(photos), Recipe(max_terms=7, crops=1)
    with Encoded.plan(tmp_path / "parts", model, source, recipe) as encoded:
        encoded.write(0, encode_pictures(model, source, encoded.rows(0), recipe=recipe))
    options = {"engine": "postings", "keep_floats": True}
    with Index.from_encoded(tmp_path / "a.lex", tmp_path / "parts", model, **options) as index:
        assert Recipe.of(index.manifest) == replace(recipe, **options)
    for name, value in (("max_terms", 6), ("crops", 0), ("keep_views", True)):
        other = replace(recipe, engine="postings", **{name: value})
        with pytest.raises(LexLIPError, match=f"encoded with {name}=.*, not {value}"):
            Index.from_encoded(tmp_path / "b.lex", tmp_path / "parts", model, other)
    assert not (tmp_path / "b.lex").exists()
