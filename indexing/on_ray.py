"""Encoding on Ray: a fixed pool of actors, each with a model; parts are handed out one by one.

Plain actors, not Ray Data: a part is then a call whose one result is taken or not, so parts come
exactly once, one that is late is cut off, and a pool that never starts is a line and no silence.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexing.delivery import accept, attempts, deliver
from indexing.settings import Settings
from lexlip.build.encode import encode_pictures
from lexlip.build.encoded_parts import Encoded
from lexlip.data.collection import Collection, Place
from lexlip.errors import LexLIPError, require
from lexlip.models import load, runtime
from lexlip.models.speaker import Speaker
from lexlip.storage.remote import Unreachable

_LOCAL = "127.0.0.2"
"""Where a cluster of this machine alone listens: Ray takes 127.0.0.1 for the machine's address."""


@dataclass(frozen=True)
class Work:
    """A part to encode, with all that it depends on besides the plan."""

    number: int
    ids: list[str]
    pictures: list[Any]
    columns: dict[str, list[Any]]
    source: str
    place: Place | None

    @classmethod
    def of(cls, source: Collection, encoded: Encoded, number: int) -> Work:
        """Return the work of a part; bytes of local tables travel with it."""
        rows = encoded.rows(number)
        pictures = [source.picture(row) for row in rows]
        return cls(
            number,
            [source.ids[row] for row in rows],
            [it.absolute() if isinstance(it, Path) else it for it in pictures],
            {name: [values[row] for row in rows] for name, values in source.columns.items()},
            source.source,
            source.place,
        )

    def pictures_of(self) -> Collection:
        """Return the pictures."""
        none: list[list[str]] = [[] for _ in self.ids]
        return Collection(
            self.ids, none, self.pictures, source=self.source, columns=self.columns,
            place=self.place,
        )  # fmt: skip


class Encoder:
    """The actor: a model, loaded where the actor lives.

    Parameters
    ----------
    settings : Settings
    encoded : Encoded
        The plan.
    through : str
        Where attempts at parts are written.
    threads : int
    """

    def __init__(self, settings: Settings, encoded: Encoded, through: str, threads: int) -> None:
        self._settings, self._encoded, self._through = settings, encoded, through
        self._threads = threads
        self._model: Speaker | None = None

    def ready(self) -> int:
        """Load the model and return the process's id.

        Raises
        ------
        LexLIPError
            When this machine does not see the checkpoint, or has another one there.
        """
        runtime.set_threads(self._threads)
        runtime.use_device(self._settings.device)
        model = load(self._settings.model)
        known = (model.fingerprint, *getattr(model, "older_fingerprints", ()))
        if self._encoded.manifest["model"] not in known:
            raise LexLIPError(
                f"{socket.gethostname()} has another model in {self._settings.model}: give a "
                "folder that all machines see"
            )
        self._model = model
        return os.getpid()

    def encode(self, work: Work) -> str:
        """Encode a part and return the name of the attempt."""
        assert self._model is not None, "ready comes first"
        rows = range(len(work.ids))
        recipe = self._encoded.recipe
        chunk = encode_pictures(self._model, work.pictures_of(), rows, recipe=recipe)
        return deliver(self._encoded, work.number, chunk, self._through)


def connect(settings: Settings) -> Any:
    """Join the cluster at `address`, or start one of this machine alone, and return ``ray``.

    Raises
    ------
    LexLIPError
        When there is no cluster, or it does not let this process in.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not settings.address:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
    require("ray")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if settings.address:
        _check_there(settings.address)
        options["address"] = settings.address
        host = settings.address.rpartition(":")[0]
        if host.startswith("127."):
            options["_node_ip_address"] = host
    else:
        options |= {"num_cpus": max(1, math.ceil(settings.workers * settings.cpus))}
        options |= {"include_dashboard": False, "_node_ip_address": _LOCAL}
    try:
        ray.init(**options)
    except Exception as error:  # of many kinds, and of several lines
        why = " ".join(str(error).split())[:200]
        raise LexLIPError(
            f"no way into the Ray cluster {settings.address} ({why}): set the RAY_AUTH_TOKEN of "
            "the cluster, and look at ray status"
        ) from None
    return ray


def _check_there(address: str) -> None:
    """Ask for the door of a cluster: Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdecimal():
        raise LexLIPError(f"{address!r} is no address of a Ray cluster: give HOST:PORT, or auto")
    try:
        socket.create_connection((host, int(port)), 10).close()
    except OSError as error:
        raise LexLIPError(
            f"no Ray cluster at {address} ({error.strerror or error}): start one with ray start "
            "--head"
        ) from None


def encode_on_ray(
    settings: Settings,
    source: Collection,
    encoded: Encoded,
    todo: list[int],
    done: Callable[[int], None],
) -> None:
    """Encode parts on a cluster.

    Parameters
    ----------
    settings : Settings
    source : Collection
    encoded : Encoded
        The plan, locked by this process.
    todo : list of int
        Numbers of parts.
    done : callable
        Told each number when its part is there.

    Raises
    ------
    LexLIPError
        When no worker starts, a part fails too often, or the time is over. Finished parts stay.
    """
    ray = connect(settings)
    try:
        with attempts(encoded, settings.through) as through:
            pool = Pool(ray, settings, encoded, through, min(settings.workers, len(todo)))
            pool.run(source, todo, done)
    finally:
        ray.shutdown()  # ends the actors of this job, and a cluster that it started


@dataclass
class Pool:
    """Actors: those that start, those without work, and those at work."""

    ray: Any
    settings: Settings
    encoded: Encoded
    through: str
    size: int
    starting: dict[Any, tuple[Any, float]] = field(default_factory=dict)
    idle: list[Any] = field(default_factory=list)
    busy: dict[Any, tuple[Any, int, float]] = field(default_factory=dict)
    failed: Counter[int] = field(default_factory=Counter)
    why: str = ""

    def run(self, source: Collection, todo: list[int], done: Callable[[int], None]) -> None:
        """Hand out parts until all are there; see `encode_on_ray`."""
        waiting, began = deque(todo), time.monotonic()
        while waiting or self.busy:
            for _ in range(self.size - len(self.starting) - len(self.idle) - len(self.busy)):
                self._start()
            while waiting and self.idle:
                number = waiting.popleft()
                call = self.idle[-1].encode.remote(Work.of(source, self.encoded, number))
                self.busy[call] = (self.idle.pop(), number, time.monotonic())
            ended, _ = self.ray.wait([*self.busy, *self.starting], num_returns=1, timeout=1)
            for call in ended:
                if call in self.starting:
                    self._started(call)
                    continue
                actor, number, _ = self.busy.pop(call)
                name = self._result(call, actor)
                if name is None:
                    self._again(waiting, number)
                    continue
                accept(self.encoded, number, name, self.through)
                done(number)
            self._cut_off(waiting)
            self._check_time(began)

    def _start(self) -> None:
        cpus, gpus = self.settings.cpus, self.settings.gpus
        kind = self.ray.remote(Encoder).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0)
        threads = max(1, int(cpus))
        actor = kind.remote(self.settings, self.encoded, self.through, threads)
        self.starting[actor.ready.remote()] = actor, time.monotonic()

    def _started(self, call: Any) -> None:
        actor, _ = self.starting.pop(call)
        if self._result(call, actor) is None:
            self.failed[-1] += 1
            self._check_tries(-1, "starting")

    def _result(self, call: Any, actor: Any) -> Any:
        """Return what a call gave and free its actor; None where it is to be tried again."""
        try:
            found = self.ray.get(call)
        except self.ray.exceptions.RayTaskError as error:
            self.why, cause = " ".join(str(error.cause).split())[:300], error.cause
            if isinstance(cause, LexLIPError) and not isinstance(cause, Unreachable):
                raise LexLIPError(str(cause)) from None
        except self.ray.exceptions.RayError as error:  # the worker or its machine is gone
            self.why = f"{type(error).__name__}: its worker or machine is gone"
            return None
        else:
            self.idle.append(actor)
            return found
        self.ray.kill(actor)
        return None

    def _again(self, waiting: deque[int], number: int) -> None:
        self.failed[number] += 1
        self._check_tries(number, f"part {number}")
        waiting.appendleft(number)

    def _check_tries(self, number: int, what: str) -> None:
        if self.failed[number] >= self.settings.tries:
            raise LexLIPError(
                f"{what} failed {self.failed[number]} times, at last so: {self.why}; run it again: "
                "finished parts stay"
            )

    def _cut_off(self, waiting: deque[int]) -> None:
        """End workers whose part takes too long."""
        limit = self.settings.part_timeout
        for call, (actor, number, began) in list(self.busy.items()):
            if time.monotonic() - began > limit:
                del self.busy[call]
                self.ray.kill(actor)
                self.why = f"no end within part_timeout={limit:g} s"
                self._again(waiting, number)

    def _check_time(self, began: float) -> None:
        now, patience = time.monotonic(), self.settings.start_timeout
        if self.settings.job_timeout and now - began > self.settings.job_timeout:
            raise LexLIPError(
                f"not done within job_timeout={self.settings.job_timeout:g} s: run it again; "
                "finished parts stay"
            )
        oldest = min((since for _, since in self.starting.values()), default=now)
        if not self.busy and not self.idle and now - oldest > patience:
            there, free = self.ray.cluster_resources(), self.ray.available_resources()
            raise LexLIPError(
                f"no worker started within start_timeout={patience:g} s: each needs "
                f"cpus={self.settings.cpus:g} and gpus={self.settings.gpus:g}, the cluster has "
                f"{there.get('CPU', 0):g} CPUs, {free.get('CPU', 0):g} free, and "
                f"{there.get('GPU', 0):g} GPUs: free some, or ask for less"
            )
