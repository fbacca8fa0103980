"""Worker processes: fresh interpreters that end with their parent; a death is one error line."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

from lexlip.errors import LexLIPError


def _begin(begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Prepare a worker."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])  # readable when a killed parent's pipes are closed
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    if begin is not None:
        begin(*arguments)


def _broken(pool: ProcessPoolExecutor) -> bool:
    try:
        pool.submit(int)
    except BrokenProcessPool:
        return True
    return False


@contextmanager
def worker_processes(
    count: int, advice: str, begin: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Start processes for work that Python threads cannot share.

    They are spawned, not forked: torch and Java do not survive a fork. So a script that calls
    this needs an ``if __name__ == "__main__":``.

    Parameters
    ----------
    count : int
    advice : str
        What to do when one dies; ends the error message.
    begin : callable, optional
        Called with `arguments` in each process first.

    Yields
    ------
    ProcessPoolExecutor
        Submit module-level functions to it, and collect their results inside the block.

    Raises
    ------
    LexLIPError
        When a process dies. Work that has not begun is cancelled, as after any error.
    """
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, context, _begin, (begin, arguments))
    try:
        yield pool
    except (BrokenProcessPool, OSError) as error:
        if isinstance(error, OSError) and not _broken(pool):
            raise
        # The pool forgets a process that was starting while another died, and would wait for it
        # for ever; or the start itself fails with an OSError (CPython 3.11).
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise LexLIPError(f"a worker process died (killed, or out of memory?): {advice}") from None
    finally:
        pool.shutdown(cancel_futures=True)
