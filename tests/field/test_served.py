"""A server over folders as people have them."""

from __future__ import annotations

import unicodedata

import pytest
from starlette.testclient import TestClient

from lexlip import Index
from lexlip.server import Settings, create_app
from tests.support.trees import pictures

HERE = "http://127.0.0.1"


@pytest.fixture
def client(model, tmp_path):
    """A server of an index of one folder."""
    folder = pictures(tmp_path / "A", unicodedata.normalize("NFD", "café/é.png"), "b.png")
    Index.create(tmp_path / "i.lex", model, folder, engine="postings").close()
    with TestClient(create_app(tmp_path / "i.lex", model, Settings()), base_url=HERE) as opened:
        yield opened


def hits(client, where=""):
    asked = {"q": "a red circle above", "where": where, "k": 50}
    found = client.post("/search", json=asked)
    assert found.status_code == 200, found.text
    return {hit["id"]: hit["image"] for hit in found.json()["hits"]}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_any_unicode_form_finds_and_shows(client, form):
    folder = unicodedata.normalize(form, "café")
    for where in (f"folder == '{folder}'", f"folder.startswith('{folder}')"):
        ((id, image),) = hits(client, where).items()
        assert id == unicodedata.normalize("NFC", "café/é.png")
        assert client.get(f"/images/{image}?size=full").status_code == 200
    assert client.delete(f"/images/{image}").json() == {"deleted": 1}


def test_a_folder_that_is_added_meanwhile_is_shown(client, model, tmp_path):
    other = pictures(tmp_path / "B", "b.png", seed=3)
    with Index.open(tmp_path / "i.lex", model, "w") as index:
        index.add(other)
    found = hits(client)
    for id, file in (("b.png", tmp_path / "A" / "b.png"), ("B/b.png", other / "b.png")):
        sent = client.get(f"/images/{found[id]}?size=full")
        assert sent.status_code == 200 and sent.content == file.read_bytes()


def test_posted_pictures_are_no_part_of_a_folder(client, model, tmp_path):
    data = pictures(tmp_path / "posted", "x.png", seed=8).joinpath("x.png").read_bytes()
    done = client.post("/images", files=[("file", ("x.png", data, "image/png"))])
    (added,) = done.json()["added"]
    with Index.open(tmp_path / "i.lex", model, "w") as index:
        assert index.add(tmp_path / "A", prune=True).gone == ()
        assert index.engine.fetch([added["id"]]) != [None]
