"""docs/reliability.md: made from the tests, and true."""

from __future__ import annotations

import json
import re
from pathlib import Path

from . import matrix


def test_the_page_is_what_the_tests_say():
    """`python -m tests.reliability.matrix` writes it anew, `make reliability` measures too."""
    lines = json.loads(matrix.FIGURES.read_text("utf-8"))
    assert matrix.PAGE.read_text("utf-8") == matrix.page(lines)
    known = {test.name for row in matrix.ROWS for test in matrix.tests_of(row)}
    assert lines and {line["test"] for line in lines} <= known


def test_every_row_has_tests_and_every_test_a_row():
    assert [row.number for row in matrix.ROWS] == list(range(1, 23))
    assert all(matrix.tests_of(row) for row in matrix.ROWS)
    for path in Path(__file__).parent.glob("test_*.py"):
        for number in re.findall(r"def test_row_(\d\d)_", path.read_text("utf-8")):
            assert 1 <= int(number) <= 22, path
