"""Routes that need no query: the wall, facts of a picture, columns, words to try."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from PIL import Image

from lexlip import Index, Query
from lexlip.server.picture_files import token_of

TAKEN = {"home/00.png": "2031-05-05T10:00:00", "trip/05.png": "2001-01-01T00:00:00"}


@pytest.fixture
def dated(pictures):
    """The pictures with dates: of their files, and of a camera for two of them."""
    for number, path in enumerate(sorted(pictures.rglob("*.png"), key=lambda path: path.name)):
        id = path.relative_to(pictures).as_posix()
        if id in TAKEN:
            exif = Image.Exif()
            exif[0x0110] = "Camera 9"
            date = TAKEN[id].replace("-", ":").replace("T", " ")
            exif.get_ifd(0x8769)[0x9003] = date
            Image.open(path).save(path, exif=exif)
        os.utime(path, (1_600_000_000 + 86_400 * (number * 3 % 8),) * 2)
    return pictures


@pytest.fixture
def client(make_index, serve, engine, dated):
    return serve(make_index(engine))


def test_the_wall_is_newest_first(client, dated):
    ids = [path.relative_to(dated).as_posix() for path in dated.rglob("*.png")]
    stamps = {id: (dated / id).stat().st_mtime for id in ids}
    between = sorted((id for id in ids if id not in TAKEN), key=lambda id: -stamps[id])
    expected = ["home/00.png", *between, "trip/05.png"]
    found = client.get("/images").json()
    assert [one["id"] for one in found["images"]] == expected
    assert found["total"] == 8 and found["next_offset"] is None
    first = found["images"][0]
    assert first["image"] == token_of("home/00.png")
    assert first["metadata"] == client.get(f"/images/{first['image']}/facts").json()["metadata"]
    assert first["metadata"]["taken"] == TAKEN["home/00.png"]
    paged, offset = [], 0
    while offset is not None:
        part = client.get(f"/images?limit=3&offset={offset}").json()
        paged += [one["id"] for one in part["images"]]
        offset = part["next_offset"]
    assert paged == expected
    trip = client.get("/images", params={"where": "folder == 'trip'"}).json()
    assert [one["id"] for one in trip["images"]] == [id for id in expected if "trip" in id]


@pytest.mark.parametrize(
    ("asked", "status", "line"),
    [
        ({"where": "nowhere == 1"}, 400, "no document has a column 'nowhere'"),
        ({"where": "year >"}, 400, "year >"),
        ({"limit": 0}, 422, "limit"),
        ({"limit": 201}, 422, "limit"),
        ({"offset": 20_000}, 400, "the newest 20,000 pictures are listed"),
        ({"where": "y" * 2001}, 400, "the filter has 2001 characters"),
    ],
)
def test_walls_that_cannot_be_are_refused(make_index, serve, asked, status, line):
    answer = serve(make_index()).get("/images", params=asked)
    assert answer.status_code == status and line in answer.json()["error"]


def test_columns_are_counted(client, dated):
    columns = {one["name"]: one for one in client.get("/columns").json()["columns"]}
    sizes = [path.stat().st_size for path in dated.rglob("*.png")]
    assert columns["folder"]["kind"] == "str" and columns["folder"]["whole"]
    counted = Counter(path.parent.name for path in dated.rglob("*.png"))
    assert {one["value"]: one["count"] for one in columns["folder"]["values"]} == counted
    assert (columns["bytes"]["min"], columns["bytes"]["max"]) == (min(sizes), max(sizes))
    assert columns["taken"]["kind"] == columns["modified"]["kind"] == "date"
    assert [columns["taken"]["min"], columns["taken"]["max"]] == sorted(TAKEN.values())
    assert columns["camera"]["values"] == [{"value": "Camera 9", "count": 2}]
    token = token_of("home/00.png")
    assert client.delete(f"/images/{token}").status_code == 200
    after = {one["name"]: one for one in client.get("/columns").json()["columns"]}
    assert after["taken"]["max"] == TAKEN["trip/05.png"]  # another commit, worked out anew
    assert {one["value"]: one["count"] for one in after["folder"]["values"]}["home"] == 3


def test_words_to_try_are_those_of_the_index(client, make_index, model, engine):
    found = client.get("/words").json()
    with Index.open(client.app.state.service.served.path) as index:
        every = index.engine.impacts(index.engine.ids())
    tokens = model.lexicon.tokens
    counts = Counter(tokens[term] for term in every.indices.tolist())
    assert found["total"] == 8 and found["words"]
    for one in found["words"]:
        assert one["documents"] == counts[one["word"]] <= 0.6 * 8
        assert one["word"].isalpha() and one["word"] not in ("the", "of", "in", "on")
    rows = [
        {tokens[t] for t in every.indices[a:b].tolist()}
        for a, b in zip(every.indptr[:-1], every.indptr[1:], strict=True)
    ]
    for pair in found["pairs"]:
        assert any(set(pair) <= row for row in rows)


def test_hits_have_their_metadata(client):
    found = client.get("/search?q=red").json()
    assert found["hits"]
    for hit in found["hits"]:
        facts = client.get(f"/images/{hit['image']}/facts").json()
        assert hit["metadata"] == facts["metadata"] and facts["id"] == hit["id"]


def test_facts_of_a_picture(client, dated):
    facts = client.get(f"/images/{token_of('trip/05.png')}/facts").json()
    assert (facts["width"], facts["height"]) == (40, 40)
    assert facts["bytes"] == (dated / "trip" / "05.png").stat().st_size
    (dated / "trip" / "05.png").unlink()
    gone = client.get(f"/images/{token_of('trip/05.png')}/facts").json()
    assert gone["width"] is gone["bytes"] is None and gone["metadata"] == facts["metadata"]
    assert client.get(f"/images/{token_of('none.png')}/facts").status_code == 404


@pytest.mark.parametrize(
    ("address", "headers", "settings", "told"),
    [
        ("127.0.0.1", {}, {}, True),
        ("::1", {}, {}, True),
        ("192.168.1.7", {}, {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "1.2.3.4"}, {}, False),
        ("127.0.0.1", {"Forwarded": "for=1.2.3.4"}, {}, False),
        ("127.0.0.1", {"Via": "1.1 proxy"}, {}, False),
        ("127.0.0.1", {"X-Real-IP": "1.2.3.4"}, {}, False),
        ("127.0.0.1", {}, {"hosts": ("127.0.0.1", "search.example.org")}, False),
        ("127.0.0.1", {}, {"hosts": ("*",)}, False),
    ],
)
def test_a_path_is_told_on_this_machine_only(
    make_index, serve, pictures, address, headers, settings, told
):
    client = serve(make_index(), client=(address, 5000), **settings)
    facts = client.get(f"/images/{token_of('trip/05.png')}/facts", headers=headers).json()
    assert facts["path"] == (str(pictures / "trip" / "05.png") if told else None)


def test_pictures_of_the_index_are_added_and_subtracted(client, dated, model, engine):
    more, less = dated / "home" / "02.png", dated / "trip" / "03.png"
    asked = {"q": "red", "more": [token_of("home/02.png")], "less": [token_of("trip/03.png")]}
    query = Query.parse("red") + Query.image(more) - 0.5 * Query.image(less)
    with Index.open(client.app.state.service.served.path, model) as index:
        expected = [(hit.id, hit.score) for hit in index.search(query, 24)]
    for answer in (client.get("/search", params=asked), client.post("/search", json=asked)):
        found = answer.json()
        assert [(hit["id"], hit["score"]) for hit in found["hits"]] == expected
        assert {one["word"]: one["weight"] for one in found["query"]["words"]} == query.words(model)
    best = found["hits"][0]
    reasons = client.get("/explain", params=asked | {"image": best["image"]}).json()
    assert reasons["score"] == best["score"] == sum(word["score"] for word in best["words"])
    alone = client.get("/search", params={"more": asked["more"]}).json()
    assert alone["hits"][0]["id"] == "home/02.png"


def test_only_pictures_of_the_index_go_into_queries(make_index, serve, pictures):
    path = make_index(source=pictures / "home")
    client = serve(path, pictures=str(pictures))
    for id in ("trip/01.png", "../secret.png", str(pictures / "home" / "00.png")):
        for asked in ({"more": token_of(id)}, {"q": "red", "less": token_of(id)}):
            assert client.get("/search", params=asked).status_code == 404
    assert client.get("/search", params={"more": "%%%"}).status_code == 404
    many = {"q": "red", "more": [token_of("00.png")] * 9}
    assert client.get("/search", params=many).status_code == 422
    assert client.post("/search", json=many).status_code == 422
    only = client.get("/search", params={"less": token_of("00.png")})
    assert only.status_code == 400 and "add what to look for" in only.json()["error"]


def test_a_picture_whose_file_is_gone_counts_as_its_words(client, dated, engine, model):
    with Index.open(client.app.state.service.served.path, model) as index:
        row = index.engine.impacts(["home/02.png"])
        tokens = model.lexicon.tokens
        pairs = zip(row.indices.tolist(), row.data.tolist(), strict=True)
        words = {tokens[term]: impact for term, impact in pairs}
        expected = [hit.id for hit in index.search(Query.from_words(words), 24)]
    (dated / "home" / "02.png").unlink()
    found = client.get("/search", params={"more": token_of("home/02.png")}).json()
    assert [hit["id"] for hit in found["hits"]] == expected


def counts(found, name="folder"):
    (one,) = [facet for facet in found["facets"] if facet["name"] == name]
    return {it["value"]: it["count"] for it in one["values"]}


def test_facets_count_all_pictures_or_those_of_a_filter(client, dated):
    whole = client.get("/facets").json()
    assert whole["documents"] == 8
    assert whole["facets"] == client.get("/columns").json()["columns"]
    sizes = sorted(path.stat().st_size for path in dated.rglob("*.png"))
    where = f"bytes > {sizes[4]}"
    some = client.get("/facets", params={"where": where, "column": ["folder", "bytes"]}).json()
    large = [path for path in dated.rglob("*.png") if path.stat().st_size > sizes[4]]
    assert counts(some) == Counter(path.parent.name for path in large)
    assert [one["name"] for one in some["facets"]] == ["bytes", "folder"]
    assert some["documents"] == len(large)
    assert some["facets"][0]["min"] == min(path.stat().st_size for path in large)
    first = client.get("/facets", params={"most": 1, "column": "folder"}).json()["facets"][0]
    assert len(first["values"]) == 1 and not first["whole"]


def test_facets_count_the_best_hits_of_a_query(client):
    for asked in ({"q": "red circle"}, {"more": "home/00.png"}, {"q": "red -blue"}):
        for where in ("", "folder == 'trip'"):
            for depth in (3, 100):
                found = client.get("/facets", params={**asked, "where": where, "depth": depth})
                hits = client.get("/search", params={**asked, "where": where, "k": depth}).json()
                folders = Counter(hit["metadata"]["folder"] for hit in hits["hits"])
                assert counts(found.json()) == folders
                assert found.json()["documents"] == len(hits["hits"])


@pytest.mark.parametrize(
    ("asked", "status", "line"),
    [
        ({"column": "foldre"}, 400, "no document has a column 'foldre': there is folder"),
        ({"column": "zzz"}, 400, "there is bytes, folder, modified"),
        ({"where": "nowhere == 1"}, 400, "no document has a column 'nowhere'"),
        ({"q": "-red"}, 400, "says only what is not wanted"),
        ({"q": "x" * 2001}, 400, "2001 characters"),
        ({"where": "x" * 2001}, 400, "2001 characters"),
        ({"depth": 10**6}, 400, "hits can be looked at"),
        ({"depth": 0}, 422, "depth"),
        ({"most": 1001}, 422, "most"),
        ({"column": ["x"] * 65}, 422, "column"),
        ({"more": "none.png"}, 404, "no such image"),
    ],
)
def test_facets_that_cannot_be_are_refused(make_index, serve, asked, status, line):
    answer = serve(make_index()).get("/facets", params=asked)
    assert answer.status_code == status and line in answer.json()["error"], answer.text


def test_as_many_hits_are_counted_as_are_allowed(make_index, serve):
    client = serve(make_index(), max_depth=3)
    assert client.get("/facets", params={"q": "red"}).json()["documents"] == 3
    assert client.get("/facets").json()["documents"] == 8


def test_a_picture_of_a_query_has_either_of_its_names(client):
    id = "home/00.png"
    for asked in ({"more": [id]}, {"q": "red", "less": [id, "trip/05.png"]}):
        other = {name: [token_of(it) for it in value] if name != "q" else value
                 for name, value in asked.items()}  # fmt: skip
        hits = client.get("/search", params=asked).json()["hits"]
        assert hits and hits == client.get("/search", params=other).json()["hits"]
        assert hits == client.post("/search", json=asked).json()["hits"]
    reasons = [
        client.get("/explain", params={"q": "red", **named}).json()
        for named in ({"image": token_of(id)}, {"image": id}, {"id": id})
    ]
    assert reasons[0]["id"] == id and reasons[0] == reasons[1] == reasons[2]
    for named in ({}, {"image": id, "id": id}):
        answer = client.get("/explain", params={"q": "red", **named})
        assert answer.status_code == 422 and "one of the two" in answer.json()["error"]
    assert client.get("/explain", params={"q": "red", "id": token_of(id)}).status_code == 404


def test_an_image_comes_before_an_id_that_reads_alike(model, images, serve, tmp_path):
    token = token_of("a")
    Index.create(tmp_path / "i.lex", model, {"a": images[0], token: images[1]}).close()
    client = serve(tmp_path / "i.lex")
    assert client.get("/explain", params={"q": "red", "image": token}).json()["id"] == "a"
    assert client.get("/explain", params={"q": "red", "id": token}).json()["id"] == token
