"""Cost of words for a dense model that cannot be run here: cross-validation on its vectors.

python -m pretrain.studies.distil_crossval embeddings=$LEXLIP_PEERS/clip-b32-flickr8k

The folder has the layout of `eval.bench.baselines.clip`. Pictures are split in two halves; a head
is fitted to the vectors of one half, to their captions' vectors, and to the words of their captions
in the data set, and finds the pictures of the other half among themselves. So no picture and no
caption that is measured was ever seen, and the dense model, beside it, searches the same pictures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from scipy.sparse import csr_array

from lexlip.cli.console import Job, Overrides
from lexlip.data.collection import Collection
from lexlip.errors import LexLIPError
from lexlip.lexicon import Lexicon
from lexlip.models.lexical.code import WordCode
from lexlip.settings import Data, from_overrides, option, resolve
from pretrain.build import caption_tokenizer
from pretrain.distil import (
    Distillation,
    Embeddings,
    caption_words,
    distil,
    recall_of,
    word_vectors,
)
from pretrain.lexical_head import LexicalHead
from pretrain.validate import recall

BUDGETS = ((64, 64), (64, 256), (128, 128), (256, 256), (None, None))
"""Terms of a picture and of a text; None keeps all."""


def read_vectors(folder: Path) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Read a folder of vectors.

    Returns
    -------
    ids : list of str, length N
    images : float32 array [N, d]
    texts : float32 array [M, d]
    owner : int64 array [M]
        Picture of each text.

    Raises
    ------
    LexLIPError
        When files are missing or do not go together.
    """
    found: dict[str, np.ndarray] = {}
    try:
        for file in sorted(folder.glob("*_image_names.json")):
            rows = np.load(folder / file.name.replace("names.json", "embeddings.npy"))
            for name, row in zip(json.loads(file.read_text()), rows, strict=True):
                found.setdefault(name.removesuffix(".jpg"), row.astype(np.float32))
        asked = (folder / "queries.tsv").read_text(encoding="utf-8").splitlines()
        texts = np.load(folder / "query_text_embeddings.npy").astype(np.float32)
        ids = list(found)
        place = {name: number for number, name in enumerate(ids)}
        owner = np.array([place[line.partition("\t")[0].removesuffix(".jpg")] for line in asked])
    except (OSError, ValueError, KeyError) as error:
        raise LexLIPError(f"{folder} holds no vectors: see eval/bench/baselines/clip.py") from error
    if len(owner) != len(texts) or not ids:
        raise LexLIPError(f"{folder}: {len(texts)} text vectors for {len(owner)} queries")
    return ids, _unit(np.stack([found[name] for name in ids])), _unit(texts), owner


def halves(owner: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split picture numbers in two; pictures with queries are split evenly."""
    rng = np.random.default_rng(seed)
    asked = rng.permutation(np.unique(owner))
    others = rng.permutation(np.setdiff1d(np.arange(count), owner))
    first = np.sort(np.concatenate([asked[::2], others[::2]]))
    return first, np.setdiff1d(np.arange(count), first)


def measure(
    ids: list[str], images: np.ndarray, texts: np.ndarray, owner: np.ndarray,
    captions: dict[str, list[str]], how: Distillation, atoms: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Fit to each half and measure on the other; recall by name of the system, means of both.

    With vectors of words (`atoms`, [V, d]) training starts from the code that they make
    (`lexlip.models.lexical.code`), which is measured beside it.
    """
    both = halves(owner, len(ids), how.seed)
    sums: dict[str, dict[str, float]] = {}
    for seen, new in (both, both[::-1]):
        mine, theirs = np.isin(owner, seen), np.isin(owner, new)
        place = np.searchsorted(seen, owner[mine])
        right = np.searchsorted(new, owner[theirs])
        judged = csr_array(
            (np.ones(len(right)), (np.arange(len(right)), right)), shape=(len(right), len(new))
        )
        rows = {"dense": recall(texts[theirs] @ images[new].T, judged)}
        if atoms is None:
            said = [captions.get(ids[i], []) for i in seen]
            start, spoken = _start([ids[i] for i in seen], images[seen], said)
            head = distil(start, Embeddings(images[seen], texts[mine], place, spoken), how)
        else:
            code = WordCode.fit(atoms, images[seen], texts[mine])
            rows |= _untrained(code, images[new], texts[theirs], judged, how.terms)
            data = Embeddings(images[seen], texts[mine], place)
            head = distil(LexicalHead.of(code), data, how, code)
        for terms, asked in BUDGETS:
            name = f"{terms or 'all'} terms, queries {asked or 'all'}"
            rows[name] = recall_of(head, images[new], texts[theirs], judged, terms, asked)
        for name, row in rows.items():
            total = sums.setdefault(name, dict.fromkeys(row, 0.0))
            for key, value in row.items():
                total[key] += value * len(right) / len(owner)
    return sums


def _start(
    ids: list[str], images: np.ndarray, captions: list[list[str]]
) -> tuple[LexicalHead, csr_array]:
    """Begin a head with vectors of the captions' words; return also which picture has them."""
    known = Collection(ids, captions, [b""] * len(ids), source="vectors")
    said = [caption for some in captions for caption in some]
    tokenizer = caption_tokenizer(said)
    spoken = tokenizer(said, add_special_tokens=False)["input_ids"]
    lexicon = Lexicon.from_tokenizer(tokenizer, spoken, min_count=3)
    words = caption_words(known, tokenizer, lexicon)
    start = LexicalHead(len(lexicon), images.shape[1])
    start.words.data = word_vectors(torch.from_numpy(_unit(images - images.mean(0))), words)
    return start, words


def _untrained(
    code: WordCode, images: np.ndarray, texts: np.ndarray, judged: csr_array, terms: int
) -> dict[str, dict[str, float]]:
    """Recall of the code itself, by all words of a query and by the best 64 positive ones."""
    weights = code.encode(code.centred(images, "image"), terms)
    asked = code.project(code.centred(texts, "text"))
    few = np.zeros_like(asked)
    for row, numbers in enumerate(code.choose(one, 64) for one in asked):
        few[row, numbers] = asked[row, numbers]
    return {
        f"untrained, {terms} terms, queries {name}": recall((weights @ some.T).T, judged)
        for name, some in (("all", asked), ("64", few))
    }


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass(frozen=True)
class Settings(Distillation):
    """Settings of the study; each field is a key."""

    embeddings: str = option("", "folder of vectors")
    source: str = option("flickr8k", "data set with the pictures' captions")
    splits: str = option("train+dev", "splits of it, joined by +")
    words: str = option("", "vectors of words, an .npy file [V, d], to start from their code")


def main(overrides: Overrides = None) -> None:
    """Measure what words cost on vectors alone."""
    settings = from_overrides(Settings, overrides or [])
    if not settings.embeddings:
        raise LexLIPError("no vectors: give embeddings=FOLDER")
    vectors = read_vectors(Path(resolve(settings.embeddings)))
    captions: dict[str, list[str]] = {}
    for split in settings.splits.split("+"):
        collection = Data(source=settings.source).open(split)
        captions |= dict(zip(collection.ids, map(list, collection.captions), strict=True))
    atoms = None if not settings.words else np.load(resolve(settings.words)).astype(np.float32)
    for name, figures in measure(*vectors, captions, settings, atoms).items():
        typer.echo(f"{name:>36} " + " ".join(f"{k} {100 * v:.1f}" for k, v in figures.items()))


app = Job(main, Settings)

if __name__ == "__main__":
    app()
