"""The site, built: it opens from its folder, asks no network, and its search works there."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from tests.support.browsing import BROWSER, CHROMIUM, until
from tests.test_docs_links import site_builder

BUILDER = Path(sys.executable).with_name("zensical")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not BUILDER.exists() or not importlib.util.find_spec("nbconvert"),
        reason="the extra docs is not installed: make docs",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    assert site_builder().build(folder / "site", folder / "prepared") == 0
    return folder / "site"


def test_pages_and_no_sources_are_in_it(site):
    assert {"index.html", "tour.html", "reference/lexlip.index.html"} <= {
        path.relative_to(site).as_posix() for path in site.rglob("*.html")
    }
    assert [path.name for path in site.rglob("*") if path.suffix in (".py", ".ipynb", ".md")] == []


def test_modules_list_their_methods(site):
    page = (site / "reference" / "lexlip.index.html").read_text("utf-8")
    side = page[page.index('aria-label="On this page"') :]
    assert {"Index.create", "Index.search", "Index.explain"} <= set(
        re.findall(r'href="#lexlip\.index\.(Index\.\w+)"', side)
    )


def test_the_notebook_is_a_page_with_its_outputs(site):
    page = (site / "tour.html").read_text("utf-8")
    pictures = re.findall(r'src="(tour/[^"]+\.jpg)"', page)
    assert len(pictures) >= 4 and all((site / one).stat().st_size > 1000 for one in pictures)
    assert "scene-0000" in page


def test_pages_fetch_nothing(site):
    """Scripts, styles, pictures and letters are files of the site."""
    asked = re.compile(
        r"<(?:script|link|img|iframe|source)[^>]*?(?:src|href)=\"?((?:https?:)?//[^\"> ]*)"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 100 and asked.search('<script src="https://cdn.example/x.js">')
    found = {url for page in pages for url in asked.findall(page.read_text("utf-8"))}
    assert {url for url in found if "canonical" not in url} == set()
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert styles and not any(re.search(r"url\([\"']?(?:https?:)?//", one) for one in styles)


@pytest.fixture
def page(site):
    """The start page, opened from its folder; the test fails if anything else is asked for."""
    from playwright.sync_api import sync_playwright

    asked = []
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = browser.new_page(viewport={"width": 390, "height": 844})
        found.on("request", lambda one: asked.append(one.url))
        found.goto((site / "index.html").as_uri())
        yield found
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


class TestInABrowser:
    pytestmark = BROWSER

    def test_search_works_without_a_server(self, page):
        page.keyboard.press("/")
        page.keyboard.type("prune")
        page.get_by_text("Keep an index up to date").last.wait_for(timeout=30_000)
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"(keep|install|reference).*\.html"), timeout=15_000)

    @pytest.mark.parametrize("name", ["index", "formats", "results/engines", "how-to/operate",
                                      "reference/lexlip.index", "tour"])  # fmt: skip
    def test_a_phone_scrolls_tables_and_not_the_page(self, page, site, name):
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        inner = page.evaluate(
            "Math.max(0, ...[...document.querySelectorAll('.md-typeset__scrollwrap, pre code')]"
            ".map((one) => one.scrollWidth))"
        )
        assert inner > 390 or name == "index"  # there is something to scroll

    def test_code_is_highlighted_and_copied_and_colours_follow_the_system(self, page, site):
        page.goto((site / "tutorial.html").as_uri())
        assert page.locator("pre code span.k, pre code span.kn").count() >= 3
        assert page.locator("button.md-code__button, [data-md-type=copy]").count() > 3
        ground = "getComputedStyle(document.body).backgroundColor"
        page.emulate_media(color_scheme="light")
        light = until(page, ground)
        page.emulate_media(color_scheme="dark")
        page.reload()
        until(page, f"(light) => {ground} !== light", light)
