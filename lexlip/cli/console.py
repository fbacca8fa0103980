"""Consoles: errors as one line, options from dataclasses, and jobs that take ``key=value``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from lexlip.errors import LexLIPError, missing

Command = Callable[..., None]

Config = Annotated[str | None, typer.Option(help="TOML file, or the name of a shipped one")]
Run = Annotated[str | None, typer.Option(help="folder that training wrote")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="settings, listed below")
]


class Job(typer.Typer):
    """The command line of a module that is run from a clone.

    Its options say where settings are read from (``--config``, ``--run``); each setting itself is
    given as ``key=value``, checked by `lexlip.settings`, and listed by ``--help``.

    Parameters
    ----------
    main : function
        A Typer command.
    settings : dataclass
        Its fields are the keys.
    """

    def __init__(self, main: Command, settings: type) -> None:
        super().__init__(add_completion=False, rich_markup_mode=None)
        self.settings = settings
        self.command(epilog=keys(settings))(readable(main))


def keys(settings: type) -> str:
    """List the fields of a dataclass as ``key=default`` with their help, tables last."""
    return "\b\nKeys and their defaults:\n" + "\n".join(_table(settings, "", {}))


def _table(settings: type, prefix: str, told: dict[type, str]) -> Iterator[str]:
    """Yield a line per field; fields that a base class has told are not repeated."""
    hints, tables = get_type_hints(settings), dict[type, list[str]]()
    old = {field.name for base in settings.__mro__[1:] if base in told for field in fields(base)}
    told[settings] = prefix
    for field in fields(settings):
        hint = hints[field.name]
        if is_dataclass(hint):
            tables.setdefault(hint, []).append(field.name)  # type: ignore[arg-type]
        elif field.name not in old:
            names = ".NAME" if get_origin(hint) in (dict, Mapping) else ""
            line = f"  {prefix}{field.name}{names}={_default(field)}"
            yield f"{line:<30}  {field.metadata.get('help', '')}".rstrip()
    for table, (name, *others) in tables.items():
        same = "".join(f", {prefix}{other}.*" for other in others)
        base = next((told[base] for base in table.__mro__[1:] if base in told), None)
        like = "" if base is None else f" as {base}* and"
        yield f" {prefix}{name}.*{same}:{like}"
        yield from _table(table, f"{prefix}{name}.", told)


def _default(field: Field[Any]) -> str:
    value = "" if field.default in (MISSING, None) else field.default
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def readable(command: Command) -> Command:
    """Print a LexLIPError, an error of the disk or a missing extra as one line; exit with 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except BrokenPipeError:
            raise  # the reader had enough: click ends quietly
        except LexLIPError as error:
            message = str(error)
        except MemoryError:
            message = "not enough memory: end other programs, or raise this process's limit"
        except OSError as error:
            if not error.strerror or error.filename is None:
                raise
            message = f"{error.filename}: {error.strerror}: mend it, or give another place"
        except ModuleNotFoundError as error:
            line = missing(error)
            if line is None:
                raise
            message = str(line)
        else:
            return
        typer.echo(f"lexlip: {one_line(message)}", err=True)
        raise typer.Exit(2)

    return wrapped


def one_line(text: str) -> str:
    """Return a text as one line: a file's name may hold line breaks and terminal codes.

    Examples
    --------
    >>> print(one_line("a\\nb: damaged"))
    a\\nb: damaged
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def said_once(reasons: Iterable[str]) -> list[str]:
    """Return why files were skipped, with one line for all that lack the same package.

    Parameters
    ----------
    reasons : iterable of str
        ``"name: what happened: what to do"``.

    Examples
    --------
    >>> alike = [f"{n}.nef: needs a decoder: pip install x" for n in range(40)]
    >>> said_once(["a.png: damaged", *alike])
    ['a.png: damaged', '0.nef and 39 others: needs a decoder: pip install x']
    """
    lines: list[str] = []
    alike: dict[str, list[str]] = {}
    for reason in reasons:
        name, _, why = reason.partition(": ")
        if "pip install " in why:
            alike.setdefault(why, []).append(name)
        else:
            lines.append(reason)
    for why, (name, *others) in alike.items():
        more = f" and {len(others)} other{'s' * (len(others) > 1)}" if others else ""
        lines.append(f"{name}{more}: {why}")
    return lines


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
