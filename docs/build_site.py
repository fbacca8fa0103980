"""Builds the site: docs/, a page for each module of the library, and the notebook as a page.

    python docs/build_site.py

Zensical reads what is prepared in build/site/, with the settings of mkdocs.yml. Links to files
outside of docs/, which only a clone has, become plain text in the site.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
LIBRARY = ROOT / "lexlip"
PREPARED = ROOT / "build" / "site"
NOTEBOOK = "tour"
ALL_MODULES = "Every module"


def modules() -> list[str]:
    """Return the names of all modules of the library that somebody may import."""
    found = []
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def summary(name: str) -> str:
    """Return the first line of a module's docstring."""
    path = ROOT.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or name).partition("\n")[0]


def module_nav(package: str = "lexlip") -> list[Any]:
    """Return what the navigation lists below a package: its modules, with packages as sections."""
    below = [name for name in modules() if name.startswith(f"{package}.")]
    entries: list[Any] = []
    for name in below:
        title, page = name.rpartition(".")[2], f"reference/{name}.md"
        if name == f"{package}.{title}":
            inner = any(other.startswith(f"{name}.") for other in below)
            entries.append({title: [page, *module_nav(name)] if inner else page})
    return entries


def reference_pages() -> dict[str, str]:
    """Return the pages that are made from docstrings, by path."""
    pages = {f"reference/{name}.md": f"::: {name}\n" for name in modules()}
    rows = [f"- [`{name}`]({name}.md): {summary(name)}" for name in modules()]
    return pages | {"reference/index.md": f"# {ALL_MODULES}\n\n" + "\n".join(rows) + "\n"}


def notebook_pages() -> dict[str, str | bytes]:
    """Return the notebook as Markdown, and its pictures, by path."""
    from nbconvert import MarkdownExporter

    resources = {"output_files_dir": NOTEBOOK}
    text, made = MarkdownExporter().from_filename(str(DOCS / f"{NOTEBOOK}.ipynb"), resources)
    page = re.sub(r"[ \t]+\n", "\n", text.replace("![jpeg](", "![What the cell shows]("))
    # What a cell prints is indented: a fence of its own says that it is no code.
    page = re.sub(r"\n\n((?:    .*\n)(?:    .*\n|\n(?=    ))*)", _printed, page)
    return {f"{NOTEBOOK}.md": page, **made["outputs"]}


def _printed(block: re.Match[str]) -> str:
    return "\n\n```text\n" + re.sub("^    ", "", block[1], flags=re.MULTILINE) + "```\n"


def mend_links(markdown: str, page: str) -> str:
    """Turn links that lead out of docs/ into text, and those to the notebook to its page.

    Parameters
    ----------
    markdown : str
    page : str
        Path of the page below docs/.
    """
    here = posixpath.dirname(page)

    def inside(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[2]))
        return link[1] if target.startswith("..") else link[0]

    markdown = re.sub(rf"\]\(([./]*){NOTEBOOK}\.ipynb\)", rf"](\1{NOTEBOOK}.md)", markdown)
    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]+)\)", inside, markdown)


def settings() -> dict[str, Any]:
    """Return the settings of mkdocs.yml, with all modules in the navigation."""
    import yaml

    found: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    for section in found["nav"]:
        for entry in next(iter(section.values())):
            if isinstance(entry, dict) and ALL_MODULES in entry:
                top = {"lexlip": "reference/lexlip.md"}
                entry[ALL_MODULES] = [entry[ALL_MODULES], top, *module_nav()]
    for plugin in found["plugins"]:
        if isinstance(plugin, dict) and "mkdocstrings" in plugin:
            plugin["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    return found | {"docs_dir": "docs", "site_dir": "site"}


def prepare(folder: Path = PREPARED) -> Path:
    """Write all pages and the settings into an empty folder, and return the settings' path."""
    import yaml

    shutil.rmtree(folder, ignore_errors=True)
    docs = folder / "docs"
    shutil.copytree(DOCS, docs, ignore=shutil.ignore_patterns("*.py", "*.ipynb", "__pycache__"))
    for name, content in {**reference_pages(), **notebook_pages()}.items():
        path = docs / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for path in docs.rglob("*.md"):
        name = path.relative_to(docs).as_posix()
        path.write_text(mend_links(path.read_text("utf-8"), name), "utf-8")
    made = folder / "mkdocs.yml"
    made.write_text(yaml.safe_dump(settings(), sort_keys=False), "utf-8")
    return made


def build(site: Path = ROOT / "site", folder: Path = PREPARED) -> int:
    """Build the site, and return what the builder returned: not 0 for a broken link."""
    made = prepare(folder)
    line = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    done = subprocess.run([*line, "-f", str(made)], cwd=folder)
    if done.returncode == 0:
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(folder / "site", site)
    return done.returncode


if __name__ == "__main__":
    sys.exit(build())
