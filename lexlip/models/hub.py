"""The hub: whether it can be reached, and where its cache holds a model."""

from __future__ import annotations

import os
import socket
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from lexlip.errors import LexLIPError

_SECONDS = 1.5
"""Time in which it must answer."""


def snapshot(name: str, revision: str) -> Path:
    """Return where the hub's cache holds the files of one commit; huggingface_hub is not loaded.

    It follows HF_HUB_CACHE and HF_HOME, as huggingface_hub does.
    """
    if constants := sys.modules.get("huggingface_hub.constants"):
        return Path(
            constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "snapshots", revision
        )
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    hub = hub or os.path.join(home, "hub")
    folder = (
        Path(os.path.expandvars(os.path.expanduser(hub))) / f"models--{name.replace('/', '--')}"
    )
    return folder / "snapshots" / revision


@cache
def reaches(endpoint: str) -> bool:
    """Say whether something answers at an address, or at the proxy that leads there."""
    parts = urlsplit(endpoint)
    proxies = [os.environ.get(f"{parts.scheme}_proxy"), os.environ.get("all_proxy")]
    proxies += [os.environ.get(f"{parts.scheme}_proxy".upper()), os.environ.get("ALL_PROXY")]
    proxy = next((it for it in proxies if it), None)
    parts = urlsplit(proxy) if proxy else parts
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), _SECONDS).close()
    except OSError:
        return False
    return True


def stay_offline_if_unreachable() -> None:
    """Let huggingface_hub ask nobody where the hub cannot be reached.

    It would try again for half a minute per file. What is in its cache is found as before.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or reaches(constants.ENDPOINT):
        return
    constants.HF_HUB_OFFLINE = True
    os.environ["HF_HUB_OFFLINE"] = "1"  # for what is imported later
    if hub := sys.modules.get("transformers.utils.hub"):
        vars(hub)["_is_offline_mode"] = True


def check_there(name: str | os.PathLike[str]) -> None:
    """Fail now where a checkpoint is neither a folder nor in the hub's cache, nor to be had.

    Raises
    ------
    LexLIPError
        For a path without a folder, and a name while the hub cannot be asked.
    """
    if os.path.isdir(name):
        return
    text = os.fspath(name)
    if os.path.isabs(text) or text.startswith(".") or text.count("/") > 1:
        raise LexLIPError(f"no checkpoint at {text}: give a folder, or a name on the hub")
    stay_offline_if_unreachable()
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and not snapshot(text, "").parent.is_dir():
        host = urlsplit(constants.ENDPOINT).hostname
        raise LexLIPError(
            f"no checkpoint at {text}: it is not in the hub's cache, and {host} cannot be asked: "
            "connect once, set HF_ENDPOINT to a mirror, or give a folder"
        )
