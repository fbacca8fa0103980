"""Trackers that users already have, through accelerate; the log beside the run is always there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator, tracking
from accelerate.utils import LoggerType

from lexlip.errors import LexLIPError
from pretrain.settings import Settings


def accelerator_for(settings: Settings, out: str) -> Accelerator:
    """Accelerator of a stage, with its tracker started where the settings name one.

    TensorBoard finds the runs below ``<run>/tracker``; Weights & Biases and others are set up by
    their own environment variables.

    Raises
    ------
    LexLIPError
        When accelerate has no such tracker, or its package is not installed.
    """
    name, place = settings.tracker, Path(out)
    if not name:
        return Accelerator(mixed_precision=settings.precision)
    known = sorted(str(kind) for kind in tracking.LOGGER_TYPE_TO_CLASS)
    if name not in known:
        raise LexLIPError(f"no tracker {name!r}: set tracker to one of {', '.join(known)}")
    missing = {str(k) for k in LoggerType} - {str(k) for k in tracking.get_available_trackers()}
    if name in missing:
        raise LexLIPError(
            f"tracker = {name!r} needs its package: pip install {name.replace('_', '-')}"
        )
    accelerator = Accelerator(
        mixed_precision=settings.precision, log_with=name, project_dir=place.parent / "tracker"
    )
    accelerator.init_trackers(f"{settings.name}-{place.name}", config=_flat(asdict(settings)))
    return accelerator


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names with plain values, as trackers want them.

    Examples
    --------
    >>> _flat({"seed": 0, "stage1": {"lr": 1e-4, "weights": {}}, "texts": ("a", "b")})
    {'seed': 0, 'stage1.lr': 0.0001, 'texts': "('a', 'b')"}
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            flat[f"{prefix}{key}"] = value if plain else str(value)
    return flat


def track(accelerator: Accelerator, row: Mapping[str, Any]) -> None:
    """Pass the numbers of a row of the log on to the tracker, if there is one."""
    numbers = {k: v for k, v in row.items() if k != "step" and isinstance(v, int | float)}
    accelerator.log(numbers, step=row["step"])


def finish(accelerator: Accelerator) -> None:
    """Let the tracker write what it still holds."""
    for tracker in accelerator.trackers:
        tracker.finish()
