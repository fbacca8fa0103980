"""The work on a served index: clients that search, and three kinds of writers."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from eval.load.clients import SEARCHES, Client, form

if TYPE_CHECKING:
    from eval.load.soak import Settings

MOST = 40
"""Posted pictures that stay; beyond, the oldest is deleted."""

_DESIGNED = {
    "search": (200, 503),
    "why": (200, 404, 503),  # the picture may have been deleted
    "picture": (200, 304, 404, 503),
    "health": (200,),
    "post": (200, 409, 503),  # 409: another process writes
    "delete": (200, 404, 409, 503),  # 404: the index was replaced meanwhile
    "damaged": (200, 400, 409, 413, 503),  # 200: what was changed does not matter
}


class Work:
    """Threads that use a server until they are stopped.

    Parameters
    ----------
    port : int
    index : Path
        That is served.
    model : Speaker
        Of it.
    pictures : Path
        Folder that it is of.
    scenes : list of PIL.Image.Image
        What is posted.
    settings : Settings

    Attributes
    ----------
    counts : Counter
        Of (kind of request, status).
    wrong : list of str
        What must not happen.
    events : list of (minute, what)
    """

    def __init__(
        self,
        port: int,
        index: Path,
        model: Any,
        pictures: Path,
        scenes: list[Image.Image],
        settings: Settings,
    ) -> None:
        self._port, self._index, self._model, self._pictures = port, index, model, pictures
        self._scenes, self._settings = scenes, settings
        self.counts: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self.events: list[tuple[float, str]] = []
        self._lock, self._end = threading.Lock(), threading.Event()
        self._times: list[float] = []
        self._new: list[float] = []
        self._begun = time.monotonic()
        jobs: list[tuple[Callable[[random.Random], None], float]] = [
            *[(self._search, settings.pause)] * settings.clients,
            (self._post, 2.0),
            (self._damage, 3.0),
            (self._commit, 20.0),
            (self._replace, settings.replace),
        ]
        self._posted: deque[str] = deque()
        self._threads = [
            threading.Thread(target=self._repeat, args=(job, pause, settings.seed + number))
            for number, (job, pause) in enumerate(jobs)
        ]
        self._clients = threading.local()

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads, once each has its last answer."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def taken(self) -> list[float]:
        """Return the seconds of searches since this was called the last time."""
        with self._lock:
            new, self._new = self._new, []
            self._times += new
        return new

    def share(self, part: float) -> float:
        """Return the milliseconds within which a share of all searches was answered."""
        self.taken()
        return 1000 * float(np.quantile(self._times, part)) if self._times else 0.0

    def _repeat(self, job: Callable[[random.Random], None], pause: float, seed: int) -> None:
        dice = random.Random(seed)
        while not self._end.wait(pause * dice.uniform(0.5, 1.5)):
            try:
                job(dice)
            except Exception as error:
                self._failed(f"{job.__name__.strip('_')}: {error!r:.300}")

    def _failed(self, line: str) -> None:
        with self._lock:
            self.wrong.append(f"minute {(time.monotonic() - self._begun) / 60:.2f}: {line}")

    def _ask(self, what: str, path: str, method: str = "GET", *body: Any) -> Any:
        """Send a request, count its answer, and return what it says."""
        client = getattr(self._clients, "one", None)
        if client is None:
            client = self._clients.one = Client(self._port)
        try:
            status, read, seconds = client.ask(path, method, *body)
        except http.client.RemoteDisconnected:  # an idle connection may be closed at any moment
            status, read, seconds = client.ask(path, method, *body)
        with self._lock:
            self.counts[what, status] += 1
            if what == "search":
                self._new.append(seconds)
        if status not in _DESIGNED[what]:
            self._failed(f"{what}: {status} {read[:200]!r}")
        return json.loads(read) if status == 200 and read[:1] == b"{" else {}

    def _search(self, dice: random.Random) -> None:
        path = dice.choice(SEARCHES)
        found = self._ask("search", path)
        hits = found.get("hits", ())
        match dice.randrange(8):
            case 0 if hits:
                query = path.partition("q=")[2]
                self._ask("why", f"/explain?image={dice.choice(hits)['image']}&q={query}")
            case 1 | 2 if hits:
                for hit in hits[:3]:
                    size = dice.choice(("thumb", "thumb", "full"))
                    self._ask("picture", f"/images/{hit['image']}?size={size}")
            case 3:
                self._ask("health", "/healthz")

    def _picture(self, dice: random.Random) -> bytes:
        """Return a picture that nobody posted before."""
        scene, buffer = dice.choice(self._scenes).copy(), BytesIO()
        colour = tuple(dice.randrange(256) for _ in range(3))
        scene.putpixel((dice.randrange(96), dice.randrange(96)), colour)
        scene.save(buffer, dice.choice(("PNG", "JPEG", "WEBP")))
        return buffer.getvalue()

    def _post(self, dice: random.Random) -> None:
        body = form(self._picture(dice), json.dumps({"year": dice.randrange(1990, 2030)}))
        added: Iterable[dict[str, str]] = self._ask("post", "/images", "POST", *body).get(
            "added", ()
        )
        self._posted.extend(it["image"] for it in added)
        if len(self._posted) > MOST:
            self._ask("delete", f"/images/{self._posted.popleft()}", "DELETE")

    def _damage(self, dice: random.Random) -> None:
        raw = bytearray(self._picture(dice))
        if dice.random() < 0.5:
            del raw[dice.randrange(len(raw)) :]
        for _ in range(8):
            if raw:
                raw[dice.randrange(len(raw))] = dice.randrange(256)
        self._ask("damaged", "/images", "POST", *form(bytes(raw)))

    def _commit(self, dice: random.Random) -> None:
        """Write to the index as another process does."""
        from lexlip import Index, LexLIPError

        try:
            with Index.open(self._index, self._model, "w") as index:
                path = dice.choice(sorted(self._pictures.glob("*.png")))
                index.delete([path.name])
                index.add({path.name: path})
        except LexLIPError as error:
            if "open for writing" not in str(error):  # the server writes at this moment
                raise

    def _replace(self, dice: random.Random) -> None:
        from lexlip import Index
        from lexlip.models.shipped import SHIPPED

        engine = self._settings.engine
        Index.create(
            self._index, self._model, self._pictures, engine=engine, checkpoint=SHIPPED,
            replace=True,
        ).close()  # fmt: skip
        self.events.append(((time.monotonic() - self._begun) / 60, "replaced"))
