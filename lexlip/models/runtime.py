"""The runtime of networks: threads, and messages while they load. Importing this loads no torch."""

from __future__ import annotations

import os
import sys
from typing import Any

from lexlip.data.in_order import cores, limit_threads
from lexlip.errors import LexLIPError

_count: int | None = None
_device: str | None = None


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


def use_device(name: str | None) -> None:
    """Let networks that are opened from now on run on a device.

    Parameters
    ----------
    name : str, optional
        "auto" (a GPU where the installed torch or onnxruntime has one), "cpu", "cuda", "cuda:1",
        "mps" and the like; None leaves it as it was.
    """
    global _device
    _device = name or _device


def device_name() -> str:
    """Return the device that was set, or that of LEXLIP_DEVICE; "auto" by default."""
    return _device or os.environ.get("LEXLIP_DEVICE") or "auto"


def on_device(network: Any) -> Any:
    """Return a torch network on the device of `device_name`.

    Raises
    ------
    LexLIPError
        When the device is unknown or not there.
    """
    import torch

    name = device_name()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return network.to(name)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = " ".join(str(error).split())[:100]
        raise LexLIPError(
            f"no device {name!r} in this torch ({reason}): give --device cpu, or install the torch "
            "of your device"
        ) from None


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
