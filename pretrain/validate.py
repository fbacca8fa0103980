"""Validation on dev: recall of words and of heads, and groundedness of words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from lexlip.impacts import overlap, top_terms, unit_normalise
from lexlip.lexicon import STOP_WORDS
from lexlip.models.dense_control import DenseDualEncoder
from lexlip.models.lexlip import LexLIP
from lexlip.models.scores.late import late_interaction
from lexlip.storage.views import Views
from pretrain.data import Pairs

TERMS = 64


def recall(
    scores: np.ndarray, relevant: csr_array, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """Share of rows of `scores` [Q, N] with a relevant column among the best k (ties by column)."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, : max(ks)]
    hit = np.take_along_axis(relevant.toarray() > 0, best, axis=1)
    return {f"R@{k}": float(hit[:, :k].any(1).mean()) for k in ks}


def relevance(owner: np.ndarray, ids: list[str], qrels: dict[str, set[str]]) -> csr_array:
    """Judgements as a matrix [captions, pictures]; `owner` has the picture of each caption."""
    place = {image_id: i for i, image_id in enumerate(ids)}
    first: dict[int, int] = {}
    rows, columns = [], []
    for caption, image in enumerate(owner):
        number = caption - first.setdefault(int(image), caption)
        for other in qrels[f"{ids[image]}#{number}"]:
            if other in place:
                rows.append(caption)
                columns.append(place[other])
    shape = (len(owner), len(ids))
    return csr_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=shape)


@torch.no_grad()
def plain_features(model: LexLIP | DenseDualEncoder, pairs: Pairs) -> np.ndarray:
    """Trunk features of the pictures as they are: not mirrored, computed where bytes are cached."""
    features = pairs.views[:, 0]
    if features.dtype == np.uint8:
        assert model.processor is not None
        parts = [features[i : i + 64] for i in range(0, len(features), 64)]
        pixels = (model.processor.normalise(np.array(p)) for p in parts)
        maps = [model.vision.features(p.to(model.device)).float() for p in pixels]
        features = torch.cat(maps).cpu().numpy()
    return features


@torch.no_grad()
def validate(
    model: LexLIP | DenseDualEncoder, pairs: Pairs, relevant: csr_array, texts: list[str]
) -> dict[str, float]:
    """Text-to-picture recall on dev; for LexLIP at 64 terms, with grounded P@10 and sparsity."""
    images: Any = model.encode_features(plain_features(model, pairs))
    queries: Any = model.encode_query(texts)
    if isinstance(model, DenseDualEncoder):
        return {f"t2i_{k}": v for k, v in recall(queries @ images.T, relevant).items()}
    pruned = top_terms(unit_normalise(images), TERMS)
    scores = (unit_normalise(queries) @ pruned.T).toarray()
    report = {f"t2i_{k}": v for k, v in recall(scores, relevant).items()}
    # Words of an image's own captions, over the full vocabulary.
    lexicon = model.lexicon
    full = (np.ones(len(lexicon)), (np.arange(len(lexicon)), lexicon.ids))
    said = pairs.words @ csr_array(full, shape=(len(lexicon), len(lexicon.tokens)))
    top = top_terms(images, 10)
    top.data[:] = 1
    hits = top.multiply(said > 0).sum(1)
    report["grounded_p10"] = float(np.mean(hits / np.maximum(1, np.diff(top.indptr))))
    report["image_terms"] = images.nnz / images.shape[0]
    report["text_terms"] = queries.nnz / queries.shape[0]
    report["overlap"] = float(overlap(queries, images))  # D2S calls it co-activation
    weight = np.asarray(images.sum(0)).ravel()
    stop = [i for i, token in enumerate(lexicon.tokens) if token.lower() in STOP_WORDS]
    report["stop_word_share"] = float(weight[stop].sum() / max(weight.sum(), 1e-9))
    report["dead_terms"] = float(np.mean(weight[lexicon.ids] == 0))  # that no picture of dev has
    return report


@torch.no_grad()
def validate_heads(
    model: LexLIP, pairs: Pairs, relevant: csr_array, texts: list[str]
) -> dict[str, float]:
    """Text-to-picture recall on dev of words at 64 terms and of each head alone, all pictures."""
    words, seen = model.represent_features(plain_features(model, pairs))
    queries, said = model.represent_text(texts)
    pruned = top_terms(unit_normalise(words), TERMS)
    scores = {"t2i": (unit_normalise(queries) @ pruned.T).toarray()}
    if seen.has_tokens:
        scores |= dict(zip(("filip_i2t", "filip"), _late(seen, said), strict=True))
    if seen.has_gaussians:
        # -CSD of unit means, less what is the same for all pictures.
        variance = np.exp(seen.log_variance).sum(1)
        scores["csd"] = 2 * said.mean @ seen.mean.T - variance
    return {
        f"{name}_{k}": v for name, row in scores.items() for k, v in recall(row, relevant).items()
    }


def _late(seen: Views, said: Views, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Late interaction [texts, pictures] in both directions, texts of a length together."""
    shape = (len(said), len(seen))
    i2t, t2i = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    order = np.argsort(said.counts, kind="stable")
    image, mask = tokens_of(seen)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        part = late_interaction(image, mask, *tokens_of(said.take(rows)))
        i2t[rows], t2i[rows] = (score.T.cpu().numpy() for score in part)
    return i2t, t2i


def tokens_of(views: Views) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [N, P, d] and their mask, cut to the longest."""
    width = int(views.counts.max(initial=0))
    mask = np.arange(width) < views.counts[:, None]
    return torch.from_numpy(views.tokens[:, :width]), torch.from_numpy(mask)
