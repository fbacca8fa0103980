"""Servers in this process, over small real indexes."""

from __future__ import annotations

import os
import shutil

import pytest
from starlette.testclient import TestClient

from lexlip import Index
from lexlip.server import Settings, create_app
from tests.lexlip.conftest import KINDS

HERE = "http://127.0.0.1"


# Servers on a distant engine are tested in test_away.py, test_away_milvus.py and
# test_shared_storage.py. All the others run on them, too, where it is asked for: it takes minutes.
FULL = os.environ.get("LEXLIP_TESTS") == "full"
SERVED = KINDS if FULL else KINDS[:2]


@pytest.fixture(params=SERVED)
def engine(request):
    """Each engine, as a recipe names it."""
    if request.param == "postings":
        return request.param
    node = request.getfixturevalue(request.param)
    return request.param if node is None else f"{request.param}:{node.place()}"


@pytest.fixture
def pictures(photos, tmp_path):
    """Pictures 00 to 07 in two folders, that may be changed."""
    for number in range(8):
        folder = tmp_path / "pictures" / ("trip" if number % 2 else "home")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(photos / f"{number:02}.png", folder)
    return tmp_path / "pictures"


@pytest.fixture
def make_index(tmp_path, model, pictures, no_flush):
    """Return a function: index the pictures, or something else, and say where."""

    def make(engine="postings", speaker=None, source=None, **others):
        path = tmp_path / f"{engine.partition(':')[0]}.lex"
        source = pictures if source is None else source
        Index.create(path, speaker or model, source, engine=engine, **others).close()
        return path

    return make


@pytest.fixture
def serve(model):
    """Return a function: serve an index in this process; closed when the test ends."""
    opened = []

    def start(path, speaker=None, grow=None, client=("testclient", 50000), **settings):
        app = create_app(path, speaker or model, Settings(**settings), grow)
        client = TestClient(app, base_url=HERE, raise_server_exceptions=True, client=client)
        opened.append(client)
        return client.__enter__()

    yield start
    for client in opened:
        client.__exit__(None, None, None)
