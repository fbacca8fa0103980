"""Features of a frozen trunk are computed once, and again only when they would differ."""

from __future__ import annotations

import numpy as np
import pytest

from lexlip.data.collection import Collection
from lexlip.models.lexlip import LexLIP
from pretrain.cache import cached_features, cached_pixels


@pytest.fixture
def collection(images):
    return Collection([f"p{i}" for i in range(len(images))], [[""]] * len(images), list(images))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_finds_what_its_model_cached(model, collection, tmp_path):
    """Stage 2 loads from a checkpoint what stage 1 built: the trunk runs once for both."""
    built = cached_features(model, collection, tmp_path / "cache", flip=True)
    pixels = cached_pixels(collection, model.processor, tmp_path / "cache")
    before = files(tmp_path / "cache")
    model.save_pretrained(tmp_path / "checkpoint")
    loaded = LexLIP.from_pretrained(tmp_path / "checkpoint")
    # The same settings in another order, as preprocessors come from different folders.
    settings = dict(reversed(loaded.processor.image_processor.to_dict().items()))
    loaded.processor.image_processor.to_dict = lambda: settings
    again = cached_features(loaded, collection, tmp_path / "cache", flip=True)
    cached_pixels(collection, loaded.processor, tmp_path / "cache")
    assert files(tmp_path / "cache") == before and len(before) == 2
    assert np.array_equal(built, again) and built.shape[:2] == (len(collection), 2)
    assert pixels.shape[:2] == (len(collection), 1)


def test_another_trunk_preprocessing_or_view_is_cached_anew(make_model, collection, tmp_path):
    model = make_model()
    cached_features(model, collection, tmp_path)
    cached_features(model, collection, tmp_path, flip=True)
    model.processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    cached_features(model, collection, tmp_path)
    next(model.vision.trunk.parameters()).data.add_(1.0)
    cached_features(model, collection, tmp_path)
    assert len(files(tmp_path)) == 4


def test_an_interrupted_writer_leaves_nothing_behind(model, images, collection, tmp_path):
    class Interrupted(Collection):
        def image(self, number, at_least=None):
            if number:
                raise KeyboardInterrupt
            return super().image(number, at_least)

    stopped = Interrupted(collection.ids, collection.captions, list(images))
    with pytest.raises(KeyboardInterrupt):
        cached_features(model, stopped, tmp_path, batch=1)
    assert files(tmp_path) == []
    again = cached_features(model, collection, tmp_path, batch=1)
    assert len(again) == len(collection) and np.isfinite(again).all()
