"""Damage for indexes: one random change to one file, and everything that a reader may ask after it.

`python -m tests.reliability.fuzz --seconds 600` (make fuzz) goes on with new seeds.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from lexlip import Index, LexLIPError
from lexlip.errors import check_count

UNSIGNED = ("LOCK", "OWNER", "skipped.jsonl", "rerank.json")
"""Files whose damage changes no answer; they have no checksum."""


def flip(raw: bytearray, dice: random.Random) -> None:
    """Change some bits."""
    for _ in range(dice.choice((1, 1, 1, 4, 32))):
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)


def cut(raw: bytearray, dice: random.Random) -> None:
    """Take off the end."""
    del raw[dice.randrange(len(raw)) :]


def grow(raw: bytearray, dice: random.Random) -> None:
    """Add bytes."""
    raw += dice.randbytes(dice.randrange(1, 40))


def scramble(raw: bytearray, dice: random.Random) -> None:
    """Overwrite a run of bytes."""
    at = dice.randrange(len(raw))
    raw[at : at + 16] = dice.randbytes(len(raw[at : at + 16]))


def digits(raw: bytearray, dice: random.Random) -> None:
    """Turn a digit into another one: JSON stays JSON."""
    places = [at for at, byte in enumerate(raw) if 48 <= byte <= 57]
    if places:
        raw[dice.choice(places)] = 48 + dice.randrange(10)


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, cut, grow, scramble, digits)


def damage(folder: Path, dice: random.Random) -> tuple[Path, str] | None:
    """Change one file; None where it came out as it was."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path, way = dice.choice(files), dice.choice(WAYS)
    raw = bytearray(path.read_bytes())
    way(raw, dice)
    if bytes(raw) == path.read_bytes():
        return None
    path.write_bytes(raw)
    return path, f"{way.__name__} of {path.relative_to(folder)}"


def questions(index: Index) -> Iterator[Callable[[], object]]:
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


def writes(index: Index) -> Iterator[Callable[[], object]]:
    """What writers do."""
    yield lambda: index.engine.copy(["1.png"], ["new"]) or index.engine.commit()
    yield lambda: index.delete(["2.png"])
    yield lambda: index.compact()


def trial(sound: Path, seed: int, home: Path) -> str | None:
    """Damage a copy of an index, and use it; return what happened that must not.

    Every answer or one line: no other exception. And `check` notices the damage, before and after
    writers came by.
    """
    dice, copy = random.Random(seed), home / f"copy-{seed}"
    shutil.copytree(sound, copy)
    try:
        done = damage(copy, dice)
        if done is None:
            return None
        path, what = done
        noticed = path.name in UNSIGNED
        try:
            noticed |= _used(copy, "r", questions)
            noticed |= _used(copy, "w", writes)
            noticed |= _used(copy, "r", questions)
        except LexLIPError as error:
            return None if "\n" not in str(error) else f"{what}: several lines: {error}"
        except Exception as error:
            return f"seed {seed}, {what}: {type(error).__name__}: {error}"
        return None if noticed else f"seed {seed}, {what}: not noticed"
    finally:
        shutil.rmtree(copy)


def _used(path: Path, mode: str, asked: Callable[[Index], Iterator[Callable[[], object]]]) -> bool:
    """Open an index and ask; returns whether `check` found damage. Raises refusals at opening."""
    with Index.open(path, mode=mode) as index:  # type: ignore[arg-type]
        for ask in asked(index):
            try:
                ask()
            except LexLIPError as error:
                if "\n" in str(error):
                    raise
        return bool(index.check())


def small_index(path: Path) -> None:
    """Write an index of nine texts with metadata, floats and a mask of the living."""
    from lexlip.models.shipped import load_shipped

    words = ("red circle", "blue square", "green star")
    texts = {f"{number}.png": f"a {words[number % 3]} {number}" for number in range(9)}
    model = load_shipped()
    with Index.create(path, model, texts, engine="postings", keep_floats=True) as index:
        columns = {"year": [2000 + n for n in range(9)], "word": list("abc" * 3)}
        columns["half"] = [n / 2 for n in range(9)]
        columns["odd"] = [n % 2 == 1 for n in range(9)]
        index.engine.copy(list(texts), list(texts), columns)
        index.engine.commit()
        index.delete(["0.png"])


def main(arguments: list[str]) -> None:
    """Damage indexes with new seeds until the time is over."""
    seconds = check_count("seconds", int(arguments[-1]))
    first, counts = random.SystemRandom().randrange(2**40), Counter[str]()
    with tempfile.TemporaryDirectory() as home:
        small_index(Path(home) / "sound")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            wrong = trial(Path(home) / "sound", first + counts["trials"], Path(home))
            counts["trials"] += 1
            if wrong:
                counts["failures"] += 1
                print(wrong)
    print(f"{counts['trials']} damaged indexes, {counts['failures']} failures, seeds from {first}")
    if counts["failures"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
