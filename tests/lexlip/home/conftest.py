"""Folders of photographs, and tiny models for them: as files, and in a made-up hub cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hub import write_cache, write_graphs


@pytest.fixture(scope="session")
def graphs(tmp_path_factory) -> Path:
    """A tiny CLIP in the layout of transformers.js, with nothing of torch."""
    return write_graphs(tmp_path_factory.mktemp("graphs"))


@pytest.fixture
def hub(graphs, tmp_path) -> Path:
    """A hub cache that holds this model under the default one's name."""
    return write_cache(graphs, tmp_path / "hub")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A data folder of this test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("LEXLIP_MODEL", raising=False)
    return tmp_path / "data"


@pytest.fixture
def album(images, tmp_path) -> Path:
    """A folder of twelve pictures, some in a folder of it, and one that is broken."""
    folder = tmp_path / "album"
    (folder / "trip").mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / ("trip" if number % 3 == 0 else "") / f"{number:02}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder
