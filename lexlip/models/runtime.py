"""The runtime of networks: threads, and messages while they load. Importing this loads no torch."""

from __future__ import annotations

import os
import sys

from lexlip.data.in_order import cores, limit_threads

_count: int | None = None


def threads() -> int:
    """Return the number of threads that one operation of a network uses.

    That of `set_threads`, else of torch where it is loaded, else of OMP_NUM_THREADS, else one per
    core.
    """
    if _count is not None:
        return _count
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) else cores()


def set_threads(count: int) -> None:
    """Let networks, and the decoding of pictures, use `count` threads in this process.

    Sessions of onnxruntime that are open already keep theirs.
    """
    global _count
    limit_threads(count)
    _count = count
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    else:
        os.environ["OMP_NUM_THREADS"] = str(count)  # torch reads it when it is imported


def share_cores() -> None:
    """Let torch's threads sleep while they wait for each other, so that others can decode pictures.

    OpenMP's threads spin by default, and take the cores that the decoding needs: on two cores a
    build of pictures of 12 megapixels was twice as fast without. A value of OMP_WAIT_POLICY that
    is set already is kept; torch reads it when it is first imported, and not later.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def quiet() -> None:
    """Silence transformers while it loads; one that is not there yet reads the environment."""
    if not {"transformers", "huggingface_hub"} & sys.modules.keys():
        os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
        return
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
