"""Batches of picture-caption pairs in an order that depends on seed, epoch and step alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import pad

from lexlip.data.collection import Collection
from lexlip.lexicon import Lexicon


@dataclass(frozen=True)
class Tokens:
    """Tokenised captions: ids and word numbers, int32 [M, L], padded; -1 for no word."""

    input_ids: np.ndarray
    word_ids: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any, max_length: int) -> Tokens:
        """Tokenise once, before training."""
        encoded = tokenizer(list(texts), truncation=True, max_length=max_length)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)
        width = int(lengths.max(initial=1))
        ids = np.full((len(texts), width), tokenizer.pad_token_id, dtype=np.int32)
        words = np.full((len(texts), width), -1, dtype=np.int32)
        for row, length in enumerate(lengths):
            ids[row, :length] = encoded["input_ids"][row]
            words[row, :length] = [-1 if w is None else w for w in encoded.word_ids(row)]
        return cls(ids, words, lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, index: np.ndarray) -> dict[str, Tensor]:
        """A batch cut to its longest text: input_ids, word_ids, attention_mask, int64 [B, L]."""
        length = int(self.lengths[index].max(initial=1))
        ids = torch.from_numpy(self.input_ids[index, :length].astype(np.int64))
        words = torch.from_numpy(self.word_ids[index, :length].astype(np.int64))
        mask = torch.arange(length)[None] < torch.from_numpy(self.lengths[index])[:, None]
        return {"input_ids": ids, "word_ids": words, "attention_mask": mask.long()}


def join(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Two token batches as one, padded to the longer."""
    length = max(a["input_ids"].shape[1], b["input_ids"].shape[1])
    fill = {"input_ids": 0, "word_ids": -1, "attention_mask": 0}
    return {
        k: torch.cat([pad(part[k], (0, length - part[k].shape[1]), value=v) for part in (a, b)])
        for k, v in fill.items()
    }


@dataclass(frozen=True)
class Pairs:
    """All picture-caption pairs of a training collection.

    Parameters
    ----------
    views : array [N, views, ...]
        Cached pixels (uint8) or trunk features (float16).
    captions : Tokens
        M captions.
    image : int64 array [M]
        Picture of each caption.
    text : int64 array [M]
        Number of the distinct caption text: equal texts share it.
    words : csr_array [N, Va]
        Count of each lexicon word in the captions of a picture.
    extra : Tokens or None
        Captions without pictures.
    """

    views: np.ndarray
    captions: Tokens
    image: np.ndarray
    text: np.ndarray
    words: csr_array
    extra: Tokens | None = None

    @classmethod
    def of(
        cls,
        collection: Collection,
        views: np.ndarray,
        tokenizer: Any,
        lexicon: Lexicon,
        max_length: int,
        extra: Sequence[str] = (),
    ) -> Pairs:
        """Tokenise a collection's captions beside its cached pictures."""
        texts = [caption for captions in collection.captions for caption in captions]
        image = np.repeat(np.arange(len(collection)), [len(c) for c in collection.captions])
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        captions = Tokens.of(texts, tokenizer, max_length)
        columns = np.where(captions.word_ids >= 0, lexicon.compact[captions.input_ids], -1)
        rows, places = np.nonzero(columns >= 0)
        counts = csr_array(
            (np.ones(len(rows), np.float32), (image[rows], columns[rows, places])),
            shape=(len(collection), len(lexicon)),
        )
        counts.sum_duplicates()
        text = np.array([distinct[t] for t in texts])
        more = Tokens.of(extra, tokenizer, max_length) if extra else None
        return cls(views, captions, image, text, counts, more)

    def visits(self, together: int, rng: np.random.Generator) -> np.ndarray:
        """Captions that are taken with one look at their picture, int64 [V, `together`].

        Each caption comes at least once: a picture with five is visited three times for two of
        them, and one of its captions comes twice.
        """
        if together == 1:
            return np.arange(len(self.captions))[:, None]
        shuffled = rng.permutation(len(self.captions))
        by_picture = shuffled[np.argsort(self.image[shuffled], kind="stable")]
        counts = np.bincount(self.image)
        groups = np.split(by_picture, np.cumsum(counts[counts > 0])[:-1])
        sizes = [-(-len(own) // together) * together for own in groups]
        taken = [np.resize(own, size) for own, size in zip(groups, sizes, strict=True)]
        return np.concatenate(taken).reshape(-1, together)

    def rows(self, together: int = 1) -> int:
        """Captions that an epoch takes, with `together` of them for each look at a picture."""
        return together * int((-(-np.bincount(self.image) // together)).sum())

    def steps(self, batch_size: int, together: int = 1) -> int:
        """Full batches in an epoch."""
        return max(1, self.rows(together) // batch_size)

    def _looks(self, number: int, rng: np.random.Generator) -> np.ndarray:
        """Views that a step compares with: the whole, and others at random."""
        views = self.views.shape[1]
        return np.r_[0, 1 + np.sort(rng.permutation(views - 1)[: max(0, number - 1)])]

    def batches(
        self,
        seed: int,
        epoch: int,
        batch_size: int,
        texts: int = 0,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
        together: int = 1,
        looks: int = 0,
    ) -> Iterator[dict[str, Any]]:
        """Batches `start`, `start` + 1, ... of an epoch, the same whoever asks and when.

        With a `share` (rank, size) they hold the pictures of rows rank, rank + size, ... alone:
        every process knows the whole batch, and reads its own pictures. With `together` captions
        for each look, a batch has the first caption of all its pictures, then the second of all,
        ..., but each picture once (`pretrain.task.for_captions`). ``looks`` of each picture are its
        first view, the whole, and others drawn at random.
        """
        rng = np.random.default_rng([seed, epoch])
        steps, visited = self.steps(batch_size, together), batch_size // together
        visits = self.visits(together, rng)
        order = rng.permutation(len(visits))
        view = rng.integers(self.views.shape[1], size=len(order))
        more = rng.integers(len(self.extra), size=(steps, texts)) if self.extra else None
        others = np.random.default_rng([seed, epoch, 1])
        seen = [self._looks(looks, others) for _ in range(steps)]
        for step in range(start, steps):
            chosen = order[step * visited : (step + 1) * visited]
            rows, mine = visits[chosen].T.ravel(), chosen[share[0] :: share[1]]
            image = self.image[rows]
            batch: dict[str, Any] = {
                "pictures": np.asarray(self.views[self.image[visits[mine, 0]], view[mine]]),
                "captions": self.captions.rows(rows),
                "owner": torch.from_numpy(image),
                "text": torch.from_numpy(self.text[rows]),
                "words": torch.from_numpy(self.words[image].toarray()),
            }
            if looks:
                batch["looks"] = np.asarray(self.views[self.image[visits[mine, 0]]][:, seen[step]])
            if more is not None and texts and self.extra is not None:
                batch["extra"] = self.extra.rows(more[step])
            yield batch
