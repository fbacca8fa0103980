"""The pages of the documentation, and what stands in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
GUIDES = sorted(DOCS.rglob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *GUIDES]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A piece of code in a page: fenced, with its language, or indented."""

    language: str
    text: str
    line: int


def blocks(text):
    """The code blocks of a page in Markdown, and the page without them."""
    found, prose = [], []
    lines = iter(enumerate(text.splitlines(), 1))
    before = ""
    for number, line in lines:
        if line.startswith("```"):
            inside = []
            for _, one in lines:
                if one.startswith("```"):
                    break
                inside.append(one)
            found.append(Block(line.strip("` "), "\n".join(inside) + "\n", number))
        elif line.startswith("    ") and (not before.strip() or before.startswith("    ")):
            found.append(Block("", line[4:] + "\n", number))
        else:
            prose.append(line)
        before = line
    return found, "\n".join(prose)
