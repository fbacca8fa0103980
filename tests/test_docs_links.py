"""The documentation as a site: links lead somewhere, every page is in the navigation."""

from __future__ import annotations

import importlib.util
import re
from xml.etree import ElementTree

import pytest

from tests.support.pages import DOCS, GUIDES, PAGES, ROOT, blocks, name_of


def site_builder():
    spec = importlib.util.spec_from_file_location("build_site", DOCS / "build_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference_pages():
    """Pages that exist in the built site only."""
    return set(site_builder().reference_pages())


def anchors(text):
    headings = re.findall(r"^#+ (.+)$", blocks(text)[1], re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def broken_links(page, text, made_pages):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", blocks(text)[1]):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file.is_relative_to(DOCS) and file.relative_to(DOCS).as_posix() in made_pages:
            continue
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    made_pages = reference_pages()
    assert {"reference/lexlip.index.md", "reference/lexlip.md"} <= made_pages
    assert broken_links(page, page.read_text("utf-8"), made_pages) == []
    bad = "[a](nowhere.md) [b](#nowhere) [c](https://example.org)"
    assert broken_links(page, bad, made_pages) == ["nowhere.md", "#nowhere"]


def test_links_out_of_the_site_become_text():
    text = "[`a`](../../lexlip/a.py) [b](../b.md) [c](c.md) [d](../tour.ipynb)"
    said = site_builder().mend_links(text, "how-to/a.md")
    assert said == "`a` [b](../b.md) [c](c.md) [d](../tour.md)"


def test_pages_are_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text()
    assert [name_of(page) for page in GUIDES if page.relative_to(DOCS).as_posix() not in nav] == []
    listed = re.findall(r"[:-] ([\w/-]+\.md)$", nav, re.MULTILINE)
    assert len(listed) > 10 and len(set(listed)) == len(listed)
    made = ["tour.md", "reference/index.md"]
    assert [one for one in listed if not (DOCS / one).exists()] == made


def test_every_module_is_in_the_navigation():
    builder = site_builder()

    def pages(entries):
        for entry in entries:
            inner = next(iter(entry.values())) if isinstance(entry, dict) else entry
            yield from [inner] if isinstance(inner, str) else pages(inner)

    below = set(pages(builder.module_nav()))
    assert below == {f"reference/{name}.md" for name in builder.modules()} - {"reference/lexlip.md"}


def test_the_picture_is_one_that_browsers_draw():
    picture = DOCS / "architecture.svg"
    ElementTree.parse(picture)
    text = picture.read_text("utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text and "@import" not in text
