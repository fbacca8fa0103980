"""Reads the filters of `lexlip.filters.where`: a few nodes of Python's own syntax tree."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.filters.columns import Value, kind_of, nfc

MAX_TEXT = 65_536
"""Longest filter in characters."""

MAX_COMPARISONS = 1_000
"""Most comparisons in a filter; a list after `in` counts once."""

MAX_DEPTH = 100
"""Deepest nesting of and, or, not."""

_SIGNS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
TEXT_SIGNS = ("startswith", "contains")
"""Methods of text columns: folder.startswith("2024/")."""

_FILE = "<filter>"
# Python warns of 2020and; a filter is refused, or it is not.
warnings.filterwarnings("ignore", category=SyntaxWarning, module=re.escape(_FILE))

_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Compare:
    """A column compared with a constant, or with a tuple of them for `in` and `not in`.

    Texts are in Unicode's composed form, as metadata are.
    """

    column: str
    sign: str
    value: Value | tuple[Value, ...]


@dataclass(frozen=True)
class Not:
    """True where its operand is false."""

    operand: Expression


@dataclass(frozen=True)
class And:
    """True where all operands are."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True)
class Or:
    """True where some operand is."""

    operands: tuple[Expression, ...]


Expression = Compare | Not | And | Or


def parse(text: str) -> Expression:
    """Read a filter.

    Raises
    ------
    LexLIPError
        For anything that is not in the language, with the place and what to write.

    Examples
    --------
    >>> parse("2020 <= year")
    Compare(column='year', sign='>=', value=2020)
    """
    return _Parser(text).parse()


class _Parser:
    """Turns Python's syntax tree into ours, node by node, refusing what is not listed."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise LexLIPError("the filter is empty: write one such as year >= 2020")
        self.text = text.strip()
        self.left = MAX_COMPARISONS
        if len(self.text) > MAX_TEXT:
            raise LexLIPError(f"the filter has {len(text)} characters: at most {MAX_TEXT}")

    def parse(self) -> Expression:
        """Read the whole text."""
        try:
            tree = ast.parse(self.text, _FILE, mode="eval")
        except SyntaxError as error:
            at = max(0, (error.offset or 1) - 1) if error.lineno in (None, 1) else len(self.text)
            single = re.search(r"(?<![=!<>])=(?![=])", self.text)
            if "=>" in self.text or "=<" in self.text:
                fix = "write >= or <="
            elif single:
                fix, at = "write == to compare", single.start()
            else:
                fix = "write comparisons, such as year >= 2020, joined by and, or, not"
            raise self.error(at, fix) from None
        except (ValueError, RecursionError, MemoryError):
            raise LexLIPError(
                f"filter {self.text!r:.60} cannot be read: no NUL characters, fewer parentheses"
            ) from None
        return self.expression(tree.body, 0)

    def error(self, at: int, fix: str) -> LexLIPError:
        place = self.text[at : at + 20]
        where = f"at character {at + 1}, {place!r:.60}" if place else "at its end"
        return LexLIPError(f"filter {self.text!r:.200} is wrong {where}: {fix}")

    def wrong(self, node: ast.AST, fix: str) -> LexLIPError:
        line = self.text.split("\n")[: getattr(node, "lineno", 1)]
        # Python counts UTF-8 bytes within the line.
        column = len(line[-1].encode()[: getattr(node, "col_offset", 0)].decode())
        return self.error(sum(len(one) + 1 for one in line[:-1]) + column, fix)

    def expression(self, node: ast.expr, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise self.wrong(node, f"nest at most {MAX_DEPTH} deep")
        if isinstance(node, ast.BoolOp):
            operands = tuple(self.expression(value, depth + 1) for value in node.values)
            return And(operands) if isinstance(node.op, ast.And) else Or(operands)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            operand = self.expression(node.operand, depth + 1)
            return operand.operand if isinstance(operand, Not) else Not(operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = tuple(
                self.compare(left, sign, right)
                for left, sign, right in zip(sides, node.ops, sides[1:], strict=False)
            )
            return pairs[0] if len(pairs) == 1 else And(pairs)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            return self.method(node, node.func)
        name = self.name(node)
        if name is not None:
            return self.counted(node, Compare(name, "==", True))
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            raise self.wrong(node, "write and, or in place of &, |")
        raise self.wrong(node, "write a comparison, such as year >= 2020")

    def compare(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> Expression:
        written = _SIGNS.get(type(sign))
        name, other = self.name(left), self.name(right)
        if written is None:
            if name is None or not (isinstance(right, ast.Constant) and right.value is None):
                raise self.wrong(left, "write == or !=; is goes with None: year is None")
            there = self.counted(left, Compare(name, "not in", ()))
            return there if isinstance(sign, ast.IsNot) else Not(there)
        if name is not None and other is not None:
            raise self.wrong(right, f"compare with a constant; text goes in quotes, {other!r:.60}")
        if name is None and other is None:
            raise self.wrong(left, "compare a column with a constant, such as year >= 2020")
        if written in ("in", "not in"):
            text = left.value if isinstance(left, ast.Constant) else None
            if other is not None and isinstance(text, str):  # "trip" in folder
                inside = self.counted(right, Compare(other, "contains", nfc(text)))
                return inside if written == "in" else Not(inside)
            if name is None or not isinstance(right, (ast.Tuple, ast.List)):
                raise self.wrong(
                    left if name is None else right, 'write column in ("one", "two"), a list'
                )
            values = tuple(self.constant(element) for element in right.elts)
            return self.counted(left, Compare(name, written, values))
        if name is not None:
            return self.counted(left, Compare(name, written, self.constant(right)))
        assert other is not None
        return self.counted(left, Compare(other, _MIRRORED[written], self.constant(left)))

    def method(self, node: ast.Call, called: ast.Attribute) -> Compare:
        """Read column.startswith("text") or column.contains("text")."""
        name, value = self.name(called.value), None
        if len(node.args) == 1 and not node.keywords:
            value = self.constant(node.args[0])
        if name is None or called.attr not in TEXT_SIGNS or not isinstance(value, str):
            raise self.wrong(node, 'write folder.startswith("2024/") or folder.contains("trip")')
        return self.counted(node, Compare(name, called.attr, value))

    def counted(self, node: ast.expr, compare: Compare) -> Compare:
        self.left -= 1
        if self.left < 0:
            raise self.wrong(
                node, f"at most {MAX_COMPARISONS} comparisons; use in for a list of values"
            )
        return compare

    def name(self, node: ast.expr) -> str | None:
        """Return the column's name where the node is one, written plainly or as column("...")."""
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Call):
            given = node.args[0] if len(node.args) == 1 and not node.keywords else None
            if (
                isinstance(node.func, ast.Name)
                and node.func.id == "column"
                and isinstance(given, ast.Constant)
                and isinstance(given.value, str)
            ):
                return nfc(given.value)
            raise self.wrong(
                node, 'no calls but column("a name in quotes"), .startswith and .contains'
            )
        return None

    def constant(self, node: ast.expr) -> Value:
        value: Any = node.value if isinstance(node, ast.Constant) else None
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            number: Any = node.operand.value if isinstance(node.operand, ast.Constant) else None
            if type(number) in (int, float):
                value = -number if isinstance(node.op, ast.USub) else number
        try:
            if kind_of(value) is not None:
                return nfc(value) if isinstance(value, str) else value
        except LexLIPError as error:
            raise self.wrong(node, str(error)) from None
        if isinstance(node, ast.Constant):
            raise self.wrong(node, "a missing value equals nothing: write column is None")
        raise self.wrong(node, "write a number, True, False, or text in quotes")
