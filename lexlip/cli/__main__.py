"""The ``lexlip`` command: ``python -m lexlip.cli`` is the same."""

from __future__ import annotations

import gc
import os
import sys

_QUICK = {"demo", "explain", "search", "serve", "words"}
"""Commands of much waiting and little arithmetic."""


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] and sys.argv[1] in _QUICK:
        # Threads of numpy's products that wait for each other cost more than they bring: a query of
        # a CLIP took 46 ms of the processor, and 19 with one. numpy reads it when it is imported.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()  # what is imported stays: looking for garbage among it takes a tenth of the time
    from lexlip.cli import app

    gc.freeze()
    gc.enable()
    if sys.stdout is None:  # closed by who started this
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        # What cannot be written now cannot be at the end of the process either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        reason = error.strerror or error
        print(f"lexlip: the output cannot be written: {reason}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
