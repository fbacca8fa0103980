"""Results on the page: why they were found, other systems beside them, what may be changed."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime

import torch

from lexlip import Index, Query
from lexlip.models import load
from lexlip.models.lexical.lexicalise import lexicalise
from lexlip.rerank.fit import WEAK
from tests.lexlip.server.page.conftest import served
from tests.support.browsing import BROWSER, ask, best, shown, until, wait_for_hits
from tests.support.clips import WORDS, small_clip, small_tokenizer

pytestmark = BROWSER


def test_pointing_at_a_word_lights_the_patch_that_won(visit, index, pictures, complaints, keep):
    page = visit({"q": "red night"})
    tile = page.locator(".tile").first
    tile.wait_for()
    model, path = index.model, pictures / shown(page)[0]
    with torch.no_grad():  # the weight is the largest of these, patch by patch
        hidden = model.vision(next(iter(model._image_features([path], 1))))
        words = [model.lexicon.tokens[i] for i in model.lexicon_ids]
        patches = model.image_head.logits(hidden)[0, -16:, words.index("night")]
    row, column = divmod(int(patches.argmax()), 4)
    canvas = tile.locator("canvas")
    dark = """(canvas) => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const alpha = (r, c) => pixels.data[4 * (Math.round((r + .5) * canvas.height / 4)
            * canvas.width + Math.round((c + .5) * canvas.width / 4)) + 3];
        return [0, 1, 2, 3].map((r) => [0, 1, 2, 3].map((c) => alpha(r, c)));
    }"""
    word = tile.locator(".matched button", has_text="night")
    for reach in (word.hover, word.focus):
        reach()
        tile.locator("canvas[data-word=night]").wait_for()
        shades = canvas.evaluate(dark)
        keep(page, "heat")
        assert min(map(min, shades)) == shades[row][column] < 90
        assert max(map(max, shades)) > 120  # the others sink into the dark
        page.mouse.move(5, 400)
        page.get_by_role("searchbox").focus()
        until(page, "() => !document.querySelector('canvas[data-word]')")
        assert not any(map(sum, canvas.evaluate(dark)))
    complaints[:] = [said for said in complaints if "getImageData" not in said]  # ours, above


def test_the_details_add_up_to_the_score(visit, index, keep):
    page = visit({"q": "a red circle at night"})
    page.locator(".tile").nth(2).locator(".open").click()
    dialog = page.get_by_role("dialog")
    until(page, "() => document.querySelector('#sum').textContent")
    name = dialog.get_by_role("heading").inner_text()
    rows = [
        [
            int(cell.replace(",", "").replace("−", "-"))
            for cell in row.locator("td").all_inner_texts()
        ]
        for row in dialog.locator("tbody tr").all()
    ]
    words = dialog.locator("tbody th").all_inner_texts()
    expected = index.explain(name, Query.parse("a red circle at night"))
    assert [(w, *r) for w, r in zip(words, rows, strict=True)] == [
        (c.word, c.query, c.impact, c.score) for c in expected
    ]
    score = int(dialog.locator("tfoot td").inner_text().replace(",", ""))
    assert score == sum(row[-1] for row in rows)
    assert [hit.score for hit in index.search("a red circle at night", 9) if hit.id == name] == [
        score
    ]
    dialog.locator("tbody button:enabled").first.click()
    dialog.locator("canvas[data-word]").wait_for()
    note = dialog.locator("#detail-note").inner_text()
    assert re.fullmatch(rf"“{words[0]}” is clearest at the [a-z]+( left| right)?\.", note)
    keep(page, "details")
    dialog.get_by_role("button", name="Find similar").click()
    dialog.wait_for(state="hidden")
    until(page, "(name) => document.querySelector('.tile .name').textContent === name", name)


def test_the_details_name_subtracted_texts_and_a_changed_picture(
    visit, index, index_path, pictures, tmp_path
):
    query = "red circle -0.5:night"
    first, second = best(index, query)[:2]
    folder = shutil.copytree(pictures, tmp_path / "changed")
    shutil.copy(folder / best(index, "blue snow")[0], folder / first)
    with served(index_path, pictures=str(folder)) as address:
        page = visit({"q": query}, address)
        dialog, note = page.get_by_role("dialog"), page.locator("#detail-note")
        for number, changed in ((0, True), (1, False)):
            page.locator(".tile .open").nth(number).click()
            until(page, "() => document.querySelector('#sum').textContent")
            assert dialog.get_by_role("heading").inner_text() == (first, second)[number]
            until(page, "() => document.querySelector('#tokens').textContent")
            assert dialog.locator("#tokens dt").all_text_contents() == ["red", "circle", "−night"]
            assert ("has changed since it was indexed" in note.inner_text()) == changed
            page.keyboard.press("Escape")
            dialog.wait_for(state="hidden")


def test_a_deleted_picture_is_gone(visit, index, server):
    page = visit({"q": "yellow"})
    page.locator(".tile").first.wait_for()
    before = best(index, "yellow")
    wait_for_hits(page, before)
    count = len(index)
    page.locator(".tile .open").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Remove from index…").click()
    assert "The file itself stays." in dialog.inner_text()
    dialog.get_by_role("button", name="Keep").click()
    dialog.get_by_role("button", name="Remove from index…").click()
    dialog.get_by_role("button", name="Remove", exact=True).click()
    dialog.wait_for(state="hidden")
    until(page, "(id) => document.querySelector('.tile .name').textContent !== id", before[0])
    assert (
        page.locator("#status").inner_text().startswith(f"{before[0]} is removed from the index. ")
    )
    assert before[0] not in best(index, "yellow", 1000)
    assert ask(server, "/stats")["documents"] == len(index) == count - 1
    page.reload()
    wait_for_hits(page, best(index, "yellow"))


def test_a_server_with_a_key_that_may_not_be_changed(visit, guarded, index, complaints):
    page = visit({"q": "red"}, server=guarded)
    for attempt in ("wrong", "open sesame"):
        page.get_by_role("dialog", name="This server asks for a key").wait_for()
        page.get_by_label("API key").fill(attempt)
        page.keyboard.press("Enter")
    wait_for_hits(page, best(index, "red"))
    until(page, "() => [...document.querySelectorAll('.tile img')].slice(0, 5)"
          ".every((image) => image.naturalWidth)")  # fmt: skip
    page.locator(".tile .open").first.click()
    until(page, "() => document.querySelector('#sum').textContent")
    until(page, "() => document.querySelector('#detail-picture').naturalWidth")
    assert page.get_by_role("button", name="Remove from index…").is_hidden()
    page.reload()  # the key is kept as long as the tab
    wait_for_hits(page, best(index, "red"))
    assert [text for text in complaints if "401" not in text] == []
    complaints.clear()


def test_other_systems_stand_beside_where_the_server_has_them(visit, index, captioned, keep):
    ours = best(index, "red snow")
    page = visit({"q": "red snow"})
    wait_for_hits(page, ours)
    assert page.get_by_role("group", name="View").is_hidden()  # this one has none
    page = visit({"q": "red snow"}, server=captioned)
    wait_for_hits(page, ours)
    page.get_by_role("button", name="Side by side").click()
    column = page.get_by_role("region", name="BM25 over captions")
    column.get_by_role("button").first.wait_for()
    labels = [one.get_attribute("aria-label") for one in column.get_by_role("button").all()]
    assert labels == [
        f"BM25 over captions {rank}: {ours[12 - rank]}, rank {13 - rank} in LexLIP"
        for rank in range(1, 13)
    ]
    keep(page, "compare")
    page.get_by_role("button", name="LexLIP", exact=True).click()
    assert shown(page) == ours


def test_a_line_shows_from_where_on_hits_are_weak(visit, pictures, tmp_path, keep):
    """An index that vectors order: hits have a fit, and the page draws a line below 3."""
    clip = small_clip(tmp_path / "clip", small_tokenizer())
    files = sorted(pictures.glob("*.png"))
    lexicalise(clip, files, WORDS).save_pretrained(tmp_path / "words")
    with Index.create(tmp_path / "i", load(tmp_path / "words"), pictures, engine="postings") as own:
        hits = own.search("red dog", 24)
    fits = [hit.fit for hit in hits]
    last = max((n for n, fit in enumerate(fits) if fit >= WEAK), default=-1)
    assert last + 1 < len(hits)
    with served(tmp_path / "i") as address:
        page = visit({"q": "red dog"}, server=address)
        page.locator(".tile").first.wait_for()
        tiles = page.locator(".tile").all()
        marks = ["weak" in tile.get_attribute("class").split() for tile in tiles[: len(hits)]]
        assert [n for n, mark in enumerate(marks) if mark] == [last + 1]
        button = tiles[0].locator(".open")
        changed = datetime.fromtimestamp((pictures / hits[0].id).stat().st_mtime, UTC)
        for said in ("title", "aria-label"):
            assert f"{hits[0].id}, " in button.get_attribute(said)
            assert str(changed.year) in button.get_attribute(said)
        score = tiles[0].locator(".score").get_attribute("title")
        assert score.startswith(f"fit {fits[0]:.1f}, score ")
        none = "No picture fits this well" in page.locator("#status").inner_text()
        assert none == (last == -1)
        keep(page, "weak")
