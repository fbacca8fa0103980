"""lexlip's models in sentence-transformers and in mteb.

Needs the extra ``st``, and for mteb ``pip install mteb``. Importing this loads neither.

>>> from lexlip.sentence_transformers import sparse_encoder                 # doctest: +SKIP
>>> encoder = sparse_encoder("runs/demo/stage2")                            # doctest: +SKIP
>>> encoder.decode(encoder.encode_query("a large heart"), top_k=2)            # doctest: +SKIP
[('red', 0.69), ('heart', 0.66)]
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexlip.errors import LexLIPError, require

if TYPE_CHECKING:
    from mteb.models import SparseEncoderWrapper
    from sentence_transformers import SparseEncoder

    from lexlip.models.sentence_module import LexLIPModule
    from lexlip.models.speaker import Speaker

__all__ = ["LexLIPModule", "mteb_model", "sparse_encoder"]

OVERLAPS = {"flickr8k": {"Flickr30kI2TRetrieval", "Flickr30kT2IRetrieval"}, "scenes": set[str]()}
"""Tasks of mteb whose pictures are among those of a data set: Flickr30k contains Flickr8k."""


def __getattr__(name: str) -> Any:
    """Import the module's class on first use, as ``modules.json`` of a checkpoint names it."""
    if name == "LexLIPModule":
        require("sentence_transformers")
        from lexlip.models.sentence_module import LexLIPModule

        return LexLIPModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def sparse_encoder(
    model: str | os.PathLike[str] | Speaker, device: str | None = None, **settings: Any
) -> SparseEncoder:
    """Open a model with words as a SparseEncoder.

    ``SparseEncoder(path, trust_remote_code=True)`` gives the same; here nothing has to be allowed,
    and checkpoints of older versions open as well. Vectors have length one (a product is lexlip's
    cosine), except those of a dual encoder in words.

    Parameters
    ----------
    model : str, path or Speaker
        A checkpoint's folder, a name on the hub, or a model that is open.
    device : str, optional
        Such as ``cuda``; by default that of LEXLIP_DEVICE, or what sentence-transformers chooses.
    **settings
        ``max_terms``, ``query_terms``, ``normalise``, ``signed`` and ``table``: see
        `lexlip.models.sentence_module.LexLIPModule`.

    Raises
    ------
    LexLIPError
        When sentence-transformers is missing, or the checkpoint is missing, corrupted or has no
        words.

    Examples
    --------
    >>> encoder = sparse_encoder("runs/demo/stage2", max_terms=64)          # doctest: +SKIP
    >>> queries = encoder.encode_query(["a large heart"])                     # doctest: +SKIP
    >>> pictures = encoder.encode_document(["photo.jpg"])                   # doctest: +SKIP
    >>> encoder.similarity(queries, pictures)                               # doctest: +SKIP
    tensor([[0.41]])
    """
    require("sentence_transformers")
    from sentence_transformers import SparseEncoder

    from lexlip.models.dual.files import is_sparse_encoder
    from lexlip.models.dual.sentence_models import load_sentence_transformers
    from lexlip.models.hub import check_there
    from lexlip.models.runtime import device_name
    from lexlip.models.sentence_files import DEFAULTS, SETTINGS
    from lexlip.models.sentence_module import LexLIPModule

    if unknown := sorted(settings.keys() - DEFAULTS.keys()):
        raise LexLIPError(f"no setting {unknown[0]!r}: there are {', '.join(DEFAULTS)}")
    prompts: dict[str, Any] = {}
    if isinstance(model, str | os.PathLike):
        check_there(model)
        if is_sparse_encoder(model):
            return load_sentence_transformers(model, "SparseEncoder")
        module = LexLIPModule.load(os.fspath(model), settings=settings)
        file = Path(module.model.name_or_path) / SETTINGS
        if file.is_file():
            from lexlip.storage.files import read_json

            prompts = read_json(file)
            if not isinstance(prompts, dict) or not isinstance(prompts.get("prompts", {}), dict):
                raise LexLIPError(f"{file} is corrupted: put back a copy, or delete it")
    elif hasattr(model, "encoder") and isinstance(model.encoder, SparseEncoder):
        return model.encoder
    else:
        module = LexLIPModule(model, **settings)
    chosen = device or (None if device_name() == "auto" else device_name())
    return SparseEncoder(
        modules=[module],
        device=chosen,
        similarity_fn_name=module.similarity_fn_name,
        prompts=prompts.get("prompts"),
        default_prompt_name=prompts.get("default_prompt_name"),
    )


def mteb_model(
    model: str | os.PathLike[str] | Speaker, device: str | None = None, **settings: Any
) -> SparseEncoderWrapper:
    """Open a model with words for `mteb.evaluate`.

    mteb takes a SparseEncoder for one of texts alone and refuses tasks with pictures. This one says
    that it reads both, its name, its revision (the fingerprint) and the tasks that it was trained
    on, where that is known.

    Parameters
    ----------
    model, device, **settings
        As for `sparse_encoder`.

    Raises
    ------
    LexLIPError
        As `sparse_encoder`, and when mteb is missing.

    Examples
    --------
    >>> import mteb                                                         # doctest: +SKIP
    >>> tasks = mteb.get_tasks(tasks=["Flickr30kT2IRetrieval"])             # doctest: +SKIP
    >>> mteb.evaluate(mteb_model("runs/demo/stage2"), tasks)                # doctest: +SKIP
    """
    encoder = sparse_encoder(model, device, **settings)
    try:
        from mteb.models import SparseEncoderWrapper
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mteb":
            raise
        raise LexLIPError("mteb is missing: pip install mteb") from None

    wrapper = SparseEncoderWrapper(encoder)
    speaker = getattr(encoder[0], "model", None)
    given = model if isinstance(model, str | os.PathLike) else getattr(model, "name_or_path", "")
    name = os.fspath(given or "model")
    owner = "local" if type(encoder[0]).__module__ != __name__ else "lexlip"
    facts: dict[str, Any] = {
        "name": name if _on_hub(name) else f"{owner}/{Path(name).name}",
        "modalities": [kind for kind in encoder.modalities if kind in ("text", "image")],
        "n_parameters": sum(part.numel() for part in encoder.parameters()) or None,
    }
    if fingerprint := getattr(speaker, "fingerprint", None):
        facts["revision"] = fingerprint[:40]
    source = getattr(speaker, "record", {}).get("settings", {}).get("data", {}).get("source")
    if source in OVERLAPS:
        facts["training_datasets"] = OVERLAPS[source]
    wrapper.mteb_model_meta = wrapper.mteb_model_meta.model_copy(update=facts)
    return wrapper


def _on_hub(name: str) -> bool:
    from lexlip.models.card import on_hub

    return on_hub(name)
