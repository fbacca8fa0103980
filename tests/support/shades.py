"""Collections of tiny grey pictures, told apart by their shade."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("datasets")


def picture(shade):
    return Image.new("RGB", (4, 3), (shade, shade, shade))


def png(shade):
    data = BytesIO()
    picture(shade).save(data, "PNG")
    return data.getvalue()


def save(folder, name, shade):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(shade))
    return path


def shades(collection):
    return [collection.image(i).getpixel((0, 0))[0] for i in range(len(collection))]


def write_parquet(path, ids, captions, first_shade=0, **columns):
    images = [{"bytes": png(first_shade + i), "path": f"{n}.png"} for i, n in enumerate(ids)]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"image": images, "image_id": ids, "captions": captions, **columns}
    pq.write_table(pa.table(table), path)
