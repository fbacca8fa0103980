"""The page without a query: the wall, examples of this index, filters; and pictures as queries."""

from __future__ import annotations

import os
import shutil
import threading
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from PIL import Image

from lexlip import Index, LexLIP, Query
from lexlip.server.picture_files import token_of
from tests.lexlip.server.page.conftest import served
from tests.support.browsing import BROWSER, ask, best, until, wait_for_hits

pytestmark = BROWSER
FOLDERS = ("2023", "2023/garden", "2024/beach")


@pytest.fixture(scope="module")
def album(pictures, tmp_path_factory):
    """Thirty pictures in folders, a day apart, every third of a camera."""
    folder = tmp_path_factory.mktemp("album") / "photos"
    for number, path in enumerate(sorted(pictures.glob("*.png"))[:30]):
        place = folder / FOLDERS[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if number % 3 == 0:
            exif[0x0110] = "Phone 3" if number % 2 else "Box 1"
            exif.get_ifd(0x8769)[0x9003] = f"2024:03:{number + 1:02} 10:00:00"
        Image.open(path).save(place / path.name, exif=exif)
        os.utime(place / path.name, (1_700_000_000 + 86_400 * number,) * 2)
    return folder


@pytest.fixture(scope="module")
def albums(album, trained):
    """The address of their server, and the index."""
    path = album.parent / "album.lex"
    with Index.create(path, LexLIP.from_pretrained(trained), album, engine="postings"):
        pass
    with served(path) as address, Index.open(path) as index:
        yield address, index


def listed(address, where=""):
    return [one["id"] for one in ask(address, f"/images?limit=200&where={quote(where)}")["images"]]


def wall(page):
    return page.locator(".tile .name").evaluate_all("(all) => all.map((name) => name.title)")


def wait_for_wall(page, ids):
    until(page, "(ids) => JSON.stringify([...document.querySelectorAll('.tile .name')]"
          ".map((name) => name.title)) === JSON.stringify(ids)", ids)  # fmt: skip


def test_the_wall_shows_ones_own_pictures_newest_first(visit, albums, keep):
    address, _ = albums
    page = visit(server=address)
    wait_for_wall(page, listed(address))
    assert page.locator("#status").inner_text() == "30 pictures"
    until(
        page,
        "() => [...document.querySelectorAll('.tile img')].slice(0, 8)"
        ".every((image) => image.naturalWidth)",
    )
    keep(page, "wall")
    page.keyboard.press("ArrowDown")  # from the bar to the pictures
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("heading", name=wall(page)[1].rpartition("/")[2]).wait_for()
    assert dialog.get_by_text("Why it was found").is_hidden()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


def test_examples_are_words_of_this_index_and_find_something(visit, albums):
    address, index = albums
    told = {one["word"] for one in ask(address, "/words")["words"]}
    page = visit(server=address)
    page.locator("#examples .example").first.wait_for()
    examples = page.locator("#examples .example").all_inner_texts()
    assert len(examples) >= 4
    for text in examples:
        assert set(text.replace("-", "").split()) <= told and best(index, text)
    page.locator("#examples .example").first.click()
    wait_for_wall(page, best(index, examples[0]))
    assert parse_qs(urlsplit(page.url).query) == {"q": [examples[0]]}


def test_menus_write_the_filter_and_a_link_shows_it_in_them(visit, albums, keep):
    address, index = albums
    page = visit(server=address)
    page.get_by_role("button", name="Filter").click()
    folder = page.get_by_label("Folder")
    folder.wait_for()
    assert folder.locator("option").all_inner_texts()[:2] == ["any", "2023 (20)"]
    folder.select_option(label="2023 (20)")
    where = '(folder == "2023" or folder.startswith("2023/"))'
    wait_for_wall(page, listed(address, where))
    page.get_by_label("Camera").select_option(label="Box 1 (5)")
    where += ' and camera == "Box 1"'
    wait_for_wall(page, listed(address, where))
    page.get_by_label("Taken, from").fill("2024-03-05")
    page.get_by_label("Taken, to").fill("2024-03-20")
    where += ' and taken >= "2024-03-05" and taken <= "2024-03-20T23:59:59"'
    wait_for_wall(page, listed(address, where))
    assert 0 < len(wall(page)) < 5
    assert page.locator("#narrow-count").inner_text() == "3"
    keep(page, "filters")
    page.get_by_text("More", exact=True).click()
    text = page.get_by_role("textbox", name="Only where")
    assert text.input_value() == where
    assert parse_qs(urlsplit(page.url).query) == {"where": [where]}
    text.fill(f"{where} and bytes > 5")  # more than a menu can say
    page.reload()
    page.get_by_label("Camera").wait_for()
    until(page, "() => document.querySelector('#menu-camera').value !== ''")
    assert page.get_by_label("Taken, to").input_value() == "2024-03-20"
    assert page.get_by_role("textbox", name="Only where").input_value() == f"{where} and bytes > 5"
    page.get_by_label("Camera").select_option(label="any")
    left = where.replace(' and camera == "Box 1"', "") + " and bytes > 5"
    wait_for_wall(page, listed(address, left))
    page.get_by_role("searchbox").fill("red")
    found = [hit.id for hit in index.search(Query.parse("red"), 24, left)]
    wait_for_wall(page, found)
    page.get_by_role("button", name="Clear filters").click()
    wait_for_wall(page, best(index, "red"))


def test_more_and_less_like_pictures_of_the_index(visit, albums, album, keep):
    address, index = albums
    page = visit({"q": "red"}, server=address)
    wait_for_wall(page, best(index, "red"))
    first, second = wall(page)[:2]
    page.locator(".tile").nth(0).hover()
    page.locator(".tile").nth(0).get_by_role("button", name="More like this").click()
    one = Query.parse("red") + Query.image(album / first)
    wait_for_wall(page, [hit.id for hit in index.search(one, 24)])
    page.locator(f'.tile[data-image="{token_of(second)}"] .open').focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Less like this").click()
    both = one - 0.5 * Query.image(album / second)
    wait_for_wall(page, [hit.id for hit in index.search(both, 24)])
    seeds = page.get_by_role("list", name="Pictures in the query").get_by_role("listitem")
    assert seeds.count() == 2
    until(page, "() => [...document.querySelectorAll('.seed img')].every((it) => it.naturalWidth)")
    keep(page, "seeds")
    asked = parse_qs(urlsplit(page.url).query)
    assert asked == {"q": ["red"], "more": [token_of(first)], "less": [token_of(second)]}
    page.reload()  # a link holds them
    wait_for_wall(page, [hit.id for hit in index.search(both, 24)])
    page.get_by_role("button", name=f"Remove {second.rpartition('/')[2]} from the query").click()
    wait_for_wall(page, [hit.id for hit in index.search(one, 24)])
    page.locator(".tile .open").first.click()
    until(page, "() => document.querySelector('#sum').textContent")
    page.get_by_role("dialog").get_by_role("button", name="Find similar").click()
    similar = index.search(Query.image(album / first), 24)
    wait_for_wall(page, [hit.id for hit in similar])
    assert parse_qs(urlsplit(page.url).query) == {"more": [token_of(first)]}


def test_the_details_show_what_is_known(visit, albums, album):
    address, _ = albums
    page = visit(server=address, permissions=["clipboard-read", "clipboard-write"])
    id = next(id for id in listed(address) if id.startswith("2023/0"))
    page.get_by_role("button", name=id).click()
    dialog = page.get_by_role("dialog")
    until(page, "() => document.querySelector('#facts').textContent.includes('96 × 96')")
    facts = dialog.locator("#facts").inner_text()
    day = int(id[-7:-4]) + 1
    for said in ("Taken", f"Mar {day}, 2024", "Folder\n2023", "kB", "Camera"):
        assert said.replace("\n", "") in facts.replace("\n", ""), said
    dialog.get_by_role("button", name="Copy path").click()
    dialog.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == str(album / id)
    with page.context.expect_page() as opened:
        dialog.get_by_role("link", name="Open file").click()
    assert opened.value.url == f"{address}/images/{token_of(id)}?size=full"
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == id.rpartition("/")[2]
    assert download.value.path().read_bytes() == (album / id).read_bytes()
    box = page.locator(".stage").bounding_box()
    assert box["width"] > 700 and box["height"] > 700


def test_unknown_words_are_said_and_near_ones_offered(visit, index):
    page = visit({"q": "reds"})
    page.get_by_text("No word of the query is in the model's lexicon.").wait_for()
    page.locator("#near").get_by_role("button", name="red", exact=True).click()
    wait_for_hits(page, best(index, "red"))


def test_a_phone_has_large_inputs_and_the_bar_below(visit, albums, keep):
    address, _ = albums
    page = visit(server=address, viewport={"width": 390, "height": 844}, has_touch=True,
                 is_mobile=True)  # fmt: skip
    page.locator(".tile").nth(8).wait_for()
    page.get_by_role("button", name="Filter").tap()
    page.get_by_label("Folder").wait_for()
    sizes = "() => [...document.querySelectorAll('input:not([type=range], [type=file]), select')]"
    sizes += ".map((it) => parseFloat(getComputedStyle(it).fontSize))"
    assert min(page.evaluate(sizes)) >= 16
    assert page.locator("#bar").bounding_box()["y"] > 700
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, "phone")
    page.locator(".tile .open").first.tap()
    similar = page.get_by_role("dialog").get_by_role("button", name="Find similar")
    box = similar.bounding_box()
    assert box["y"] > 700 and box["height"] >= 44
    similar.tap()
    page.locator(".seed").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_still_for_those_who_want_no_motion(visit, albums):
    address, _ = albums
    page = visit({"q": "red"}, server=address, reduced_motion="reduce")
    page.locator(".tile").first.wait_for()
    page.get_by_role("searchbox").fill("blue")
    page.wait_for_timeout(400)
    assert page.evaluate("document.getAnimations().filter((it) => it.playState === 'running')"
                         ".length") == 0  # fmt: skip


def test_a_folder_grows_while_someone_looks(visit, pictures, trained, tmp_path, keep):
    folder, model = tmp_path / "photos", LexLIP.from_pretrained(trained)
    files = sorted(pictures.glob("*.png"))
    folder.mkdir()
    for number, path in enumerate(files[:40]):
        shutil.copy(path, folder)
        os.utime(folder / path.name, (1_700_000_000 + number,) * 2)
    Index.create(tmp_path / "i.lex", model, folder, engine="postings").close()
    go = threading.Semaphore(0)

    def add(progress):
        for number in range(40, 60, 10):
            progress.report(number, 60)
            assert go.acquire(timeout=60)
            for place, path in enumerate(files[number : number + 10]):
                shutil.copy(path, folder)
                os.utime(folder / path.name, (1_700_000_000 + number + place,) * 2)
            with Index.open(tmp_path / "i.lex", model, "w") as index:
                index.add(folder)
        progress.report(60, 60, skipped=2)

    with served(tmp_path / "i.lex", grow=add) as address:
        page = visit(server=address)
        wait_for_wall(page, listed(address))
        page.get_by_text("40 of 60 pictures").wait_for()
        keep(page, "growing")
        tile = page.locator(".tile").nth(25)
        tile.scroll_into_view_if_needed()
        page.mouse.wheel(0, 60)
        page.wait_for_timeout(200)
        tile.locator(".open").evaluate("(open) => open.focus({preventScroll: true})")
        name, place = wall(page)[25], tile.bounding_box()["y"]
        go.release()
        page.get_by_text("50 of 60 pictures").wait_for()
        wait_for_wall(page, listed(address))
        assert len(wall(page)) == 50 and wall(page)[35] == name
        same = page.locator(".tile").nth(35)
        assert abs(same.bounding_box()["y"] - place) < 3  # nothing moved under the eyes
        held = "() => document.activeElement.closest('.tile').querySelector('.name').title"
        assert page.evaluate(held) == name
        go.release()
        page.get_by_text("60 pictures are in the index. 2 files were skipped.").first.wait_for()
        wait_for_wall(page, listed(address))
        page.get_by_role("searchbox").fill("red")
        with Index.open(tmp_path / "i.lex", model) as index:
            wait_for_hits(page, best(index, "red"))
        page.locator("#growth").wait_for(state="hidden")
