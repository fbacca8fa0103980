"""A gallery that lives in memory, for systems without a picture in sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image


@dataclass
class MemoryGallery:
    """Pictures are squares of one colour; captions are what the test says."""

    ids: list[str]
    captions: list[list[str]]
    colours: Sequence[tuple[int, int, int]] = ()
    qrels: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.qrels:
            self.qrels = {
                f"{name}#{i}": {name}
                for name, texts in zip(self.ids, self.captions, strict=True)
                for i in range(len(texts))
            }

    @property
    def queries(self) -> dict[str, str]:
        return {
            f"{name}#{i}": text
            for name, texts in zip(self.ids, self.captions, strict=True)
            for i, text in enumerate(texts)
        }

    def image(self, i: int) -> Image.Image:
        return Image.new("RGB", (8, 8), tuple(self.colours[i]))

    def __len__(self) -> int:
        return len(self.ids)


@pytest.fixture
def make_gallery() -> type[MemoryGallery]:
    return MemoryGallery


@pytest.fixture(scope="session")
def table(photos, captions, tmp_path_factory) -> Path:
    """A CSV of twelve pictures, not in order of their ids, with two captions each."""
    lines = ["image,image_id,split,caption"]
    for number in (7, 3, 11, 0, 5, 1, 10, 2, 9, 4, 8, 6):
        for text in (captions[number % 8], captions[(number + 3) % 8]):
            lines.append(f'{photos}/{number:02}.png,p{number},dev,"{text}"')
    path = tmp_path_factory.mktemp("table") / "pictures.csv"
    path.write_text("\n".join(lines))
    return path
