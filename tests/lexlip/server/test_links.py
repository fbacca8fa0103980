"""Links in folders of pictures: what was indexed is sent, what they lead to later is not."""

from __future__ import annotations

import os
import shutil

import pytest
from PIL import Image

from lexlip.errors import LexLIPError
from lexlip.server import picture_files
from lexlip.server.picture_files import token_of


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "elsewhere" / "secret.png"
    path.parent.mkdir()
    Image.new("RGB", (70, 70), "red").save(path)
    return path


def statuses(client, id):
    image = token_of(id)
    return {
        "thumb": client.get(f"/images/{image}").status_code,
        "full": client.get(f"/images/{image}?size=full").status_code,
        "explain": client.get("/explain", params={"q": "red", "image": image}).status_code,
        "more": client.get("/search", params={"more": image}).status_code,
    }


def test_a_picture_that_becomes_a_link_out_of_the_folder_is_refused(
    make_index, serve, pictures, secret
):
    client = serve(make_index())
    assert set(statuses(client, "home/00.png").values()) == {200}
    (pictures / "home" / "00.png").unlink()
    (pictures / "home" / "00.png").symlink_to(secret)
    # A query and an explanation go by what the index keeps of it.
    wanted = {"thumb": 403, "full": 403, "explain": 200, "more": 200}
    assert statuses(client, "home/00.png") == wanted
    with pytest.raises(LexLIPError, match="link out of its folder"):
        client.app.state.service.pictures.small("home/00.png", 64)
    line = client.get(f"/images/{token_of('home/00.png')}").json()["error"]
    assert "link out of its folder" in line and str(secret) not in line
    facts = client.get(f"/images/{token_of('home/00.png')}/facts").json()
    assert facts["width"] is None and (facts.get("path") or "").find("elsewhere") < 0


def test_a_folder_that_becomes_a_link_is_refused(make_index, serve, pictures, secret):
    client = serve(make_index())
    shutil.copy2(secret, secret.with_name("00.png"))
    shutil.rmtree(pictures / "home")
    (pictures / "home").symlink_to(secret.parent)
    assert client.get(f"/images/{token_of('home/00.png')}").status_code == 403


def test_links_that_were_indexed_are_followed(make_index, serve, pictures, secret, tmp_path):
    (pictures / "linked").symlink_to(secret.parent)
    (pictures / "one.png").symlink_to(secret)
    (pictures / "inside.png").symlink_to(pictures / "home" / "02.png")
    client = serve(make_index())
    for id in ("linked/secret.png", "one.png", "inside.png"):
        assert client.get(f"/images/{token_of(id)}?size=full").status_code == 200, id
    other = secret.with_name("other.png")
    Image.new("RGB", (71, 71), "blue").save(other)
    os.replace(other, secret)  # another picture at the end of the same link
    assert client.get(f"/images/{token_of('one.png')}").status_code == 403
    # A root that is a link itself leads to no other place than the root.
    (tmp_path / "root").symlink_to(pictures)
    again = serve(make_index(source=tmp_path / "root", replace=True))
    assert client.get(f"/images/{token_of('home/02.png')}").status_code == 200
    assert again.get(f"/images/{token_of('home/02.png')}").status_code == 200


def test_a_posted_picture_that_becomes_a_link_is_refused(make_index, serve, images, secret):
    path = make_index()
    client = serve(path)
    added = client.post("/images", files={"file": secret.read_bytes()}).json()["added"][0]
    assert client.get(f"/images/{added['image']}").status_code == 200
    other = secret.with_name("other.png")
    images[0].save(other)
    (path / added["id"]).unlink()
    (path / added["id"]).symlink_to(other)
    assert client.get(f"/images/{added['image']}?size=full").status_code == 403


def test_a_picture_of_a_table_that_becomes_a_link_is_refused(make_index, serve, pictures, secret):
    (pictures / "list.csv").write_text("image,image_id,caption\ntrip/01.png,one,a\n")
    client = serve(make_index(source=pictures / "list.csv"))
    assert client.get(f"/images/{token_of('one')}?size=full").status_code == 200
    (pictures / "trip" / "01.png").unlink()
    (pictures / "trip" / "01.png").symlink_to(secret)
    assert client.get(f"/images/{token_of('one')}?size=full").status_code == 403


def test_a_file_is_sent_in_pieces_and_not_beyond_the_limit(make_index, serve, pictures):
    large = pictures / "home" / "large.jpg"
    Image.new("RGB", (40, 40)).save(large)
    with large.open("ab") as file:
        file.truncate(3 * 2**20)
    client = serve(make_index(), max_file=4 * 2**20)
    address = f"/images/{token_of('home/large.jpg')}?size=full"
    service = client.app.state.service
    assert service.pictures.full("home/large.jpg") == (large, "image/jpeg")
    answer = client.get(address)
    assert answer.content == large.read_bytes()
    with large.open("ab") as file:
        file.truncate(5 * 2**40)  # with holes: it takes no room
    refused = client.get(address)
    assert refused.status_code == 413 and "4,194,304 bytes" in refused.json()["error"]


def test_pictures_are_converted_one_at_a_time(make_index, serve, pictures, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    Image.new("RGB", (20, 10)).save(pictures / "a.tif")
    client = serve(make_index())
    busy, seen, read = [], [], picture_files.read_image

    def counting(*args):
        busy.append(1)
        seen.append(len(busy))
        Event().wait(0.05)
        busy.pop()
        return read(*args)

    monkeypatch.setattr(picture_files, "read_image", counting)
    with ThreadPoolExecutor(4) as pool:
        address = f"/images/{token_of('a.tif')}?size=full"
        assert {it.status_code for it in pool.map(client.get, [address] * 4)} == {200}
    assert seen == [1, 1, 1, 1]
