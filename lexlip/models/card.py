"""The model card: what a checkpoint says about itself, and only what it knows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lexlip.storage.files import MANIFEST, read_json

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

CARD = "README.md"
LICENCES = {
    "scenes": "Scenes are drawn by lexlip itself; no licence of others binds them.",
    "flickr8k": "Flickr8k's pictures and captions may be used for non-commercial research only.",
}
SPARSE_TAGS = (
    "sentence-transformers", "sparse-encoder", "sparse", "lexlip", "image-text-retrieval",
    "image-search",
)  # fmt: skip
"""Tags by which the hub's filters find a sparse encoder of pictures."""

SENTENCE_USE = """from PIL import Image
from sentence_transformers import SparseEncoder

# pip install 'lexlip[st]': the flag lets the library import lexlip; this repository holds no code.
model = SparseEncoder("{name}", trust_remote_code=True)
queries = model.encode_query(["{query}"])
pictures = model.encode_document([Image.open("photo.jpg")])
print(model.similarity(queries, pictures), model.decode(pictures, top_k=5))"""

USES = {
    "LexLIP": """from lexlip import Index, LexLIP

model = LexLIP.from_pretrained("{name}")
print(model.words_of("a large heart", top_k=5))
index = Index.create("photos.lex", model, "photos/")
hits = index.search("a large heart", k=5)""",
    "DenseDualEncoder": """from lexlip.models.dense_control import DenseDualEncoder

model = DenseDualEncoder.from_pretrained("{name}")
query = model.encode_query(["a large heart"])  # unit rows
scores = query @ model.encode_document(["photo.jpg"]).T""",
}
WHAT = {
    "LexLIP": "turns texts and pictures into weighted vocabulary words for an inverted index "
    "([LexLIP](https://arxiv.org/abs/2302.02908), Luo et al., ICCV 2023)",
    "DenseDualEncoder": "turns texts and pictures into unit vectors (CLIP's recipe): the dense "
    "control of a LexLIP on the same towers",
}


def read_record(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Record of training in a checkpoint: settings, steps, metrics; empty where there is none."""
    file = Path(folder) / MANIFEST
    return read_json(file) if file.is_file() else {}


def model_card(model: Any, name: str = "PATH_OR_NAME") -> ModelCard:
    """Write the card of a model from its configuration and what is known of its training.

    Parameters
    ----------
    model : LexLIP or DenseDualEncoder
        ``model.record`` holds what training noted; without it the card says that it is not known.
    name : str
        What a user passes to ``from_pretrained``.

    Returns
    -------
    huggingface_hub.ModelCard
    """
    kind, record = type(model).__name__, model.record
    chosen = record.get("settings", {})
    towers = _towers(chosen.get("model", {}))
    sparse = kind == "LexLIP"
    source, bases = chosen.get("data", {}).get("source", ""), list(filter(on_hub, towers.values()))
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        library_name="sentence-transformers" if sparse else "lexlip",
        tags=list(SPARSE_TAGS) if sparse else ["lexlip", "image-retrieval", "dense"],
        pipeline_tag="feature-extraction",
        base_model=bases or None,
        base_model_relation="finetune" if bases else None,
        datasets=[source] if on_hub(source) else None,
    )
    title = f"{kind}, {chosen['name']}" if "name" in chosen else kind
    parts = [f"# {title}", f"This model {WHAT.get(kind, 'is a model of lexlip')}."]
    parts += [_shape(model, towers), _training(record), _metrics(record)]
    if kind in USES:
        parts.append(uses(name, USES[kind], sparse))
    parts.append(_licence(chosen, towers))
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n")


def uses(name: str, ours: str, sparse: bool = True, query: str = "a large heart") -> str:
    """Return the section of a card that shows how a model is used.

    Parameters
    ----------
    name : str
        What a user passes to ``from_pretrained``.
    ours : str
        Code for lexlip, with ``{name}`` in it.
    sparse : bool
        Whether sentence-transformers opens it too.
    query : str
        An example.
    """
    snippets = {"lexlip": ours.format(name=name)}
    if sparse:
        snippets = {"sentence-transformers": SENTENCE_USE.format(name=name, query=query)} | snippets
    blocks = [f"With {library}:\n\n```python\n{code}\n```" for library, code in snippets.items()]
    return "\n\n".join(["## Use", *blocks])


def push(
    model: Any,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
    **saving: Any,
) -> Any:
    """Upload a model as `save_pretrained` writes it; see its `push_to_hub`."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not create_pr:
        api.create_branch(repo, branch=revision, exist_ok=True)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, **saving)
        card = model.card(repo) if hasattr(model, "card") else model_card(model, repo)
        card.save(Path(folder) / CARD)
        return api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message or f"Upload {type(model).__name__}",
            commit_description=commit_description,
        )


def _plain(name: str) -> str:
    """A name or a folder without this machine's part of its path."""
    local = name.startswith(("$", "~", ".", "/")) or Path(name).is_absolute()
    return Path(name).name if local else name.removeprefix("package:")


def _towers(shape: Mapping[str, Any]) -> dict[str, str]:
    """Names or folders of the towers that training began with; empty for random weights."""
    towers = {side: shape.get(side, "") for side in ("vision", "text")}
    return {k: t if isinstance(t, str) else str(t.get("name", "")) for k, t in towers.items()}


def on_hub(name: str) -> bool:
    """Return whether a name is one of the hub, ``owner/name``, and no folder of this machine."""
    owner, slash, rest = name.partition("/")
    local = name.startswith(("$", "~", ".", "/", "package:")) or Path(name).exists()
    return bool(owner and slash and rest) and "/" not in rest and not local


def _shape(model: Any, towers: Mapping[str, str]) -> str:
    config, known = model.config, bool(model.record)
    rows = []
    for side in ("vision", "text"):
        if not hasattr(config, f"{side}_config"):
            continue
        family = getattr(config, f"{side}_config").model_type
        start = _plain(towers[side]) or ("random weights" if known else "not known")
        rows.append(f"| {side} tower | {family}; began as: {start} |")
    if size := getattr(getattr(config, "vision_config", None), "image_size", None):
        rows.append(f"| pictures | {size} px, squeezed to a square |")
    if hasattr(config, "max_text_length"):
        rows.append(f"| texts | at most {config.max_text_length} tokens |")
    if type(model).__name__ == "LexLIP":
        rows.append(f"| lexicon | {config.lexicon_size:,} words may carry a weight |")
    elif type(model).__name__ == "DenseDualEncoder":
        rows.append(f"| vectors | {config.dense_size} numbers |")
    rows.append(f"| parameters | {sum(p.numel() for p in model.parameters()):,} |")
    return "| | |\n|---|---|\n" + "\n".join(rows)


def _training(record: Mapping[str, Any]) -> str:
    if "settings" not in record:
        return "## Training\n\nNothing is known of its training here."
    settings = record["settings"]
    data = settings["data"]
    source = _plain(data["source"])
    lines = [f"Pictures and captions: {source}, split `{data['train']}`."]
    if data.get("texts"):
        names = ", ".join(Path(text).name for text in data["texts"])
        lines.append(f"Captions without pictures: {names}.")
    lines.append(
        f"The last stage took {record['step']:,} of {record['steps']:,} steps and "
        f"{record['seconds']:.0f} s; seed {settings['seed']}, precision `{settings['precision']}`."
    )
    return "## Training\n\n" + "\n".join(f"- {line}" for line in lines)


def _metrics(record: Mapping[str, Any]) -> str:
    metrics = record.get("dev", {})
    if not metrics:
        return ""
    split = record["settings"]["data"]["dev"]
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in metrics.items())
    return f"## Measured on split `{split}` after training\n\n| | |\n|---|---|\n{rows}"


def _licence(settings: Mapping[str, Any], towers: Mapping[str, str]) -> str:
    lines = [
        "lexlip's code is under Apache-2.0. That says nothing of these weights: what they "
        "began as and what they were trained on may bind whoever publishes or uses them."
    ]
    for side, name in towers.items():
        if name:
            lines.append(f"The {side} tower began as {_plain(name)}, whose licence applies.")
    source = settings.get("data", {}).get("source")
    if source:
        unknown = f"The licence of {_plain(source)} is not known to lexlip."
        lines.append(LICENCES.get(source, unknown))
    return "## Licence\n\n" + "\n".join(f"- {line}" for line in lines)
