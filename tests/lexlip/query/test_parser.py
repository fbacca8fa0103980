"""The grammar of queries: what stays a plain text, what it reads, writes and refuses."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lexlip.errors import LexLIPError
from lexlip.models import typed
from lexlip.models.typed import signs
from lexlip.query.parser import parse
from lexlip.query.query import Query
from lexlip.query.tree import Part, Phrase, Tree

PLAIN = [
    "a red t-shirt with stripes",
    "what is this?",
    "black-and-white photo, 16:9",
    "at 10:30 in the morning",
    "Rule 2: be kind",
    "C++ and C#",
    "rock & roll (live)",
    "don't",
    'a 5" screen',
    "f/2.8 50mm 1/250 s",
    "note: a dog",
    "sunset – beach — evening",
    "e-mail me@example.com!",
    "x>=40",
    "http://example.com/a.jpg",
    "50% off",
    "must: see",
    "img: none",
    "a*b=c; d|e",
    "漢字 und Ünï",
    "missing:cats",
    "^",
    "a\\b",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_stays_plain(text):
    assert parse(text) == Tree((Part(text),))
    assert Query.parse(text) == Query.text(text)
    assert Query.parse(text).plain == text
    assert parse(f"  {text}\n").parts == (Part(text),)


@pytest.mark.parametrize("text", PLAIN)
def test_signs_and_prefixes_take_what_stands_in_quotes(text):
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert parse(quoted) == parse(f"+{quoted}") == Tree((Part(text),))
    assert parse(f"2:{quoted} - {quoted}") == Tree((Part(text, 2.0),), (), (Phrase(text),))
    assert parse(f"a must:{quoted}>=7").musts == (Phrase(text, 7),)


TEXTS = {
    "a red flower + a bee": [Part("a red flower"), Part("a bee")],
    "red flower +bee": [Part("red flower"), Part("bee")],
    '"a" "b"': [Part("a"), Part("b")],
    "2:bee": [Part("bee", 2.0)],
    "2:yellow bee": [Part("yellow", 2.0), Part("bee")],
    "red 2:bee flower": [Part("red"), Part("bee", 2.0), Part("flower")],
    ".5:bee + 2.:wasp - 1e-1:fly": [Part("bee", 0.5), Part("wasp", 2.0), Part("fly", -0.1)],
    '3:"9"': [Part("9", 3.0)],
    "-0.5:people flower": [Part("people", -0.5), Part("flower")],
    "- 0.5:people": [Part("people", -0.5)],
    '"say \\"hi\\" \\\\ \\n"': [Part('say "hi" \\ \\n')],
    "img:street.jpg": [Part(Path("street.jpg"))],
    '+img:"my street.jpg"': [Part(Path("my street.jpg"))],
    "a + 2:img:/x/y.png - 1:img:z.png": [
        Part("a"),
        Part(Path("/x/y.png"), 2.0),
        Part(Path("z.png"), -1.0),
    ],
    "img:a^2>=3.jpg": [Part(Path("a^2>=3.jpg"))],
    "red^64 circle^-3": [Part((("red", 64.0), ("circle", -3.0)))],
    "red^64 + circle^3": [Part((("red", 64.0),)), Part((("circle", 3.0),))],
    "2:red^3 2:car^1 bus^1": [Part((("red", 3.0), ("car", 1.0)), 2.0), Part((("bus", 1.0),))],
    "-2:red^3": [Part((("red", -3.0),), 2.0)],
    '##ing^2 "a b"^1.5': [Part((("##ing", 2.0), ("a b", 1.5)))],
    "red^3 -car red car": [Part((("red", 3.0),)), Part("red car")],
}


@pytest.mark.parametrize("text", TEXTS)
def test_parts(text):
    assert parse(text).parts == tuple(TEXTS[text])


def test_clauses():
    tree = parse('red -car flower must:"old bridge">=40 - "a b">=9 boost:red^.5 missing:20 -x')
    assert tree == Tree(
        (Part("red flower"),),  # what only narrows down does not cut a text in two
        (Phrase("old bridge", 40),),
        (Phrase("car"), Phrase("a b", 9), Phrase("x")),
        (("red", 0.5),),
        20,
    )
    assert parse("-people>=40 a").exclusions == (Phrase("people", 40),)


ERRORS = {
    "": "the query is empty",
    " \n": "the query is empty",
    "red -": r"at character 5, '-': write a word after one -",
    "red +": r"at character 5, '\+': write a word after one \+",
    "a --b": r"at character 3, '--b': write a word after one -",
    "a + -b": r"at character 3, '\+ -b'",
    'a "b': r"at character 3, '\"b': close the quotes",
    'a "b\\"': r"at character 3, .*close the quotes",
    '2:"" a': r"at character 3, .*between the quotes",
    'a "b"c': r"at character 6, 'c': put a space after the closing quote",
    'a "b">=4': r"at character 3, .*write >= after must: or -",
    "-img:a.jpg": r"at character 1, .*write -1:img:",
    'img:"a b"^2': r"at character 10, .*behind a picture",
    "a img:http://x.org/y.jpg": r"at character 3, .*is a URL: download the picture",
    "a img:data:image/png;base64,xx": "is a URL",
    "-red^3": r"at character 1, '-red\^3': to subtract a word write red\^-3",
    "-must:red": r"at character 1, .*without a sign",
    "2:must:red": r"at character 1, .*without a sign",
    "must:red^3": r"at character 6, .*a weight has no place here",
    "must:red>=0": r"at character 6, .*1 to 255",
    "-red>=256": r"at character 2, .*1 to 255",
    "boost:red": r"at character 7, .*boost:red\^2",
    "boost:red^-2": r"at character 7, .*0 or more",
    "missing:256": r"at character 9, .*0 to 255",
    "missing:2x": r"at character 9, .*missing:20",
    "1e9:red": r"at character 1, .*weights go up to",
    "red^1e999": r"at character 1, .*weights go up to",
    "a \udcff": "not valid Unicode at character 3",
    "x" * 70_000: "70000 characters",
    "1:a " * 65: "more than 64 parts",
}


@pytest.mark.parametrize("text", ERRORS)
def test_errors_say_where_the_grammar_broke(text):
    with pytest.raises(LexLIPError, match=ERRORS[text]) as caught:
        Query.parse(text)
    assert len(str(caught.value).splitlines()) == 1


def test_pictures_can_be_forbidden():
    with pytest.raises(LexLIPError, match="at character 3, .*not allowed here"):
        Query.parse("a img:/etc/passwd", images=False)
    assert Query.parse("an image", images=False) == Query.text("an image")


@pytest.mark.parametrize("text", [7, None, b"red", ["red"]])
def test_what_is_no_text(text):
    with pytest.raises(LexLIPError):
        Query.parse(text)


PIECES = st.sampled_from([
    *'+-:"^>=\\ \n.a0', "2:", "-", "+ ", "must:", "img:", "boost:", "missing:", "red", "t-x", "^3",
    "^-.5", ">=40", '"a b"', "##s", "é", "1e-3:", "-0.5:", "\x00", "\udcff", "²", "٣:",
])  # fmt: skip


@given(st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=20)))
@example('"\\')
@example("+")
@example("1e-05:a^1e-05")
@example("²:x ٣:y")
@example("- -x")
@example('-2:"a"^-.0 a^-0')
def test_any_text_is_a_query_or_a_readable_error(text):
    try:
        query = Query.parse(text)
    except LexLIPError as error:
        assert len(str(error).splitlines()) == 1
        return
    written = str(query)
    if query == Query():  # all weights were 0
        assert written == ""
    else:
        assert Query.parse(written) == query
        assert str(Query.parse(written)) == written


KEYBOARD = st.characters(codec="utf-8", exclude_characters='"+-^:')


@given(st.text(alphabet=KEYBOARD.filter(lambda c: signs(c)[0] == c), max_size=30))
def test_texts_without_signs_are_texts(text):
    if text.strip():
        assert Query.parse(text) == Query.text(" ".join(text.split()))


def test_all_dashes_of_unicode_are_known():
    dashes = {chr(code) for code in range(0x80, 0x11000) if unicodedata.category(chr(code)) == "Pd"}
    assert set(typed._DASHES) >= dashes if unicodedata.unidata_version == "14.0.0" else dashes
    assert all(unicodedata.category(dash) == "Pd" for dash in typed._DASHES)
