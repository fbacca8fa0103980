"""The page for everybody: by keyboard, by name, in both colour schemes, in small windows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.browsing import BROWSER, best, shown, until, wait_for_hits

pytestmark = BROWSER
STATIC = Path(__file__).parents[4] / "lexlip" / "server" / "static"


def test_everything_with_the_keyboard(visit, index, keep):
    page = visit({"q": "red"})
    page.locator(".tile").first.wait_for()
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type("blue night")  # what was there is selected
    wait_for_hits(page, best(index, "blue night"))
    focused = "() => document.activeElement.closest('.tile')?.querySelector('.name').textContent"
    order = shown(page)
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == order[0]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == order[1]
    page.keyboard.press("ArrowDown")
    below = page.evaluate(focused)
    place = "(n) => document.querySelectorAll('.tile')[n].getBoundingClientRect()"
    first, second = page.evaluate(place, 1), page.evaluate(place, order.index(below))
    assert first["x"] == second["x"] and first["y"] < second["y"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")  # to the words of the picture
    page.locator("canvas[data-word]").wait_for()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("heading", name=order[1]).wait_for()
    page.keyboard.press("ArrowRight")
    dialog.get_by_role("heading", name=order[2]).wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    # The dialog gives the focus back in its `close` event, which comes a moment after it is gone.
    there = "(name) => document.activeElement.closest('.tile')?.querySelector('.name').textContent"
    until(page, f"{there} === name", order[2])
    slider = page.get_by_role("slider", name="Weight of blue")
    slider.focus()
    page.keyboard.press("-")
    page.keyboard.press("ArrowLeft")
    wait_for_hits(page, best(index, {"blue": 59, "night": 64}))
    page.keyboard.press("Delete")
    wait_for_hits(page, best(index, {"night": 64}))
    named = "() => document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(named) == "Weight of night"
    page.keyboard.press("Shift+Tab")
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"


NAMELESS = re.compile(
    r"- (button|checkbox|combobox|dialog|heading|link|list|searchbox|slider|table|textbox)\b(?! \")"
)


def test_every_control_has_a_name(visit):
    page = visit()
    page.locator(".example").first.wait_for()
    states = [page.locator("body").aria_snapshot()]
    page.get_by_role("searchbox").fill("red circle -star")
    page.locator(".tile").first.wait_for()
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("More", exact=True).click()
    page.get_by_label("File size, bytes, from").wait_for()
    states.append(page.locator("body").aria_snapshot())
    page.get_by_role("button", name="How to write queries").click()
    states.append(page.locator("body").aria_snapshot())
    page.keyboard.press("Escape")
    page.locator(".tile .open").first.click()
    until(page, "() => document.querySelector('#sum').textContent")
    states.append(page.locator("body").aria_snapshot())
    for state in states:
        assert [line for line in state.splitlines() if NAMELESS.search(line)] == []
    assert 'list "Pictures"' in states[1] and 'slider "Weight of red": "64"' in states[1]
    assert 'textbox "Only where"' in states[1] and 'dialog "Queries are arithmetic"' in states[2]
    assert 'cell "red"' in states[3] or 'rowheader "red"' in states[3]


CONTRAST = """(name) => {
    const element = document.querySelector(name);
    const brush = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const painted = (...colours) => {
        brush.clearRect(0, 0, 1, 1);
        for (const colour of colours) { brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1); }
        return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
            const share = value / 255;
            return share <= .04045 ? share / 12.92 : ((share + .055) / 1.055) ** 2.4;
        });
    };
    const grounds = [];
    for (let up = element; up; up = up.parentElement) {
        grounds.unshift(getComputedStyle(up).backgroundColor);
    }
    const light = ([r, g, b]) => .2126 * r + .7152 * g + .0722 * b;
    const [ink, ground] = [light(painted(...grounds, getComputedStyle(element).color)),
                           light(painted(...grounds))];
    return [(Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05), ground];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_can_be_read(visit, keep, scheme):
    page = visit({"q": "red circle -star"}, color_scheme=scheme, reduced_motion="reduce")
    page.locator(".tile").nth(5).wait_for()
    until(page, "() => [...document.images].slice(0, 6).every((image) => image.complete)")
    keep(page, scheme)
    text = ["#q", "#status", ".chip .name", ".chip output", ".chip .not", ".chip button:last-child"]
    text += [".legend .name", ".matched button", "#cost dt", "#cost dd", ".conditions code"]
    text += [
        ".conditions button",
        "#copy",
        "#narrow",
        "#growth-text",
        "#detail-title",
        "#open-file",
    ]
    text += [".nudges button", "summary", "#delete"]
    for part in text:
        ratio, ground = page.evaluate(CONTRAST, part)
        assert ratio >= 4.5, (part, ratio)
        assert (ground < 0.1) == (scheme == "dark")


def test_small_windows_need_no_sideways_scrolling_and_nothing_jumps(visit, keep):
    page = visit({"q": "red circle -star"}, viewport={"width": 360, "height": 720}, has_touch=True)
    page.locator(".tile").nth(5).wait_for()
    until(page, "() => [...document.images].slice(0, 4).every((image) => image.complete)")
    keep(page, "narrow")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    shifts = """() => new Promise((done) => new PerformanceObserver((list) => done(
        list.getEntries().reduce((sum, entry) => sum + entry.value, 0)))
        .observe({type: "layout-shift", buffered: true}) || setTimeout(() => done(0), 300))"""
    assert page.evaluate(shifts) < 0.05
    page.locator(".tile .open").first.tap()
    page.get_by_role("dialog").get_by_role("button", name="Close").tap()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_needs_nothing_from_elsewhere():
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\ssrc=)", html)
    for path in STATIC.iterdir():
        outside = re.sub(r'xmlns="http://www.w3.org/2000/svg"', "", path.read_text())
        assert not re.search(r"https?:|//cdn|@import", outside), path.name
    ids = set(re.findall(r'id="([^"]+)"', html))
    for path in STATIC.glob("*.js"):
        assert set(re.findall(r'\$\("([^"]+)"\)', path.read_text())) <= ids, path.name
