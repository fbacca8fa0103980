"""The model card of a dual encoder in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lexlip.models.card import SPARSE_TAGS, on_hub, uses

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

USE = """from lexlip import Index
from lexlip.models import load

model = load("{name}")
index = Index.create("photos.lex", model, "photos/")
hits = index.search("a dog on a beach", k=5)"""


def lexical_card(facts: Mapping[str, Any], name: str = "PATH_OR_NAME") -> ModelCard:
    """Write the card of a dual encoder in words.

    Parameters
    ----------
    facts : mapping
        As `lexlip.models.lexical.speaker.LexicalSpeaker.facts`.
    name : str
        What a user passes to `lexlip.models.load`.
    """
    from huggingface_hub import ModelCard, ModelCardData

    base = facts.get("encoder_name") or ""
    data = ModelCardData(
        library_name="sentence-transformers",
        tags=list(SPARSE_TAGS),
        pipeline_tag="feature-extraction",
        base_model=base if on_hub(base) else None,
        base_model_relation="adapter" if on_hub(base) else None,
        language=list(facts.get("languages", ())) or None,
    )
    rows = {
        "encoder": f"{facts.get('family', 'a dual encoder')}, {facts['width']} numbers per vector",
        "made of": facts.get("encoder_name") or "not known",
        "lexicon": f"{facts['size']:,} words, embedded as `{facts.get('prompt', '{}')}`",
        "sample": f"{facts.get('pictures', 0):,} pictures, {facts.get('texts', 0):,} texts",
        "words": "learned by distillation"
        if facts.get("trained")
        else "by sparse coding, untrained",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return ModelCard(
        f"---\n{data.to_yaml()}\n---\n\n# A dual encoder in words\n\n"
        "This model turns pictures into weighted words for an inverted index, and texts into their "
        f"projections on these words. Its own vectors order what the words found.\n\n"
        f"| | |\n|---|---|\n{table}\n\n{uses(name, USE, query='a dog on a beach')}\n"
        "\n## Licence\n\nlexlip's code is under Apache-2.0. The encoder's licence applies to its "
        "weights.\n"
    )
