"""Texts that people type: queries and filters."""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import Any

from tests.reliability.fuzz.harness import Harness, refused

ODD = tuple(
    text.encode()
    for text in (
        " ", "\n", "\t", "\0", "\u00a0", "\u200b", "\u202e", "\ufeff", "e\u0301", "\u00e9", "–",
        "−", "≥",
        "“", "”", "🌙", "שמש", "ﬁ", "Ａ", "İ", "ß", "'", "\"", "\\", "\\\"", "(", ")", "((((((((",
        "#",
        "9" * 400, "1e308", "1e-400", ".", "0", "-0", "a" * 500,
    )
)  # fmt: skip


class Texts(Harness):
    """A small index that is asked."""

    seconds = 5.0
    megabytes = 1000

    def open(self) -> None:
        from lexlip import Index
        from tests.reliability.fuzz.indexes import small_index

        self._home = tempfile.mkdtemp()
        small_index(Path(self._home) / "i.lex")
        self.index: Any = Index.open(Path(self._home) / "i.lex")

    def warm(self) -> None:
        self.index.search(dict.fromkeys(range(9), 1), 5, where="odd")

    def attempt(self, data: bytes) -> None:
        from lexlip import LexLIPError

        # Half characters too, as command lines and JSON carry them.
        text = data.decode("utf-8", "surrogateescape" if len(data) % 5 == 0 else "replace")
        try:
            self.ask(text)
        except LexLIPError as error:
            refused(error)

    @abstractmethod
    def ask(self, text: str) -> None:
        """Use a text."""

    def close(self) -> None:
        self.index.close()
        shutil.rmtree(self._home, ignore_errors=True)


class Queries(Texts):
    """The grammar of queries: what is read is written, and read again as the same."""

    name = "queries"
    packages = ("lexlip.query", "lexlip.models.typed")
    tokens = (
        b"+", b"-", b" + ", b" - ", b":", b"2:", b"-0.5:", b"^", b"^64", b"^-3", b">=", b">=40",
        b"must:",
        b"img:", b"boost:", b"missing:", b"missing:20", b'"red car"', b"red", b"1e9:", b".5:", *ODD,
    )  # fmt: skip

    def seeds(self) -> list[bytes]:
        """Return one query for each sign, and some of several."""
        return [
            b"a red flower + a bee", b'2:bee 0.5:"a red car" + star', b"-people - car -\"red car\"",
            b"-people>=40 star", b"-0.5:circle + square", b'must:red must:"red car" must:green>=40',
            b"red^64 circle^58 star^-10", b"2:red^3 blue^4", b"red boost:red^2", b"star missing:20",
            "–people “red car” must:star≥40".encode(), b"t-shirt 16:9 C++", b'"a \\" b \\\\"^3',
            b"img:street.jpg", b'2:img:"my street.jpg" -1:img:a.png',
        ]  # fmt: skip

    def ask(self, text: str) -> None:
        from lexlip.query.parser import parse
        from lexlip.query.query import Query

        tree = parse(text)
        assert parse(str(tree)) == tree, f"{str(tree)!r} is read as another query"
        if len(text) < 400 and not Query.parse(text).has_pictures:
            for hit in self.index.search(Query.parse(text), 5):
                assert isinstance(hit.score, int)


class Filters(Texts):
    """The language of filters: a filter and its opposite share the documents out."""

    name = "filters"
    packages = ("lexlip.filters",)
    tokens = (
        b" and ", b" or ", b"not ", b" in ", b" not in ", b"==", b"!=", b"<", b"<=", b">=",
        b" is None",
        b" is not None", b"year", b"word", b"half", b"odd", b"nobody", b"2003", b"0.5", b"'a'",
        b"True",
        b"None", b".startswith(", b".contains(", b"column('year')", b"(", b")", b"[", b"]", b",",
        b"('a', 'b')", b"lambda: 0", b"f'{year}'", b"__import__('os')", b":=", b"*", b"b'a'",
        b"1j", b"...",
        b"0x" + b"f" * 4000, b"-", b"~", b" if ", b" else ", b" for ", b"await ", b"{", b"}", *ODD,
    )  # fmt: skip

    def seeds(self) -> list[bytes]:
        """Return one filter for each form."""
        return [
            b"year >= 2003 and word == 'b'", b"2001 <= year < 2005", b"not (odd or half > 1.5)",
            b"word in ('a', 'c') or year not in [2001, 2002]", b"word.startswith('a')",
            b"word.contains('b') and odd == True", b"'a' in word",
            b"year is None or half is not None",
            b"column('year') == 2004 and not odd", b"half == -0.5 or half >= +1", b"odd",
        ]  # fmt: skip

    def ask(self, text: str) -> None:
        from lexlip import LexLIPError

        every = dict.fromkeys(range(200), 1)
        found = [hit.id for hit in self.index.search(every, 20, where=text)]
        try:
            others = [hit.id for hit in self.index.search(every, 20, where=f"not (\n{text}\n)")]
        except LexLIPError:  # one level deeper may be too deep
            return
        total = sorted(hit.id for hit in self.index.search(every, 20))
        assert sorted(found + others) == total, f"{found} and {others} of {total}"
