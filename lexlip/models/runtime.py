"""The runtime of networks: threads, and messages while they load. Importing this loads no torch."""

from __future__ import annotations

import os
import sys


def threads() -> int:
    """Return the number of threads that torch uses."""
    import torch

    return torch.get_num_threads()


def set_threads(count: int) -> None:
    """Let torch, and the decoding of pictures, use `count` threads in this process."""
    import torch

    from lexlip.data.in_order import limit_threads

    limit_threads(count)
    torch.set_num_threads(count)


def quiet() -> None:
    """Silence transformers while it loads; one that is not there yet reads the environment."""
    if not {"transformers", "huggingface_hub"} & sys.modules.keys():
        os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
        return
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
