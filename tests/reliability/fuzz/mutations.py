"""Mutations of bytes: single bits, runs, copies, pieces of a grammar, and chunks of a file."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
)


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


def number(raw: bytearray, dice: random.Random) -> None:
    """Overwrite some bytes with a number on the edge."""
    size, order = dice.choice((1, 2, 4)), dice.choice(("big", "little"))
    at = dice.randrange(len(raw))
    value = dice.choice(NUMBERS) % 256**size
    raw[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]


def erase(raw: bytearray, dice: random.Random) -> None:
    """Take out a run of bytes."""
    at = dice.randrange(len(raw))
    del raw[at : at + dice.choice((1, 1, 2, 4, 16, 64))]


def repeat(raw: bytearray, dice: random.Random) -> None:
    """Copy a run of bytes to another place, some times over."""
    at, size = dice.randrange(len(raw)), dice.choice((1, 2, 8, 32, 128))
    to = dice.randrange(len(raw) + 1)
    raw[to:to] = raw[at : at + size] * dice.choice((1, 1, 2, 5, 50))


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip, cut, grow, scramble, digits, number, erase, repeat,
)  # fmt: skip


def mutated(raw: bytes, dice: random.Random, tokens: Sequence[bytes] = ()) -> bytes:
    """Return bytes with one to four changes; tokens are inserted, or take the place of bytes."""
    changed = bytearray(raw)
    for _ in range(dice.choice((1, 1, 2, 4))):
        if tokens and dice.random() < 0.6:
            at = dice.randrange(len(changed) + 1)
            changed[at : at + dice.choice((0, 0, 1, 4))] = dice.choice(tokens)
        elif changed:
            dice.choice(WAYS)(changed, dice)
        else:
            grow(changed, dice)
    return bytes(changed)


def shuffled(chunks: list[bytes], dice: random.Random) -> list[bytes]:
    """Return chunks of which one is doubled, left out, moved, or comes many times."""
    chunks = list(chunks)
    at = dice.randrange(len(chunks))
    match dice.randrange(4):
        case 0:
            chunks.insert(dice.randrange(len(chunks) + 1), chunks[at])
        case 1:
            del chunks[at]
        case 2:
            chunks.insert(dice.randrange(len(chunks)), chunks.pop(at))
        case _:
            chunks[at:at] = [chunks[at]] * dice.choice((2, 10, 200))
    return chunks
