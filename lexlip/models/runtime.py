"""The runtime of networks: threads, and messages while they load. Importing this loads no torch."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def threads() -> int:
    """Return the number of threads that torch uses."""
    import torch

    return torch.get_num_threads()


def set_threads(count: int) -> None:
    """Let torch, if it is there, and the decoding of pictures use `count` threads."""
    from lexlip.data.in_order import limit_threads

    limit_threads(count)
    with suppress(ModuleNotFoundError):
        import torch

        torch.set_num_threads(count)


def share_cores() -> None:
    """Let torch's threads sleep while they wait for each other, so that others can decode pictures.

    OpenMP's threads spin by default, and take the cores that the decoding needs: on two cores a
    build of pictures of 12 megapixels was twice as fast without. A value of OMP_WAIT_POLICY that
    is set already is kept; torch reads it when it is first imported, and not later.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def quiet() -> None:
    """Silence transformers while it loads; one that is not there yet reads the environment."""
    os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
    if "huggingface_hub" in sys.modules:
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
