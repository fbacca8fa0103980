"""What people do on the page and see there, and what the library answers instead."""

from __future__ import annotations

import base64
import json
import shutil
import time
import urllib.request
from importlib.util import find_spec

import pytest

from lexlip import Query

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(not find_spec("playwright"), reason="playwright is not installed"),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium"),
]


def until(page, expression, *arguments, seconds=15):
    """Wait until JavaScript is true; `wait_for_function` needs eval, which is forbidden."""
    end = time.monotonic() + seconds
    while not (value := page.evaluate(expression, *arguments)):
        assert time.monotonic() < end, f"still not so: {expression}"
        page.wait_for_timeout(20)
    return value


def shown(page):
    """Ids of the tiles, in order."""
    return page.locator(".tile .name").all_inner_texts()


def wait_for_hits(page, ids):
    """Wait until the tiles are just these, in this order."""
    names = "() => [...document.querySelectorAll('.tile .name')].map((name) => name.textContent)"
    until(page, f"(ids) => JSON.stringify(({names})()) === JSON.stringify(ids)", ids)


def best(index, query, k=24):
    """Ids that the library finds."""
    index.reopen()
    asked = Query.parse(query) if isinstance(query, str) else Query.from_words(query)
    return [hit.id for hit in index.search(asked, k)]


def chips(page):
    """Words of the query and their weights, as the page shows them."""
    return {
        chip.get_attribute("data-word"): int(chip.locator("input").input_value())
        for chip in page.locator(".chip").all()
    }


def ask(server, path, **headers):
    with urllib.request.urlopen(urllib.request.Request(server + path, headers=headers)) as answer:
        return json.load(answer)


def drop(page, path):
    """Let a file fall on the page."""
    page.evaluate(
        """([name, data]) => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, {type: "image/png"}));
            for (const type of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(type, {bubbles: true, cancelable: true,
                                                   dataTransfer: transfer});
                document.body.dispatchEvent(event);
            }
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )
