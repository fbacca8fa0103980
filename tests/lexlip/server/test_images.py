"""Pictures over HTTP: sent by opaque id only, added durably, deleted."""

from __future__ import annotations

import base64
import errno
import json
import os
from io import BytesIO

import pytest
from PIL import Image

from lexlip import Index
from lexlip.data.images import read_image
from lexlip.server.picture_files import id_of, token_of


def opened(answer):
    assert answer.status_code == 200, answer.text
    return Image.open(BytesIO(answer.content))


def as_bytes(picture, kind="PNG", **others):
    buffer = BytesIO()
    picture.save(buffer, kind, **others)
    return buffer.getvalue()


def test_a_picture_is_sent_as_it_is_and_small(make_index, serve, pictures):
    big = Image.new("RGB", (1200, 600), "teal")
    big.save(pictures / "home" / "big.jpg")
    client = serve(make_index(), thumbnail=100)
    answer = client.get(f"/images/{token_of('home/big.jpg')}?size=full")
    assert answer.content == (pictures / "home" / "big.jpg").read_bytes()
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"].startswith("private")
    small = opened(client.get(f"/images/{token_of('home/big.jpg')}"))
    assert small.size == (100, 50) and small.format == "JPEG"
    assert client.get(f"/images/{token_of('home/00.png')}?size=huge").status_code == 422


def test_unchanged_pictures_are_not_sent_again(make_index, serve, pictures):
    client, address = serve(make_index()), f"/images/{token_of('trip/01.png')}"
    tags = {}
    for size in ("thumb", "full"):
        tags[size] = client.get(f"{address}?size={size}").headers["etag"]
        again = client.get(f"{address}?size={size}", headers={"If-None-Match": tags[size]})
        assert again.status_code == 304 and not again.content
    assert tags["thumb"] != tags["full"]
    Image.new("RGB", (9, 9), "red").save(pictures / "trip" / "01.png")
    changed = client.get(address, headers={"If-None-Match": tags["thumb"]})
    assert opened(changed).size == (9, 9) and changed.headers["etag"] != tags["thumb"]


@pytest.mark.parametrize(("name", "mode"), [("a.tif", "RGB"), ("b.bmp", "RGB"), ("c.gif", "P")])
def test_formats_that_browsers_do_not_show_become_jpeg(make_index, serve, pictures, name, mode):
    Image.new(mode, (20, 10)).save(pictures / name)
    shown = opened(serve(make_index()).get(f"/images/{token_of(name)}?size=full"))
    assert (shown.format, shown.size) == ("JPEG", (20, 10))


def test_nothing_but_indexed_pictures_is_sent(make_index, serve, pictures, tmp_path):
    (tmp_path / "secret.png").write_bytes((pictures / "home" / "00.png").read_bytes())
    (pictures / "unindexed.png").write_bytes((pictures / "home" / "00.png").read_bytes())
    path = make_index(source=pictures / "home")
    client = serve(path, pictures=str(pictures))
    for id in ("../secret.png", "../../secret.png", str(tmp_path / "secret.png"), "unindexed.png",
               "manifest.json", "home/00.png", "00.png\0", "\0", "x" * 2000):  # fmt: skip
        for size in ("thumb", "full"):
            assert client.get(f"/images/{token_of(id)}?size={size}").status_code == 404
    for token in ("%2e%2e%2f", "..%2f..%2fetc%2fpasswd", "home/00.png", "00.png", "====",
                  token_of("00.png") + "=", token_of("00.png") + "!", "%00", "é"):  # fmt: skip
        answer = client.get(f"/images/{token}")
        # What climbs up to / on its way here gets the page.
        page = answer.headers["content-type"].startswith("text/html")
        assert answer.status_code in (404, 405) or page, token


def test_an_id_that_climbs_out_of_the_folder_is_not_followed(
    make_index, serve, pictures, tmp_path, model
):
    (tmp_path / "secret.png").write_bytes((pictures / "home" / "00.png").read_bytes())
    path = make_index()
    with Index.open(path, model, "w") as index:
        index.add({"../secret.png": tmp_path / "secret.png"})
        index.add({str(tmp_path / "secret.png"): tmp_path / "secret.png"})
    client = serve(path)
    for id in ("../secret.png", str(tmp_path / "secret.png")):
        assert client.get(f"/images/{token_of(id)}").status_code == 404


def test_a_picture_that_is_gone_or_spoilt_is_said(make_index, serve, pictures):
    client, image = serve(make_index()), token_of("home/02.png")
    (pictures / "home" / "02.png").write_bytes(b"no picture")
    for size in ("thumb", "full"):
        answer = client.get(f"/images/{image}?size={size}")
        assert answer.status_code == 404 and "cannot be shown" in answer.json()["error"]
    (pictures / "home" / "02.png").unlink()
    answer = client.get(f"/images/{image}")
    assert answer.status_code == 404 and "--pictures" in answer.json()["error"]


def test_pictures_that_have_moved_are_found_where_one_says(make_index, serve, pictures):
    path = make_index()
    pictures.rename(pictures.with_name("moved"))
    lost = serve(path)
    assert lost.get("/stats").json()["pictures"] is False
    image = token_of("home/00.png")
    assert lost.get(f"/images/{image}").status_code == 404
    found = serve(path, pictures=str(pictures.with_name("moved")))
    assert found.get("/stats").json()["pictures"] is True
    assert opened(found.get(f"/images/{image}")).size == (40, 40)


def test_pictures_of_a_table_are_sent(make_index, serve, pictures):
    (pictures / "list.csv").write_text("image,image_id,caption\ntrip/01.png,one,a\n")
    client = serve(make_index(source=pictures / "list.csv"))
    full = client.get(f"/images/{token_of('one')}?size=full")
    assert full.content == (pictures / "trip" / "01.png").read_bytes()


def test_posted_pictures_are_found_shown_and_deleted(
    make_index, serve, images, pictures, engine, model
):
    path = make_index(engine)
    client = serve(path)
    png, webp = as_bytes(images[9]), as_bytes(images[10], "WEBP", lossless=True)
    files = [
        ("file", ("../../up.png", png)),
        ("file", ("x.webp", webp)),
        ("file", ("bad.png", png[:80])),
        ("more", ("text.txt", b"hello")),
    ]
    answer = client.post("/images", files=files, data={"metadata": '{"year": 2020}'}).json()
    assert [skipped["name"] for skipped in answer["skipped"]] == ["bad.png", "text.txt"]
    assert "damaged" in answer["skipped"][0]["reason"]
    first, second = answer["added"]
    stored = sorted(file.name for file in (path / "uploads").iterdir())
    assert stored == sorted(it["id"].removeprefix("uploads/") for it in answer["added"])
    assert (path / first["id"]).read_bytes() == png and first["id"].endswith(".png")
    assert client.get("/healthz").json()["documents"] == 10
    posted = client.post("/search", files={"file": png}).json()
    assert posted["hits"][0]["image"] == first["image"] and posted["total"] == 10
    asked = {"q": "a red circle", "where": "year == 2020"}
    hits = client.get("/search", params=asked).json()["hits"]
    assert {hit["id"] for hit in hits} == {first["id"], second["id"]}
    full = client.get(f"/images/{second['image']}?size=full")
    assert full.content == webp and full.headers["content-type"] == "image/webp"
    # Another server, or program, finds them too; the same picture is the same document.
    with Index.open(path, model) as index:
        wanted = model.encode_image([read_image(png)])
        assert len(index) == 10 and wanted.nnz
    again = client.post("/images", files={"file": png}).json()
    assert again["added"] == [first] and client.get("/healthz").json()["documents"] == 10
    assert client.delete(f"/images/{first['image']}").json() == {"deleted": 1}
    assert client.delete(f"/images/{token_of('home/00.png')}").json() == {"deleted": 1}
    assert not (path / first["id"]).exists() and (pictures / "home" / "00.png").exists()
    for image in (first["image"], token_of("home/00.png")):
        assert client.get(f"/images/{image}").status_code == 404
        assert client.delete(f"/images/{image}").status_code == 404
        explained = client.get("/explain", params={"q": "red", "image": image})
        assert explained.status_code == 404 and "no such image" in explained.json()["error"]
    assert client.get("/healthz").json()["documents"] == 8


@pytest.mark.parametrize(
    ("files", "metadata", "status", "line"),
    [
        ([], "", 400, "no file"),
        ([b"hello"], "", 400, "not a picture"),
        ([b""], "", 400, "not a picture"),
        ([None], "{", 400, "metadata is not JSON"),
        ([None], "[1]", 400, "one JSON object"),
        ([None], '{"folder": "a"}', 400, "choose another"),
        ([None], '{"": 1}', 400, "choose another"),
        ([None], '{"a": [1]}', 400, "must be a text"),
        ([None], '{"a": 1e999}', 400, "must be a text"),
        ([None], '{"a": "\\ud800"}', 400, "must be a text"),
        ([None], '{"\\ud800": 1}', 400, "choose another"),
        ([None], '{"a": ' + "9" * 5000 + "}", 400, "metadata"),
        ([None], "[" * 100_000, 400, "metadata is not JSON"),
    ],
)
def test_bad_posts_leave_nothing_behind(make_index, serve, images, files, metadata, status, line):
    path = make_index()
    client = serve(path)
    picture = as_bytes(images[9])
    posted = [("file", ("a.png", picture if data is None else data)) for data in files]
    answer = client.post("/images", files=posted or None, data={"metadata": metadata})
    assert answer.status_code == status, answer.text
    assert line in answer.json()["error"]
    assert client.get("/healthz").json()["documents"] == 8
    assert not list(path.glob("uploads/*"))


def test_metadata_that_do_not_go_with_the_others_are_refused(make_index, serve, images):
    path = make_index()
    client = serve(path)
    one, two = as_bytes(images[8]), as_bytes(images[9])
    assert client.post("/images", files={"file": one}, data={"metadata": '{"year": 1}'}).json()
    answer = client.post("/images", files={"file": two}, data={"metadata": '{"year": "x"}'})
    assert answer.status_code == 400 and "year" in answer.json()["error"]
    assert len(list(path.glob("uploads/*"))) == 1
    assert client.get("/healthz").json()["documents"] == 9


def test_a_read_only_server_changes_nothing(make_index, serve, images):
    path = make_index()
    client = serve(path, read_only=True)
    for answer in (
        client.post("/images", files={"file": as_bytes(images[9])}),
        client.delete(f"/images/{token_of('home/00.png')}"),
    ):
        assert answer.status_code == 403 and "read-only" in answer.json()["error"]
    assert client.get("/healthz").json()["documents"] == 8 and not (path / "uploads").exists()
    assert client.get("/stats").json()["read_only"] is True
    assert client.post("/words", json={"q": "red"}).status_code == 200


def test_a_picture_with_too_many_pixels_is_refused(make_index, serve):
    client = serve(make_index(), max_pixels=1000)
    large = as_bytes(Image.new("L", (50, 21)))
    for address in ("/images", "/words", "/search"):
        answer = client.post(address, files={"file": large})
        assert answer.status_code == 413 and "1,000" in answer.json()["error"]
        assert client.post(address, files={"file": large[:60]}).status_code in (400, 413)
    # What is indexed already is shown, whatever its size.
    assert client.get(f"/images/{token_of('home/00.png')}").status_code == 200


def test_tokens_are_the_ids_and_nothing_else():
    for id in ("a.jpg", "été/ä b?.png", "x" * 1024, "../a"):
        token = token_of(id)
        assert id_of(token) == id
        assert base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)) == id.encode()


def test_a_picture_that_was_committed_stays(make_index, serve, images, monkeypatch):
    """The writer fails to open what it has just committed."""
    from lexlip.engines import PostingsEngine

    path = make_index()
    client = serve(path)
    commit = PostingsEngine.commit

    def committed_but(self):
        commit(self)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(PostingsEngine, "commit", committed_but)
        answer = client.post("/images", files={"file": as_bytes(images[9])})
    assert answer.status_code == 503 and "open files" in answer.json()["error"]
    (stored,) = path.glob("uploads/*")
    assert client.get("/healthz").json()["documents"] == 9
    shown = client.get(f"/images/{token_of(f'uploads/{stored.name}')}?size=full")
    assert shown.content == as_bytes(images[9])


def test_a_picture_that_was_not_committed_leaves_no_file(make_index, serve, images, monkeypatch):
    from lexlip.engines import PostingsEngine

    path = make_index()
    client = serve(path)

    def fail(self):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(PostingsEngine, "commit", fail)
        assert client.post("/images", files={"file": as_bytes(images[9])}).status_code == 503
    assert not list(path.glob("uploads/*"))
    assert client.post("/images", files={"file": as_bytes(images[9])}).status_code == 200


def test_posted_metadata_bring_an_index_to_so_many_columns(make_index, serve, images):
    path = make_index()
    client = serve(path, max_columns=8)
    had = len(client.get("/columns").json()["columns"])
    data = [as_bytes(images[number]) for number in range(9, 12)]

    def post(picture, names):
        metadata = json.dumps(dict.fromkeys(names, 1))
        return client.post("/images", files={"file": picture}, data={"metadata": metadata})

    names = [f"n{number}" for number in range(8 - had)]
    assert post(data[0], names).status_code == 200
    refused = post(data[1], [*names, "more"])
    assert refused.status_code == 400 and "limit of 8" in refused.json()["error"]
    assert len(list(path.glob("uploads/*"))) == 1
    assert post(data[2], names).status_code == 200


def test_what_a_kill_left_of_posts_is_swept_by_the_next_post(make_index, serve, images):
    """Files of pictures whose documents were never committed; those of others stay."""
    path = make_index()
    with_one = serve(path)
    posted = {"file": ("a.png", as_bytes(images[9]), "image/png")}
    id = with_one.post("/images", files=posted).json()["added"][0]["id"]
    orphans = [path / "uploads" / f"{'0' * 31}{n}.png" for n in range(3)]
    orphans.append(path / "uploads" / f".{'0' * 32}.png.tmp-0123456789ab")
    mine = path / "uploads" / "my notes.txt"
    for file in (*orphans, mine):
        file.write_bytes(b"x")
    again = serve(path)  # as after a restart
    assert again.get("/search?q=red").status_code == 200
    assert all(file.exists() for file in orphans)  # a reader removes nothing
    posted = {"file": ("b.png", as_bytes(images[10]), "image/png")}
    assert again.post("/images", files=posted).status_code < 300
    assert not any(file.exists() for file in orphans)
    assert mine.exists() and (path / id).exists()
