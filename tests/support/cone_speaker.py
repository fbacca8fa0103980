"""A real speaker with vectors over a made-up dual encoder: pictures and captions by number."""

from __future__ import annotations

from itertools import product

import numpy as np

from lexlip.models.lexical.code import WordCode
from lexlip.models.lexical.speaker import LexicalSpeaker
from tests.support.cones import WIDTH, cones


def names(count):
    """Words of two syllables, all different."""
    syllables = [a + b for a, b in product("bdfgklmnprstvz", "aeiou")]
    return [a + b for a, b in product(syllables, syllables)][:count]


class ConeEncoder:
    """A dual encoder that knows its captions by heart, and pictures by the colour of a pixel."""

    family, name_or_path, width, max_text_length = "cones", "", WIDTH, 8
    fingerprint, prompt, languages, tokenizer = "cones", "{}", ("en",), None
    image_side = None

    def prepare_image(self, image):
        return image

    def __init__(self, made):
        self.made = made

    def embed_text(self, texts, batch_size=128):
        rows = [self.made.captions[int(text.split()[1])] for text in texts]
        return _unit(np.array(rows, np.float32).reshape(len(texts), WIDTH))

    def embed_image(self, images, batch_size=32):
        pixels = [np.asarray(image)[0, 0].astype(int) for image in images]
        rows = [self.made.pictures[256 * pixel[0] + pixel[1]] for pixel in pixels]
        return _unit(np.array(rows, np.float32).reshape(len(images), WIDTH))


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def picture(number):
    """The picture of a number: its colour says which."""
    return np.full((2, 2, 3), (number // 256, number % 256, 0), np.uint8)


def cone_speaker(pictures=400, words=300):
    """Return a speaker, and its vectors as they were made up."""
    made = cones(pictures, words)
    code = WordCode.fit(made.words, made.pictures, made.captions[pictures:])
    facts = {"fingerprint": "cones", "width": WIDTH}
    return LexicalSpeaker(ConeEncoder(made), code, names(words), facts), made
