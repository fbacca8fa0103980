"""Queries as people type them: typographic signs, dashes in front, Unicode forms, on every path."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from typer.testing import CliRunner

from lexlip import Index, LexLIPError, Query
from lexlip.cli import app
from lexlip.cli.dashes import MINUS
from lexlip.models.typed import as_meant
from lexlip.query.tree import Part
from lexlip.server.app import create_app
from lexlip.server.settings import Settings

EVERY = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
DASHES = [c for c in EVERY if unicodedata.category(c) == "Pd"]
MINUSES = ["\u2212", "\u207b", "\u208b", "\u2796", "\ufe63", "\uff0d"]
DOUBLE = [
    c for c in EVERY if "DOUBLE" in (name := unicodedata.name(c, "")) and "QUOTATION MARK" in name
]
SPACES = [c for c in EVERY if c.isspace()]
READ = Query.parse('red circle -blue -"dark wall" -0.5:green must:two>=9')


def lexlip(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def index(checkpoint, model, photos, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("typed") / "photos.lex"
    Index.create(path, model, photos, engine="postings", checkpoint=checkpoint).close()
    return path


@pytest.fixture(scope="module")
def client(index, model):
    with TestClient(create_app(index, model, Settings()), "http://127.0.0.1") as client:
        yield client


def wide(text: str) -> str:
    """The same in full-width characters."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def test_every_kind_is_there():
    assert {"\u2013", "\u2014", "\u2010", "\uff0d"} <= set(DASHES) and "\u2212" in MINUSES
    assert {"\u201c", "\u201d", "\u301d", "\uff02"} - set(DOUBLE) <= {"\uff02"}
    assert {"\u00a0", "\u202f", "\u3000"} <= set(SPACES)


@given(
    st.sampled_from(DASHES + MINUSES), st.sampled_from(DOUBLE), st.sampled_from(DOUBLE),
    st.sampled_from(SPACES), st.sampled_from(["", "\u200b", "\u200e", "\ufeff"]),
)  # fmt: skip
def test_signs_mean_what_they_look_like(dash, opening, closing, space, unseen):
    asked = (
        f"{unseen}red circle{space}{unseen}{dash}blue{space}{dash}{opening}dark{space}wall{closing}"
        f"{space}{dash}0.5:green must:two\u2265{unseen}9{space}"
    )
    assert Query.parse(asked) == READ


def test_full_width_characters_are_read_as_plain_ones():
    assert Query.parse(wide('red circle -blue -"dark wall" -0.5:green must:two>=9')) == READ
    assert Query.parse("ｒｅｄ＾３") == Query.from_words({"ｒｅｄ": 3})


@pytest.mark.parametrize("dash", ["–", "—"])
def test_a_dash_between_spaces_is_punctuation(dash):
    text = f"a dog {dash} by the sea {dash}"
    assert Query.parse(text).plain == text
    assert Query.parse("a dog \u2212 cat") == Query.parse("a dog - cat")


@given(st.text(min_size=1))
def test_what_is_read_is_read_again_as_the_same(text):
    try:
        query = Query.parse(text)
    except LexLIPError:
        return
    assert Query.parse(str(query)) == query
    assert all(as_meant(p.content) == p.content for p in query.parts if isinstance(p.content, str))


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1))
def test_a_picture_is_opened_by_its_own_name(name):
    path = Path(f"photos/{name}.jpg")
    query = Query((Part(path),))
    assert Query.parse(str(query)).parts == (Part(path),)


def test_composed_and_decomposed_texts_are_one():
    accents = "é ü å ñ Ž が"
    forms = [unicodedata.normalize(form, accents) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    assert len(set(forms)) == 2
    assert len({Query.parse(f"-{form.split()[0]} {form}") for form in forms}) == 1
    assert len({Query.text(form).must(form).boost(form, 2) for form in forms}) == 1


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_models_read_one_form(model, word_table, form):
    text = "a réd círcle ｂｌｕｅ two – squares"
    for speaker in (model, word_table):
        plain = speaker.encode_text([as_meant(text)])
        assert (speaker.encode_text([unicodedata.normalize(form, text)]) != plain).nnz == 0
    assert word_table.terms("ｒｅｄ\u3000ｃｉｒｃｌｅ") == word_table.terms("red circle")


def test_a_word_of_the_vocabulary_is_found_in_any_form(model):
    assert Query.parse("ｒｅｄ^3").prepare(model).terms == Query.parse("red^3").prepare(model).terms


TYPED = ["red circle –blue", "red circle \u2212blue", "red circle －blue", "red\xa0circle –“blue”"]


@pytest.mark.parametrize("typed", TYPED)
def test_every_path_reads_the_typed_query(index, client, checkpoint, typed):
    plain = "red circle -blue"
    found = json.loads(lexlip("search", index, typed, "--json").stdout)
    assert found == json.loads(lexlip("search", index, plain, "--json").stdout)
    assert found["read_as"] == '"red circle" -blue' and found["asked"].endswith(" -blue")
    assert 'read as: "red circle" -blue' in lexlip("search", index, typed).stdout
    assert lexlip("words", typed, "-m", checkpoint).stdout.endswith("-blue\n")
    same = client.get("/search", params={"q": plain}).json()["query"]
    assert client.get("/search", params={"q": typed}).json()["query"] == same
    assert client.post("/search", json={"q": typed}).json()["query"] == same
    assert same["read_as"] == '"red circle" -blue' and same["conditions"] == ["-blue"]


def test_a_plain_text_is_not_repeated(index):
    assert "read as" not in lexlip("search", index, "a red circle").stdout


@pytest.mark.parametrize("first", ["-blue red circle", "-0.5:blue red", '-"dark wall" red',
                                   "-kind red", "-moon red", "-2:blue", "- blue red"])  # fmt: skip
def test_a_query_may_begin_with_a_dash(index, checkpoint, first):
    for before, after in (([], ["--json", "-k", "3"]), (["-k", "3", "--json"], [])):
        direct = lexlip("search", *before, index, first, *after)
        apart = lexlip("search", "-k", "3", "--json", index, "--", first)
        assert (direct.exit_code, direct.stdout) == (apart.exit_code, apart.stdout), direct.stderr
        assert "No such option" not in direct.stderr
    assert "No such option" not in lexlip("words", first, "-m", checkpoint).stderr
    assert "No such option" not in lexlip("explain", index, first, "00.png").stderr
    assert lexlip("search", index, f"{MINUS}blue red").exit_code == 0


def test_the_name_of_a_picture_is_that_picture(index, photos):
    given = lexlip("search", index, "--image", photos / "04.png", "--json")
    named = json.loads(lexlip("search", index, photos / "04.png", "--json").stdout)
    hits = json.loads(given.stdout)["hits"]
    assert named["hits"] == hits and named["read_as"] == f"img:{photos / '04.png'}"
    gone = lexlip("search", index, "gone.jpg")
    assert (gone.exit_code, gone.stderr) == (2, "lexlip: gone.jpg: no such file\n")
    why = lexlip("explain", index, photos / "04.png", "04.png", "--json")
    assert json.loads(why.stdout)["score"] == hits[0]["score"]


def test_options_and_their_values_stay_what_they_are(index):
    assert lexlip("search", index, "red", "--where", "-1 < bytes").exit_code == 0
    assert lexlip("search", index, "-k", "-1 red").exit_code == 2
    assert "No such option: --blue" in lexlip("search", index, "--blue red").output
