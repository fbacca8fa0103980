"""Arguments that begin with a dash: a query such as ``-moon two hearts`` is no option."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

MINUS = "\u2212"
"""A minus sign: the grammar reads it as a dash, and no command line takes it for an option."""


class QueryCommand(TyperCommand):
    """A command that takes a query."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; those that can be nothing but a query lose their dash."""
        options: list[Any] = [p for p in self.get_params(ctx) if p.param_type_name == "option"]
        args = _without_id(args)
        known = {name: bool(p.is_flag) for p in options for name in (*p.opts, *p.secondary_opts)}
        return super().parse_args(ctx, queries_apart(args, known))


def _without_id(args: list[str]) -> list[str]:
    """Return arguments in which ``--trec`` takes no id where ``--queries`` gives the ids."""
    if not any(argument.split("=")[0] == "--queries" for argument in args):
        return args
    return ["--trec=-" if argument == "--trec" else argument for argument in args]


def queries_apart(args: list[str], options: dict[str, bool]) -> list[str]:
    """Return arguments in which queries begin with a minus sign instead of a dash.

    Parameters
    ----------
    args : list of str
    options : mapping of str to bool
        Names of all options, and whether each is a flag, which takes no value.

    Examples
    --------
    >>> queries_apart(["-moon two hearts", "-k", "-3"], {"-k": False})
    ['−moon two hearts', '-k', '-3']
    """
    found: list[str] = []
    value = False  # whether this argument is the value of the option before it
    for number, argument in enumerate(args):
        if argument == "--" and not value:
            return [*found, *args[number:]]
        one = argument.startswith("-") and not argument.startswith("--") and len(argument) > 1
        asks = any(map(str.isspace, argument)) or argument[:2] not in options
        if one and not value and argument not in options and asks:
            argument = MINUS + argument[1:]
        value = not value and not options.get(argument, True)
        found.append(argument)
    return found
