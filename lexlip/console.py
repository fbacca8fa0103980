"""Consoles: errors as one line, and options that are declared in a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from lexlip.errors import LexLIPError

Command = Callable[..., None]


def readable(command: Command) -> Command:
    """Print a LexLIPError as one line and exit with 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LexLIPError as error:
            typer.echo(f"lexlip: {error}", err=True)
            raise typer.Exit(2) from None

    return wrapped


def one_line(text: str) -> str:
    """Return a text as one line: a file's name may hold line breaks and terminal codes.

    Examples
    --------
    >>> print(one_line("a\\nb: damaged"))
    a\\nb: damaged
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def with_options(settings: type, panel: str | None = None) -> Callable[[Command], Command]:
    """Turn the ``**options`` of a Typer command into an option per field of a dataclass.

    Parameters
    ----------
    settings : dataclass
        Its fields are declared with `lexlip.settings.option`.
    panel : str, optional
        Heading of these options in the help.
    """
    hints = get_type_hints(settings)
    added = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[
                hints[field.name],
                typer.Option(
                    f"--{field.name.replace('_', '-')}",
                    help=field.metadata["help"],
                    rich_help_panel=panel,
                ),
            ],
        )
        for field in fields(settings)
    ]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]

        @wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            command(*args, **kwargs)

        wrapped.__signature__ = signature.replace(parameters=own + added)  # type: ignore[attr-defined]
        return wrapped

    return decorate
