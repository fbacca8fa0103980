"""Why a picture was found: its words, where they are, and what the query's text stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from lexlip.explain.alignment import align
from lexlip.explain.provenance import provenance, text_provenance
from lexlip.models.lexlip import LexLIP
from lexlip.query.contributions import contributions
from lexlip.query.query import Query
from lexlip.server.failures import no_such_image
from lexlip.server.live import Live
from lexlip.server.picture_files import Pictures

_TERMS = 16
"""Most words shown of what one word of a text stands for."""


def explain(live: Live, pictures: Pictures, query: Query, id: str) -> dict[str, Any]:
    """Explain a hit.

    Returns
    -------
    dict
        As `lexlip.server.schemas.Explained`. Without the picture's file there are no patches, and
        without a head that keeps patches there is no alignment.
    """
    with live.speaking:
        asked = query.resolved(live.model).ask(live.model)
    tokens = live.model.lexicon.tokens
    with live.reading() as index:
        crops = index.manifest.get("crops", 0)
        if index.engine.fetch([id])[0] is None:
            raise no_such_image()
        found = contributions(index.engine, id, asked.terms, tokens, asked.penalty)
    texts = [
        part.content for part in query.parts if isinstance(part.content, str) and part.weight > 0
    ]
    shared = {term for term, weight in asked.terms.items() if weight > 0}
    shared &= {term for term in asked.terms if tokens[term] in {c.word for c in found}}
    answer: dict[str, Any] = {
        "score": sum(c.score for c in found),
        "words": [{**c._asdict(), "score": c.score} for c in found],
        "patches": None,
        "alignment": None,
        "text": None,
    }
    try:
        picture = read_image(pictures.found(id), "the picture")
    except LexLIPError:  # moved, or spoilt, after it was indexed
        picture = None
    if not live.model.localises:
        return answer
    with live.speaking:
        if texts:
            answer["text"] = [token for text in texts for token in _tokens(live.model, text)]
        if picture is not None:
            seen = provenance(live.model, picture, sorted(shared), crops)
            answer["patches"] = {
                "grid": list(seen.grid),
                "size": list(picture.size),
                "box": list(seen.box),
                "words": {tokens[term]: _shares(heat) for term, heat in seen.heat.items()},
            }
            if texts and live.model.config.token_size and not live.model.config.token_count:
                best = align(live.model, picture, " ".join(texts))
                answer["alignment"] = {
                    "words": list(best.words),
                    "grid": list(best.patches.shape),
                    "patches": best.patches.flatten().tolist(),
                    "cosines": _rounded(best.cosines),
                }
    return answer


def _shares(heat: NDArray[np.float32]) -> list[float]:
    """Return what each patch says of a word, as a share of what the loudest one says."""
    return _rounded(heat / max(float(heat.max()), 1e-9))


def _rounded(numbers: NDArray[np.float32]) -> list[float]:
    return numbers.astype(np.float64).round(4).flatten().tolist()


def _tokens(model: LexLIP, text: str) -> list[dict[str, Any]]:
    named = model.lexicon.tokens
    return [
        {
            "word": word,
            "terms": {named[term]: round(weight, 4) for term, weight in [*terms.items()][:_TERMS]},
        }
        for word, terms in text_provenance(model, text).by_word()
    ]
