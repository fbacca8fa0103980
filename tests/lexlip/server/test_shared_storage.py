"""Servers of an index on shared storage: copied, followed, and only read."""

from __future__ import annotations

import shutil
import time

import pytest
from PIL import Image

from lexlip import Index
from lexlip.server import following, watching
from lexlip.server.picture_files import token_of
from tests.lexlip.server.test_away import hits, wait
from tests.support.cameras import as_bytes
from tests.support.file_server import serving

pytest.importorskip("fsspec")
real = [pytest.mark.engine, pytest.mark.xdist_group("opensearch")]


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Looks in quick succession, and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(following, "EVERY", 0.2)
    monkeypatch.setattr(watching, "EVERY", 0.2)


def health(client):
    told = client.get("/healthz").json()
    return told["status"], told["problems"]


def send(source, target):
    """Send an index as programs do, in an order that suits nobody."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("LOCK", "OWNER"))


@pytest.fixture
def storage(tmp_path):
    """A folder and its address on a server of files."""
    (tmp_path / "storage").mkdir()
    with serving(tmp_path / "storage") as (url, asked):
        yield tmp_path / "storage", url, asked


class TestFollowing:
    pytestmark = real

    def test_several_servers_follow_one_folder(
        self, opensearch, make_index, serve, model, photos, storage, tmp_path
    ):
        folder, url, _ = storage
        place = f"opensearch:{opensearch.place()}"
        path = make_index(place, keep_floats=True)
        send(path, folder / "photos.lex")
        here = serve(path)
        others = [
            serve(f"{url}/photos.lex"), serve((folder / "photos.lex").as_uri()),
            serve(f"{url}/photos.lex"),
        ]  # fmt: skip
        for other in others:
            assert hits(other, "a red circle") == hits(here, "a red circle")
            assert other.get("/explain", params={"q": "red", "image": token_of("home/00.png")})
            for answer in (
                other.delete(f"/images/{token_of('home/00.png')}"),
                other.post("/images", files={"file": b"x"}),
            ):
                assert answer.status_code == 403 and "read-only" in answer.json()["error"]
            assert other.get("/stats").json()["read_only"] is True
            assert health(other) == ("ok", [])
        # A commit is shown once its files are there, and not before.
        red = as_bytes(Image.new("RGB", (40, 40), "red"), "PNG")
        (added,) = here.post("/images", files={"file": red}).json()["added"]
        time.sleep(1)
        assert [it.get("/search?q=red").json()["total"] for it in others] == [8] * 3
        shutil.copy(path / "floats" / "CURRENT", folder / "photos.lex" / "floats")
        wait(lambda: health(others[0])[0] == "impaired")
        assert health(others[0])[1] == ["the shared storage cannot be copied: the log says why"]
        assert [it.get("/search?q=red").json()["total"] for it in others] == [8] * 3
        send(path, folder / "photos.lex")
        for other in others:
            wait(lambda other=other: other.get("/search?q=red").json()["total"] == 9, 20)
            wait(lambda other=other: health(other) == ("ok", []))
            assert hits(other, "a red circle") == hits(here, "a red circle")
            sent = other.get(f"/images/{added['image']}?size=full")
            assert sent.status_code == 200 and sent.content == red
        copy = next((tmp_path / "cache" / "lexlip" / "shared").glob("photos.lex-*")) / "index"
        with Index.open(copy, model) as index:
            assert index.check() == []
            assert index.search("red", rescore=5) == Index.open(path, model).search(
                "red", rescore=5
            )

    def test_a_replaced_index_is_taken_over(
        self, opensearch, make_index, serve, model, pictures, storage
    ):
        folder, url, _ = storage
        first = make_index(f"opensearch:{opensearch.place()}", keep_floats=True)
        send(first, folder / "photos.lex")
        other = serve(f"{url}/photos.lex")
        assert other.get("/search?q=red").json()["total"] == 8
        new = first.with_name("new.lex")
        place = f"opensearch:{opensearch.place()}"
        Index.create(new, model, pictures / "trip", engine=place, max_terms=5).close()
        send(new, folder / "photos.lex")
        wait(lambda: other.get("/search?q=red").json()["total"] == 4, 20)
        assert hits(other, "red") == hits(serve(new), "red")
        shutil.rmtree(folder / "photos.lex")
        wait(lambda: health(other)[0] == "impaired")
        assert other.get("/search?q=red").json()["total"] == 4


def test_pictures_come_from_a_url(make_index, serve, pictures, storage):
    folder, url, asked = storage
    shutil.copytree(pictures, folder / "moved")
    path = make_index()
    local, client = serve(path), serve(path, pictures=f"{url}/moved")
    image = f"/images/{token_of('trip/01.png')}"
    for size in ("thumb", "full"):
        assert client.get(f"{image}?size={size}").content == local.get(
            f"{image}?size={size}"
        ).content  # fmt: skip
    reads = sum(method == "GET" and where.endswith("01.png") for method, where, _ in asked)
    assert client.get(f"{image}?size=full").status_code == 200
    again = sum(method == "GET" and where.endswith("01.png") for method, where, _ in asked)
    assert again == reads  # not fetched again while it does not change
    assert client.get("/stats").json()["pictures"] is True
    (folder / "moved" / "trip" / "01.png").unlink()
    assert client.get(image).status_code == 404
    shutil.rmtree(pictures)
    assert client.get(f"/images/{token_of('home/00.png')}").status_code == 200
    assert local.get(f"/images/{token_of('home/00.png')}").status_code == 404


def test_a_storage_that_fails_is_503(make_index, serve, pictures, tmp_path):
    with serving(pictures, {"/home/00.png": 500}) as (url, _):
        client = serve(make_index(), pictures=url)
        answer = client.get(f"/images/{token_of('home/00.png')}")
        assert answer.status_code == 503 and url not in answer.text
        assert client.get(f"/images/{token_of('home/02.png')}").status_code == 200
