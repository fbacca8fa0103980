"""A server on a distant engine answers as one on an engine of this machine."""

from __future__ import annotations

import pytest

from lexlip.server.picture_files import token_of
from tests.lexlip.conftest import KINDS
from tests.support.cameras import as_bytes

IMAGE = token_of("home/00.png")
ASKED = (
    "/search?q=red&k=20&explain=true",
    "/search?q=a blue star -red",
    "/search?q=red&where=folder == 'trip'",
    "/search?q=red&k=3&offset=2",
    "/facets?column=folder",
    "/facets?column=folder&q=red",
    "/images?k=5",
    f"/images/{IMAGE}?size=thumb",
    "/columns",
)


@pytest.mark.parametrize("kind", KINDS[2:])
def test_a_distant_engine_gives_the_same_answers(kind, request, make_index, serve, images):
    node = request.getfixturevalue(kind)
    here = serve(make_index(keep_floats=True))
    there = serve(make_index(f"{kind}:{node.place()}", keep_floats=True))

    def same():
        for path in ASKED:
            wanted, found = here.get(path), there.get(path)
            assert found.status_code == wanted.status_code < 300, (path, found.text)
            if wanted.headers["content-type"] == "application/json":
                ours, theirs = wanted.json(), found.json()
                for told in (ours, theirs):  # what is of an engine, or of the clock
                    for key in ("seconds", "cost", "generation"):
                        told.pop(key, None)
                assert theirs == ours, path
            else:
                assert found.content == wanted.content
        body = {"queries": ["red", "two circles"], "k": 4}
        wanted, found = (it.post("/search/batch", json=body) for it in (here, there))
        assert found.status_code == wanted.status_code == 200, found.text
        assert [a["hits"] for a in found.json()["answers"]] == [
            a["hits"] for a in wanted.json()["answers"]
        ]

    same()
    for client in (here, there):
        added = client.post("/images", files={"file": ("new.png", as_bytes(images[9]))})
        assert added.status_code == 200, added.text
        assert client.delete(f"/images/{IMAGE}").status_code == 200
    assert there.get("/search?q=red").json()["total"] == 8
