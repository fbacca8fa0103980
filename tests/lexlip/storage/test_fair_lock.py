"""The fair lock: nobody overtakes a change, and nobody is inside while it happens."""

from __future__ import annotations

import threading
import time

import pytest

from lexlip.storage.fair_lock import FairLock


def never():
    return False


def started(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_readers_share_the_lock():
    lock, both = FairLock(), threading.Barrier(2, timeout=5)

    def read():
        with lock.shared(never, never):
            both.wait()

    for thread in [started(read), started(read)]:
        thread.join(5)
        assert not thread.is_alive() and not both.broken


def test_later_readers_do_not_overtake_a_change():
    lock, order = FairLock(), []
    waits, release = threading.Event(), threading.Event()

    def first():
        with lock.shared(never, never):
            release.wait(5)
            order.append("first leaves")

    def stale():
        waits.set()
        return True

    def change():
        with lock.shared(stale, lambda: order.append("change")):
            pass

    def later():
        with lock.shared(never, never):
            order.append("later")

    threads = [started(first)]
    while not lock._inside:
        time.sleep(0.001)
    threads.append(started(change))
    assert waits.wait(5)
    threads += [started(later) for _ in range(3)]
    time.sleep(0.05)  # they would be inside by now
    assert order == []
    release.set()
    for thread in threads:
        thread.join(5)
    assert order == ["first leaves", "change", "later", "later", "later"]


def test_a_stream_of_readers_does_not_starve_changes():
    lock, until = FairLock(), time.monotonic() + 10
    inside, wrong, changes = [], [], []

    def read():
        while len(changes) < 20 and time.monotonic() < until:
            with lock.shared(never, never):
                inside.append(None)
                time.sleep(0.002)
                inside.pop()

    def renew():
        if inside:
            wrong.append(len(inside))
        changes.append(None)

    threads = [started(read) for _ in range(6)]
    for _ in range(20):
        with lock.shared(lambda: True, renew):
            pass
    for thread in threads:
        thread.join(15)
    assert wrong == [] and len(changes) == 20 and time.monotonic() < until


def test_a_change_that_fails_leaves_the_lock_free():
    lock = FairLock()

    def fail():
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        with lock.shared(lambda: True, fail):
            raise AssertionError("inside")
    with lock.alone(timeout=0) as empty:
        assert empty


def test_alone_means_alone():
    lock, seen = FairLock(), []
    with lock.shared(never, never):
        with lock.alone(timeout=0.01) as empty:
            assert not empty

    def read():
        with lock.shared(never, never):
            seen.append("reader")

    with lock.alone() as empty:
        thread = started(read)
        thread.join(0.05)
        assert empty and seen == []
    thread.join(5)
    assert seen == ["reader"]
