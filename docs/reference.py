"""Hooks of mkdocs: a page of reference for each module of the library.

Links to files outside of docs/, which only a clone has, become plain text in the site.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).resolve().parents[1] / "lexlip"


def modules() -> list[str]:
    """Return the names of all modules of the library that somebody may import."""
    found = []
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
        if parts[-1] != "__main__":
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def summary(name: str) -> str:
    """Return the first line of a module's docstring."""
    path = LIBRARY.parent.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or name).partition("\n")[0]


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each module: mkdocs calls this with the files that it found."""
    from mkdocs.structure.files import File

    pages = {f"{name}.md": f"::: {name}\n" for name in modules()}
    rows = [f"- [`{name}`]({name}.md): {summary(name)}" for name in modules()]
    pages["index.md"] = "# Every module\n\n" + "\n".join(rows) + "\n"
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Take links away that lead out of docs/: mkdocs calls this with each page."""
    here = posixpath.dirname(page.file.src_uri)

    def inside(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[2]))
        return link[1] if target.startswith("..") else link[0]

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]+)\)", inside, markdown)
