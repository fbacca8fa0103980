"""Places of words: patches of an encoder that shows them, hidden parts for any other."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lexlip.errors import LexLIPError
from lexlip.models.lexical.code import WordCode
from lexlip.models.lexical.lexicalise import lexicalise
from lexlip.models.lexical.speaker import LexicalSpeaker
from lexlip.models.localisation.seen import ends
from lexlip.models.speaker import Localises
from tests.support.clips import WORDS, small_clip, small_tokenizer

COLOURS = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230), "grey": (128,) * 3}


class ByColour:
    """A dual encoder of colours: a picture is the mean of its colours, a text of its words'."""

    family, width, name_or_path, fingerprint = "colours", 4, "", "colours"
    max_text_length, prompt, languages, image_side = 77, "{}", ("en",), None

    def prepare_image(self, image):
        return image

    def embed_text(self, texts, batch_size=128):
        rows = [[self._vector(COLOURS[w]) for w in t.split() if w in COLOURS] for t in texts]
        return unit([np.mean(row or [np.ones(4)], 0) for row in rows])

    def embed_image(self, images, batch_size=32):
        pixels = [np.asarray(image, np.float64).reshape(-1, 3) for image in images]
        return unit([np.mean([self._vector(p) for p in some], 0) for some in pixels])

    def _vector(self, colour):
        return np.array([*(np.array(colour) / 255), 0.3])


def unit(rows):
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def colours():
    encoder = ByColour()
    rng = np.random.default_rng(0)
    sample = [rng.integers(0, 255, (4, 4, 3)).astype(np.uint8) for _ in range(60)]
    code = WordCode.fit(encoder.embed_text(list(COLOURS)), encoder.embed_image(sample))
    facts = {"fingerprint": "colours", "width": 4}
    return LexicalSpeaker(encoder, code, list(COLOURS), facts)


@pytest.fixture(scope="module")
def clip(images, tmp_path_factory):
    folder = small_clip(tmp_path_factory.mktemp("clip") / "clip", small_tokenizer())
    return lexicalise(folder, images, WORDS)


def test_hiding_the_red_part_takes_away_red(colours):
    picture = np.full((28, 28, 3), 128, np.uint8)
    picture[4:8, 20:24] = COLOURS["red"]  # row 1, column 5 of 7
    red, green = (colours.lexicon.numbers[word] for word in ("red", "green"))
    found = colours.locate(Image.fromarray(picture), [red, green])
    assert found.grid == (7, 7) and divmod(found.patches[red], 7) == (1, 5)
    assert found.heat[red].max() > 5 * np.median(found.heat[red]) and found.heat[red].min() >= 0
    pixels = colours.locate_pixels(Image.fromarray(picture), [red])
    assert pixels[red] == pytest.approx(found.heat[red])
    assert not colours.aligns
    with pytest.raises(LexLIPError, match="shows no patches"):
        colours.align(Image.fromarray(picture), "red")


def test_a_word_of_a_text_raises_its_term(colours):
    red, blue = (colours.lexicon.numbers[word] for word in ("red", "blue"))
    found = colours.trace_text("grey red blue", [red, blue])
    assert found.words == ("grey", "red", "blue")
    (whole,) = colours.vectors_of(["grey red blue"])
    for term, place in ((red, 1), (blue, 2)):
        weight = float(colours.project(whole)[term])
        assert weight > 0 and found.raised[term].word == place
        assert found.raised[term].weight == pytest.approx(weight, abs=1e-5)
    shares = dict(colours.text_attention("grey red blue"))
    assert sum(shares.values()) == pytest.approx(1) and shares["grey"] < shares["red"]
    assert colours.trace_text(" ", [red]).raised[red].word == -1
    assert colours.text_attention(" ") == []


def test_patches_of_a_clip_are_compared_with_words(clip, images):
    assert isinstance(clip, Localises) and clip.aligns
    terms = [clip.lexicon.numbers[word] for word in ("red", "dog")]
    found = clip.locate(images[0], terms)
    patches, grid = clip.encoder.embed_patches(images[:1])
    near = clip.code.centred(patches[0], "image") @ clip.code.atoms.T
    assert found.grid == grid == (2, 2) and found.box == (0, 0, 1, 1)
    for term, word in zip(terms, ("red", "dog"), strict=True):
        mine = near[:, WORDS.index(word)]
        assert found.heat[term].ravel() == pytest.approx(np.maximum(mine, 0), abs=1e-6)
        assert found.patches[term] == (mine.argmax() if mine.max() > 0 else -1)
    assert clip.locate_pixels(images[0], terms)[terms[0]].shape == (2, 2)
    matched = clip.align(images[0], "red dog")
    assert matched.words == ("red", "dog") and matched.patches.shape == (2, 2)
    shares = clip.text_attention("a red dog")
    assert [word for word, _ in shares] == ["a", "red", "dog"]
    assert sum(share for _, share in shares) == pytest.approx(1, abs=1e-5)
    with pytest.raises(LexLIPError, match="not a term id"):
        clip.locate(images[0], [10**6])


def test_a_wide_picture_is_seen_without_its_sides(clip):
    """The processor crops the middle square, and the patches cover that part."""
    wide = Image.fromarray(np.zeros((40, 80, 3), np.uint8))
    left, top, right, bottom = clip.locate(wide, [clip.lexicon.numbers["red"]]).box
    assert (top, bottom) == (0, 1) and (left, right) == pytest.approx((0.25, 0.75), abs=0.02)


def test_ends_of_a_line_of_places():
    assert ends(np.linspace(0.05, 0.95, 10)) == (0.0, 1.0)
    assert ends(np.linspace(0.275, 0.725, 10)) == pytest.approx((0.25, 0.75))
    assert ends(np.array([0.5])) == (0.0, 1.0)
