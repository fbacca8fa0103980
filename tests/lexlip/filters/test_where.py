"""The filter language against plain Python, row by row."""

from __future__ import annotations

import math
import operator
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lexlip.errors import LexLIPError
from lexlip.filters.columns import MAX_WHOLE, Column, merge_kinds, read_columns
from lexlip.filters.where import Where

BIG = MAX_WHOLE
WHOLE = st.one_of(st.integers(-3, 3), st.sampled_from([BIG, BIG - 1, -BIG, 2001]))
FRACTION = st.one_of(
    st.sampled_from([0.5, -0.5, 2.0, -0.0, 1e300, math.inf, -math.inf, 5e-324, float(BIG)]),
    st.floats(-3, 3, allow_nan=False),
)
TEXT = st.one_of(
    st.sampled_from(
        ["", "a", "ab", "b", "B", "é", "2024-05-31", "2024-06", "\U0001f600", "\uffee"]
    ),
    st.text(max_size=3),
)
VALUES = {
    "whole": WHOLE,
    "fraction": FRACTION,
    "mixed": st.one_of(WHOLE, FRACTION),
    "word": TEXT,
    "flag": st.booleans(),
}
CONSTANTS = {**VALUES, "whole": st.one_of(WHOLE, FRACTION), "fraction": st.one_of(WHOLE, FRACTION)}
SIGNS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, many: value in many,
    "not in": lambda value, many: value not in many,
}
ROW = st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()})
ROWS = st.lists(ROW, min_size=1, max_size=12)


def written(value):
    """Write a constant as the language reads it."""
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return repr(value)


def comparison(name):
    """Draw (text, predicate of a row) for one column."""
    signs = ["==", "!=", "in", "not in"] if name == "flag" else list(SIGNS)

    def build(draw):
        sign, value, many = draw
        if sign in ("in", "not in"):
            value = tuple(many)
            right = "[" + ", ".join(map(written, many)) + "]"
        else:
            right = written(value)
        test = SIGNS[sign]
        return (
            f"{name} {sign} {right}",
            lambda row: row[name] is not None and test(row[name], value),
        )

    constant = CONSTANTS[name]
    return st.tuples(st.sampled_from(signs), constant, st.lists(constant, max_size=4)).map(build)


def chain(draw):
    low, high, first, second = draw
    return (
        f"{written(low)} {first} mixed {second} {written(high)}",
        lambda row: (
            row["mixed"] is not None
            and SIGNS[first](low, row["mixed"])
            and SIGNS[second](row["mixed"], high)
        ),
    )


ORDERS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
LEAF = st.one_of(
    *[comparison(name) for name in VALUES],
    st.tuples(WHOLE, FRACTION, ORDERS, ORDERS).map(chain),
    st.just(("flag", lambda row: row["flag"] is True)),
    st.sampled_from(list(VALUES)).map(lambda n: (f"{n} is None", lambda row: row[n] is None)),
    st.sampled_from(list(VALUES)).map(
        lambda n: (f'column("{n}") is not None', lambda row: row[n] is not None)
    ),
)


def joined(parts):
    word, one, two = parts
    if word == "and":
        return f"({one[0]}) and ({two[0]})", lambda row: one[1](row) and two[1](row)
    return f"({one[0]} or {two[0]})", lambda row: one[1](row) or two[1](row)


FILTER = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        inner.map(lambda one: (f"not ({one[0]})", lambda row: not one[1](row))),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner).map(joined),
    ),
    max_leaves=6,
)


def columns_of(rows):
    """Columns with a first row that has every value: no column is unknown."""
    return {name: Column.of([row[name] for row in rows], name) for name in rows[0]}


FULL = {"whole": 2, "fraction": 0.5, "mixed": 1.5, "word": "a", "flag": True}


@settings(max_examples=300)
@given(FILTER, ROWS)
def test_masks_are_what_python_says_row_by_row(drawn, rows):
    text, predicate = drawn
    rows = [FULL, *rows]
    where = Where.parse(text)
    assert where.mask(columns_of(rows)).tolist() == [bool(predicate(row)) for row in rows]
    assert where == Where.parse(f"  {text} ") and hash(where) == hash(Where.parse(text))


def rows_of(filter, **columns):
    return np.flatnonzero(
        Where.parse(filter).mask({name: Column.of(values) for name, values in columns.items()})
    ).tolist()


def test_missing_values_are_false_and_not_is_plain():
    year = [2001, None, float("nan"), 2020]
    assert rows_of("year == 2001", year=year) == [0]
    assert rows_of("year != 2001", year=year) == [3]
    assert rows_of("not (year == 2001)", year=year) == [1, 2, 3]
    assert rows_of("year not in (2001,)", year=year) == [3]
    assert rows_of("year is None", year=year) == [1, 2]
    assert rows_of("not night", night=[True, False, None]) == [1, 2]


def test_dates_compare_as_iso_text():
    taken = ["2024-05-31", "2024-06-01T10:00", "2023-12-31", None]
    assert rows_of("'2024-01' <= taken < '2024-06'", taken=taken) == [0]


def test_chains_bind_as_in_python():
    year = list(range(1998, 2023))
    assert rows_of("2000 <= year < 2003 or year == 2020 and year > 0", year=year) == [2, 3, 4, 22]
    assert Where.parse("1 < a < 2 and b in ('x',)").columns == {"a", "b"}
    assert rows_of("not not year == 1998", year=year) == [0]


def test_columns_with_odd_names():
    assert rows_of('column("my tag") == "x"', **{"my tag": ["x", "y"]}) == [0]
    assert rows_of('column("class") != "x"', **{"class": ["x", "y"]}) == [1]


def test_equal_looking_constants_differ():
    assert Where.parse("a == 1") != Where.parse("a == True")
    assert Where.parse("a==1") == Where.parse("a  ==  1")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "empty"),
        ("year = 2020", "character 6.*write =="),
        ("year => 2020", "write >="),
        ("year >", "is wrong.*year >= 2020"),
        ("year > 2020 extra", "is wrong"),
        ("year & night", "write and, or"),
        ("folder == trip", "text goes in quotes, 'trip'"),
        ("1 < 2", "compare a column"),
        ("True", "write a comparison"),
        ("year == None", "column is None"),
        ("year is 2020", "write == or !="),
        ("year == b'x'", "is a bytes"),
        ("year == 1j", "is a complex"),
        ("year == 'a' + 'b'", "write a number"),
        ("year == -True", "write a number"),
        ("year == f'{year}'", "write a number"),
        ("year in 2020", "a list"),
        ("2020 in year", "a list"),
        ("year in [x]", "write a number"),
        ("year in [n for n in (1,)]", "a list"),
        ("year == 9007199254740993", "as text"),
        ("__import__('os').system('true')", "no calls"),
        ("column(year) == 1", "no calls"),
        ("year.real == 1", "compare a column"),
        ("(lambda: 1)() == year", "no calls"),
        ("year[0] == 1", "compare a column"),
        ("year if night else year", "write a comparison"),
        ("(year := 3) > 2", "compare a column"),
        ("year > 1\nnight", "is wrong"),
        ("year > '\udcff'", "."),
        ("year > 1\0", "NUL|is wrong"),
        ("not " * 300 + "night", "nest at most|fewer"),
        ("(" * 500 + "night" + ")" * 500, "is wrong|fewer"),
        (" or ".join(["night"] * 1001), "at most 1000 comparisons"),
        ("year in (" + "1," * 40_000 + ")", "characters: at most"),
    ],
)
def test_what_is_not_in_the_language_is_refused_in_one_line(text, match):
    with pytest.raises(LexLIPError, match=match) as caught:
        Where.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "year == 0x" + "f" * 4000,
        "-0x" + "f" * 4000 + " < year",
        "year in [" + "9" * 4000 + "]",
        "\\\x01" * 3000,
        "a" * 60_000 + " == 1",
        "year == " + "b" * 60_000,
        "a" * 60_000,
        "folder < " + "1" * 10,
        "folder.contains('" + "\U000e0001" * 9000 + "') and year.contains('a')",
        "year >= 'a' and folder == '" + "\x01" * 9000 + "'",
        "flag < True or folder == '" + "\x01" * 9000 + "'",
    ],
)
def test_a_refusal_is_short(text):
    """Whatever was typed: numbers that Python does not write, names and texts of any length."""
    kinds = {"year": "int", "folder": "str", "flag": "bool"}
    with pytest.raises(LexLIPError) as refusal:
        Where.parse(text).check(kinds)
    assert len(str(refusal.value)) < 800 and "\n" not in str(refusal.value)
    with pytest.raises(LexLIPError):
        Where.parse("nobody == 1").check({"c" * 90 + str(n): "int" for n in range(64)})


def test_nothing_but_the_answer_is_said():
    """Python warns of a number that a word follows at once."""
    code = "from lexlip.filters.where import Where; Where.parse('year >= 2003and flag')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_place_is_counted_in_characters():
    with pytest.raises(LexLIPError, match="at character 19, 'trip'"):
        Where.parse("é == 'ü' and x == trip"[:13] + "é == trip")
    with pytest.raises(LexLIPError, match="at character 21, 'x"):
        Where.parse("(é == 'ü' and\n é == x)")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("yaer > 2", "no document has a column 'yaer': did you mean 'year'"),
        ("empty == 1", "no document has a column 'empty'"),
        ("year == '2020'", "whole numbers.*number without quotes, not with '2020'"),
        ("year in (1, 'x')", "not with 'x'"),
        ("year == True", "not with True"),
        ("year", "not with True"),
        ("folder > 3", "text in quotes, not with 3"),
        ("night == 1", "True or False, not with 1"),
        ("night < True", "write night or not night"),
    ],
)
def test_filters_that_do_not_fit_the_columns(text, match):
    columns = {
        "year": Column.of([2020]),
        "folder": Column.of(["trip"]),
        "night": Column.of([True]),
        "empty": Column.of([None]),
    }
    with pytest.raises(LexLIPError, match=match):
        Where.parse(text).mask(columns)
    with pytest.raises(LexLIPError, match="no metadata"):
        Where.parse(text).mask({})


# Columns

ANY = st.sampled_from(list(VALUES)).flatmap(lambda name: st.lists(st.none() | VALUES[name]))


@given(ANY, st.data())
def test_columns_give_back_their_values(values, data):
    column = Column.of(values)
    assert column.values() == values
    rows = data.draw(st.lists(st.integers(0, len(values) - 1))) if values else []
    assert column.take(rows).values() == [values[row] for row in rows]
    cut = data.draw(st.integers(0, len(values)))
    parts = [Column.of(values[:cut]), Column.missing(2), Column.of(values[cut:])]
    both = Column.concat(parts)
    assert both.values() == [*values[:cut], None, None, *values[cut:]]
    assert both.kind == column.kind
    for one in (column, both):
        assert [value for value in one.data[~one.present].tolist() if value] == []


def test_kinds():
    assert Column.of([1, None, 2]).kind == "int"
    assert Column.of([1, 2.5]).values() == [1.0, 2.5]
    assert Column.of([None, float("nan")]).kind is None
    assert Column.of(np.array([1, 2], dtype=np.int16)).values() == [1, 2]
    assert Column.of(np.array(["a", "b"])).kind == "str"
    assert Column.of([np.float32(0.5), np.bool_(True)][:1]).kind == "float"
    assert Column.of(np.array([True])).values() == [True]
    assert Column.concat([]).values() == []
    assert merge_kinds({"a": "float"}, {"a": Column.of([1]), "b": Column.of([None])}) == {
        "a": "float"
    }


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([1, "a"], "'year', value 1, 'a'.*value 0 is 1"),
        ([True, 1], "truth values and whole numbers"),
        ([[1]], "is a list"),
        ([2**53 + 1], "as text"),
        ([2**20_000], "a number of 20,001 bits"),
        (["\udcff"], "Unicode"),
        (["x" * 40_000], "at most 32766"),
        ("trip", "give a list"),
        ([1, 2], "2 values for 1 documents"),
    ],
)
def test_bad_columns_are_refused(values, match):
    with pytest.raises(LexLIPError, match=match):
        read_columns({"year": values}, 1)


def test_bad_names_and_meetings_are_refused():
    for name in ("", 7, "\udcff"):
        with pytest.raises(LexLIPError):
            read_columns({name: [1]}, 1)
    with pytest.raises(LexLIPError, match="'a'.*text and whole numbers"):
        merge_kinds({"a": "str"}, {"a": Column.of([1])})
    with pytest.raises(LexLIPError, match="do not go"):
        Column.concat([Column.of([1]), Column.of(["a"])])


def test_texts_are_looked_into():
    where = Where.parse("folder.startswith('2024/') or 'trip' in folder")
    folders = ["2024/a", "2024", "a trip", None, "2025/trip"]
    columns = {"folder": Column.of(folders), "year": Column.of([1, 2, 3, 4, 5])}
    assert where.mask(columns).tolist() == [True, False, True, False, True]
    assert Where.parse("'trip' not in folder").mask(columns).tolist() == [
        True, True, False, True, False
    ]  # fmt: skip
    assert Where.parse('column("my tag").contains("x")').columns == {"my tag"}
    for text in (
        "folder.startswith(2024)", "folder.endswith('a')", "folder.startswith('a', 'b')",
        "folder.startswith(year)", "'a'.startswith(folder)", "folder.upper() == 'A'",
    ):  # fmt: skip
        with pytest.raises(LexLIPError, match="is wrong at"):
            Where.parse(text)
    with pytest.raises(LexLIPError, match="startswith is for text"):
        Where.parse("year.startswith('2')").mask(columns)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_texts_have_one_unicode_form(form):
    word = unicodedata.normalize(form, "é")
    for text in (f"place == '{word}'", f"place.startswith('{word}')", f"place in ('{word}', 'x')"):
        for other in ("NFC", "NFD"):
            column = Column.of([unicodedata.normalize(other, "é"), "e"])
            assert Where.parse(text).mask({"place": column}).tolist() == [True, False]
