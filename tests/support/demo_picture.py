"""Draws docs/demo.webp: queries of the demonstration, their words, and the best pictures.

python -m tests.support.demo_picture
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.pages import DOCS
from tests.support.scene_truth import asked

QUERIES = ("a heart in the snow", "two moons", "red + moon -night", "a square in the sky")


def draw(target=DOCS / "demo.webp"):
    """Ask the shipped model, and mark the hits that have what the query asks for."""
    from PIL import Image

    from eval.bench.picture import SHOWN, ResultRow, draw_results
    from lexlip import Index, Query
    from lexlip.data.scenes import make_scenes
    from lexlip.home.demo import SCENES, SEED, demonstration

    scenes = {f"{n:03}.png": scene for n, scene in enumerate(make_scenes(SCENES, SEED))}
    with TemporaryDirectory() as home, Index.open(demonstration(Path(home))) as index:
        rows = []
        for text in QUERIES:
            prepared = index.prepare(Query.parse(text))
            hits = index.search(prepared, SHOWN)
            pictures = [Image.open(Path(home) / "demo-pictures" / hit.id) for hit in hits]
            right = [asked(text).fits(scenes[hit.id]) for hit in hits]
            scores = [float(hit.score) for hit in hits]
            rows.append(ResultRow(text, index.words(prepared.terms), pictures, right, scores))
        drawn = Path(home) / "results.png"
        draw_results(drawn, rows)
        Image.open(drawn).convert("RGB").save(target, quality=90, method=6)


if __name__ == "__main__":
    draw()
