"""Damage for indexes: one file is not as it was, and everything is asked that readers may ask."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.reliability.fuzz.harness import Harness, refused
from tests.reliability.fuzz.mutations import mutated

UNSIGNED = ("LOCK", "OWNER", "skipped.jsonl", "rerank.json")
"""Files whose damage changes no answer; they have no checksum."""

_DOCUMENTS = 90

_ODD = (None, True, -1, 0, 1e308, 2**63, 10**30, "", "x", "../x", "/etc", [], {}, [[]], {"a": 1})


def questions(index: Any) -> Iterator[Callable[[], object]]:
    """What readers ask; each is answered, or refused with one line."""
    engine = index.engine
    query = {term: 1 + term % 64 for term in range(200)}
    ids = [f"{number}.png" for number in range(9)]
    yield lambda: index.search(query, 50)
    yield lambda: index.search(query, 5, where="year >= 2003 and word == 'b'")
    yield lambda: index.search(query, 5, rescore=20) if index.side_stores.floats else None
    yield lambda: engine.fetch([*ids, "nobody"])
    yield lambda: engine.ids()
    yield lambda: engine.impacts(["1.png"])
    yield lambda: engine.contributions("1.png", query)
    yield lambda: engine.frequencies(query)
    yield lambda: engine.counts("word", 5)
    yield lambda: engine.ordered("year", 5)
    yield lambda: engine.ordered("word", 5)
    yield lambda: index.stats()


def writes(index: Any) -> Iterator[Callable[[], object]]:
    """What writers do."""
    yield lambda: index.engine.copy(["1.png"], ["new"]) or index.engine.commit()
    yield lambda: index.delete(["2.png"])
    yield lambda: index.compact()


def used(path: Path, mode: str, asked: Callable[[Any], Iterator[Callable[[], object]]]) -> bool:
    """Open an index and ask; returns whether `check` found damage. Raises refusals at opening."""
    from lexlip import Index, LexLIPError

    with Index.open(path, mode=mode) as index:  # type: ignore[arg-type]
        for ask in asked(index):
            try:
                ask()
            except LexLIPError as error:
                refused(error)
        return bool(index.check())


def small_index(path: Path, count: int = 9) -> None:
    """Write an index of some texts with metadata, floats and a mask of the living."""
    from lexlip import Index
    from lexlip.models.shipped import load_shipped

    words = ("red circle", "blue square", "green star")
    texts = {f"{number}.png": f"a {words[number % 3]} {number}" for number in range(count)}
    model = load_shipped()
    with Index.create(path, model, texts, engine="postings", keep_floats=True) as index:
        columns: dict[str, list[Any]] = {"year": [2000 + n for n in range(count)]}
        columns["word"] = ["abc"[n % 3] for n in range(count)]
        columns["half"] = [n / 2 for n in range(count)]
        columns["odd"] = [n % 2 == 1 for n in range(count)]
        index.engine.copy(list(texts), list(texts), columns)
        index.engine.commit()
        index.delete(["0.png"])


def alike(one: bytes, two: bytes) -> bool:
    """Say whether two files say the same: of a number in JSON the last digits may not count."""
    try:
        return one == two or repr(json.loads(one)) == repr(json.loads(two))
    except (ValueError, RecursionError):
        return False


def sign(folder: Path, name: str) -> None:
    """Make the checksums of a changed file right, as whoever gives an index can."""
    store, _, inner = name.partition("/")
    if name == "manifest.json":
        try:
            facts = json.loads((folder / name).read_bytes())
        except (ValueError, RecursionError):
            return
        if isinstance(facts, dict) and facts.pop("sha256", None):  # as older ones are
            (folder / name).write_text(json.dumps(facts))
        return
    current = folder / store / "CURRENT"
    if not inner or not current.is_file():
        return
    manifest = current.read_text("latin-1").split(" ")[0]
    if inner.startswith("part-"):
        raw, (part, _, file) = (folder / name).read_bytes(), inner.partition("/")
        facts = json.loads((folder / store / manifest).read_bytes())
        facts["parts"][part][file] = len(raw), sha256(raw).hexdigest()
        (folder / store / manifest).write_text(json.dumps(facts))
    if inner.startswith(("part-", "gen-")):
        digest = sha256((folder / store / manifest).read_bytes()).hexdigest()
        current.write_text(f"{manifest} {digest}\n")


def changed_json(facts: Any, dice: random.Random) -> Any:
    """Return JSON with an odd value somewhere."""
    if isinstance(facts, dict) and facts and dice.random() < 0.85:
        key = dice.choice(list(facts))
        if dice.random() < 0.1:
            return {name: it for name, it in facts.items() if name != key}
        return {**facts, key: changed_json(facts[key], dice)}
    if isinstance(facts, list) and facts and dice.random() < 0.85:
        at = dice.randrange(len(facts))
        return [*facts[:at], changed_json(facts[at], dice), *facts[at + 1 :]]
    if isinstance(facts, int | float) and dice.random() < 0.5:
        return dice.choice((facts + 1, facts - 1, -facts, float(facts), str(facts)))
    return dice.choice(_ODD)


class Indexes(Harness):
    """An input is a file of an index: `U` or `S` (signed), its name, a NUL, what it holds.

    Every answer or one line: no other exception. Unsigned damage is noticed by `check`, before and
    after writers came by. What is signed was not damaged by accident: it may end in an exception
    where arrays do not fit, and no process dies of it.
    """

    name = "indexes"
    seconds = 10.0
    megabytes = 1200

    def open(self) -> None:
        self._home = Path(tempfile.mkdtemp())
        self._sound = self._home / "sound"
        small_index(self._sound, _DOCUMENTS)
        self._count = 0

    def seeds(self) -> list[bytes]:
        names = sorted(
            path.relative_to(self._sound).as_posix()
            for path in self._sound.rglob("*")
            if path.is_file() and path.stat().st_size
        )
        return [
            way + name.encode() + b"\0" + (self._sound / name).read_bytes()
            for name in names
            for way in (b"U", b"S")
        ]

    def mutate(self, raw: bytes, dice: random.Random) -> bytes:
        """Change what the file holds."""
        head, _, held = raw.partition(b"\0")
        if head.endswith(b".json") and dice.random() < 0.5:
            try:
                text = json.dumps(changed_json(json.loads(held), dice))
                return head + b"\0" + text.encode()
            except (ValueError, RecursionError):
                pass
        if held.startswith(b"\x93NUMPY") and dice.random() < 0.7:  # the header stays
            size = 10 + int.from_bytes(held[8:10], "little")
            return head + b"\0" + held[:size] + mutated(held[size:], dice)
        return head + b"\0" + mutated(held, dice)

    def attempt(self, data: bytes) -> None:
        from lexlip import LexLIPError

        head, _, held = data.partition(b"\0")
        name, signed = head[1:].decode("latin-1"), head[:1] == b"S"
        place = self._sound / name
        if ".." in name or not place.is_file():
            return
        self._count += 1
        copy = self._home / f"copy-{self._count}"
        shutil.copytree(self._sound, copy)
        try:
            (copy / name).write_bytes(held)
            if signed:
                sign(copy, name)
            written = place.read_bytes()
            noticed = alike(held, written) or signed or place.name in UNSIGNED
            noticed |= place.name == "manifest.json" and b'"sha256"' not in held  # as older ones
            try:
                noticed |= used(copy, "r", questions)
                noticed |= used(copy, "w", writes)
                noticed |= used(copy, "r", questions)
            except LexLIPError as error:
                refused(error)
                assert held != written, f"refused as it was written: {error}"
                return
            except Exception:
                if signed and "/part-" in name:
                    return
                raise
            assert noticed, f"the damage of {name} was not noticed"
        finally:
            shutil.rmtree(copy)

    def close(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
