"""Long texts: read in windows of whole words, and pooled again to one row a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from lexlip.data.given import as_texts
from lexlip.models.typed import as_meant
from lexlip.storage.views import Views

Read = Callable[[str], Any]
"""Returns the `tokenizers.Encoding` of a text, without special tokens and not cut."""


class Windows(NamedTuple):
    """Texts in parts that fit into a model.

    Attributes
    ----------
    parts : list of str
    counts : list of int
        Number of parts of each text, 1 or more.
    """

    parts: list[str]
    counts: list[int]


def spans(words: Sequence[int | None], size: int) -> list[tuple[int, int]]:
    """Divide tokens into spans of at most `size` of them, of about the same length.

    Parameters
    ----------
    words : sequence of int
        Number of the word that each token belongs to. A word is cut only if it is longer than
        `size`.
    size : int

    Returns
    -------
    list of (int, int)
        Start and end of each; one span for a text without tokens.

    Examples
    --------
    >>> spans([0, 1, 1, 2, 3, 4], 4)
    [(0, 3), (3, 6)]
    """
    total = len(words)
    if total <= size:
        return [(0, total)]
    even = -(-total // -(-total // size))
    starts = [at for at in range(1, total) if words[at] is None or words[at] != words[at - 1]]
    found, begin = [], 0
    while total - begin > size:
        fit = [at for at in starts if begin < at <= begin + size]
        end = next((at for at in fit if at >= begin + even), fit[-1] if fit else begin + size)
        found.append((begin, end))
        begin = end
    return [*found, (begin, total)]


def windows(text: str, read: Read, size: int) -> list[str]:
    """Divide a text into parts of at most `size` tokens; most texts are one part.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> windows("two brown dogs on a beach", words.encode, 4)
    ['two brown dogs', 'on a beach']
    """
    if len(text.encode(errors="replace")) <= size:  # a token has a byte or more
        return [text]
    encoding = read(text)
    if len(encoding.ids) <= size:
        return [text]
    cuts = [encoding.offsets[start][0] for start, _ in spans(encoding.word_ids, size)[1:]]
    edges = [0, *cuts, len(text)]
    parts = [text[a:b].strip() for a, b in zip(edges, edges[1:], strict=False)]
    parts = [part for part in parts if part]
    if parts == [text]:  # one character of many tokens
        return parts
    return [window for part in parts for window in windows(part, read, size)]


def reading(tokenizer: Any) -> Read | None:
    """Return how a tokenizer, of transformers or of tokenizers, reads a text.

    None for one that does not tell places.
    """
    if hasattr(tokenizer, "encode_batch"):  # tokenizers' own
        return lambda text: tokenizer.encode(text, add_special_tokens=False)
    if not getattr(tokenizer, "is_fast", False):
        return None
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False).encodings[0]


def in_windows(texts: Any, read: Read | None, size: int) -> Windows:
    """Divide texts, in the form that they are meant in (`lexlip.models.typed.as_meant`).

    Parameters
    ----------
    texts : iterable of str, or str
    read : callable, optional
        Of the model's tokenizer. Without it texts stay whole.
    size : int
        Tokens that fit into the model, special ones left out.

    Raises
    ------
    LexLIPError
        For what is no text.
    """
    meant = [as_meant(text) for text in as_texts(texts)]
    found = [[text] if read is None else windows(text, read, max(1, size)) for text in meant]
    return Windows([part for parts in found for part in parts], list(map(len, found)))


def pool_words(rows: csr_array, counts: Sequence[int]) -> csr_array:
    """Return the largest weight of each word over the windows of a text, [M, V] to [N, V].

    A model pools over the positions of a text in the same way.

    Examples
    --------
    >>> pool_words(csr_array([[1, 0], [2, 0], [0, 3]]), [1, 2]).toarray().tolist()
    [[1, 0], [2, 3]]
    """
    if len(counts) == rows.shape[0]:
        return rows
    parts = [
        reduce(lambda a, b: a.maximum(b), (rows[[row]] for row in range(start, start + count)))
        for start, count in _groups(counts)
    ]
    return csr_array(vstack(parts, format="csr"))


def pool_vectors(vectors: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """Return the mean of the unit vectors of a text's windows, of unit length: [M, d] to [N, d].

    Examples
    --------
    >>> pool_vectors(np.array([[1.0, 0.0], [0.0, 1.0]]), [2]).round(3).tolist()
    [[0.707, 0.707]]
    """
    if len(counts) == len(vectors):
        return vectors
    total = np.add.reduceat(vectors, [start for start, _ in _groups(counts)])
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def pool_views(views: Views, counts: Sequence[int]) -> Views:
    """Return the views of texts: the tokens of all windows, and the mean of their Gaussians."""
    if len(counts) == len(views):
        return views
    groups = list(_groups(counts))
    own = [[views.tokens[row, : views.counts[row]] for row in range(a, a + n)] for a, n in groups]
    tokens = [np.concatenate(parts) for parts in own]
    longest = max(map(len, tokens))
    starts = [start for start, _ in groups]
    mean, spread = views.mean[starts], views.log_variance[starts]
    if views.has_gaussians:
        mean = pool_vectors(views.mean, counts)
        shares = np.array(counts, np.float32)[:, None]
        spread = np.add.reduceat(views.log_variance, starts).astype(np.float32) / shares
    return Views(
        np.stack([np.pad(part, ((0, longest - len(part)), (0, 0))) for part in tokens]),
        np.array(list(map(len, tokens)), np.int32),
        mean,
        spread,
    )


def _groups(counts: Iterable[int]) -> Iterable[tuple[int, int]]:
    start = 0
    for count in counts:
        yield start, count
        start += count
