"""The command line's application, which each module of commands adds to."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=True, help="Find pictures with words.")
