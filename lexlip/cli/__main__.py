"""The ``lexlip`` command: ``python -m lexlip.cli`` is the same."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line."""
    gc.disable()  # what is imported stays: looking for garbage among it takes a tenth of the time
    from lexlip.cli import app

    gc.freeze()
    gc.enable()
    app()


if __name__ == "__main__":
    main()
