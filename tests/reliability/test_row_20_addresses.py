"""Row 20 of the failure matrix: an address where a picture is expected. Nothing is fetched.

What a person names as a source (`lexlip index URL`, a list of URLs in Python, parquet files with
URLs) is fetched, since that is what was asked for. Queries, CSV, JSON and servers fetch nothing.
"""

from __future__ import annotations

import socket

import pytest

from lexlip import Index, LexLIPError, Query


@pytest.fixture
def listener():
    """A socket of this machine, and a function that counts who came."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)

    def came():
        count = 0
        while True:
            try:
                server.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    yield f"http://127.0.0.1:{server.getsockname()[1]}/a.png", came
    server.close()


def test_row_20_the_command_line_asks_nobody(listener, build, lexlip, checkpoint, tmp_path):
    address, came = listener
    path = build()
    (tmp_path / "table.csv").write_text(f"image,text\n{address},a red circle\n")
    (tmp_path / "table.json").write_text(f'[{{"image": "{address}", "captions": ["a"]}}]')
    commands = [
        ["search", path, f"img:{address}"], ["search", path, "--image", address],
        ["search", path, f"'{address}'"], ["words", address, "-m", checkpoint],
        ["index", tmp_path / "table.csv", "-o", tmp_path / "b.lex", "-m", checkpoint],
        ["index", tmp_path / "table.json", "-o", tmp_path / "c.lex", "-m", checkpoint],
        ["search", address, "a red circle"], ["explain", path, f"img:{address}", "0.png"],
    ]  # fmt: skip
    for command in commands:
        done = lexlip(*command)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.output
    assert came() == 0


def test_row_20_python_asks_nobody(listener, build, model):
    address, came = listener
    with Index.open(build(), model, "w") as index:
        for ask in (
            lambda: index.search(Query.image(address)),
            lambda: model.encode_image([address]),
            lambda: index.search(f"img:{address}"),
        ):
            try:
                ask()
            except LexLIPError as error:
                assert len(str(error).splitlines()) == 1
    assert came() == 0


def test_row_20_a_server_asks_nobody(listener, build, model):
    from starlette.testclient import TestClient

    from lexlip.server import create_app

    address, came = listener
    with TestClient(create_app(build(), model), base_url="http://127.0.0.1") as client:
        bodies = [{"q": address}, {"q": f"img:{address}"}, {"image": address}, {"id": address}]
        for body in bodies:
            assert client.post("/search", json=body).status_code < 500
        assert client.get("/search", params={"q": f"img:{address}"}).status_code < 500
        files = {"file": ("a.png", address.encode())}
        assert client.post("/images", files=files).status_code < 500
        assert client.post("/words", files=files).status_code < 500
    assert came() == 0
