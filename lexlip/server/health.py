"""Health of a server: its workers, its index and engine, and the disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lexlip.server.service import Service

LEAST_FREE = 16 * 2**20
"""Bytes of the disk below which nothing more is added: a commit of one picture may not fit."""


AWAY = "the engine is away: the log says why"


class Health(NamedTuple):
    """What does not work.

    Attributes
    ----------
    failing : tuple of str
        Why searches fail, or will fail after a restart.
    impaired : tuple of str
        Why other things fail.
    """

    failing: tuple[str, ...] = ()
    impaired: tuple[str, ...] = ()


def examine(service: Service) -> Health:
    """Look at what is known of workers, index, engine and disk; this reads names of files."""
    failing, impaired = [], []
    if service.workers.blocked:
        failing.append("all workers are busy with requests that were answered with 504")
    if problem := service.served.problem():
        failing.append(problem)
    if service.served.watch.away:
        failing.append(AWAY)
    follower = service.served.follower
    if follower is not None and follower.watch.away:
        impaired.append("the shared storage cannot be copied: the log says why")
    try:
        free = shutil.disk_usage(service.served.path).free
    except OSError:  # gone: said above
        free = LEAST_FREE
    if free < LEAST_FREE and not service.settings.read_only:
        impaired.append("the disk is full: nothing can be added")
    return Health(tuple(failing), tuple(impaired))
