"""Graphs in ONNX, run by onnxruntime: numpy in, numpy out, no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.models import runtime
from lexlip.storage.one_off import is_once

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "rocm": "ROCMExecutionProvider",
}
"""Device to what onnxruntime calls it; ``cuda:1`` is the second GPU."""

_ERRORS_ONLY = 3
"""Severity of log lines: what goes wrong is raised as well, so warnings are noise."""


def open_session(
    path: str | os.PathLike[str], threads: int | None = None, device: str | None = None
) -> Any:
    """Open a graph.

    Parameters
    ----------
    path : str or path
        An ``.onnx`` file; data that it names lies beside it.
    threads : int, optional
        Threads of one operation; by default `lexlip.models.runtime.threads`. They sleep while they
        have nothing to do, so that pictures can be decoded beside them.
    device : str, optional
        One of `PROVIDERS`, with a number behind a colon where there are several, or "auto"; by
        default `lexlip.models.runtime.device_name`.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    LexLIPError
        When the file is missing or corrupted, or the device is unknown or not there.

    Examples
    --------
    >>> session = open_session("clip/onnx/text_model.onnx")             # doctest: +SKIP
    >>> session.run(None, {"input_ids": ids})[0].shape                  # doctest: +SKIP
    (1, 512)
    """
    if not Path(path).is_file():
        raise LexLIPError(f"no graph at {path}: give a complete folder")
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or runtime.threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if is_once():  # preparing a graph for speed takes longer than one run of it
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
        options.add_session_config_entry("session.disable_prepacking", "1")
    providers = _providers(onnxruntime, runtime.device_name() if device is None else device)
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no class in common but this one
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(f"{path} is corrupted, or of no use here: get it again ({reason})") from (
            error
        )


def load_onnxruntime() -> Any:
    """Import onnxruntime without what it says about missing GPUs.

    Raises
    ------
    LexLIPError
        When it is not installed.
    """
    if loaded := sys.modules.get("onnxruntime"):
        return loaded
    try:
        with _no_stderr():
            import onnxruntime
    except ImportError as error:
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(
            f"onnxruntime cannot be imported: pip install onnxruntime ({reason})"
        ) from error
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    return onnxruntime


def _providers(onnxruntime: Any, device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    there = onnxruntime.get_available_providers()
    known = [name for name, provider in PROVIDERS.items() if provider in there]
    if kind == "auto":
        kind = "cuda" if "cuda" in known else "cpu"
    if kind not in known or (number and not number.isdecimal()):
        raise LexLIPError(
            f"no device {device!r} in this onnxruntime, which has {', '.join(known)}: give one of "
            "these, or install the onnxruntime of your device"
        )
    cpu = PROVIDERS["cpu"]
    if kind == "cpu":
        return [cpu]
    options = {"device_id": number} if number else {}
    return [(PROVIDERS[kind], options), cpu]


@contextmanager
def _no_stderr() -> Generator[None, None, None]:
    """Close the process's standard error for a moment: libraries write to it past Python."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (AttributeError, OSError, ValueError):  # there is none
        yield
        return
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def road() -> str:
    """Return the way that pictures and texts are encoded on this machine, and why, as one line.

    The order was measured with ViT-B/32 on two cores without instructions for products of 8 bits:
    graphs in 8 bits take three quarters of the time of 32 bits, and onnxruntime half of that of
    torch, whose channels-last layout and bfloat16 only lose there
    (``python -m eval.studies.encoding``).
    """
    try:
        onnxruntime = load_onnxruntime()
    except LexLIPError:
        return "torch: onnxruntime, which is faster, is missing (pip install onnxruntime)"
    there = onnxruntime.get_available_providers()
    devices = [name for name, provider in PROVIDERS.items() if provider in there]
    count = runtime.threads()
    return (
        f"onnxruntime {onnxruntime.__version__} on {', '.join(devices)} with {count} "
        f"thread{'' if count == 1 else 's'}: graphs in 8 bits where a model has them, else in 32; "
        "torch for models without graphs"
    )
