"""Settings: TOML files with ``key=value`` overrides, read into frozen dataclasses.

One file serves a whole run. Each job reads its own tables, and all of them read ``[data]``, so that
they open the same pictures.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    from lexlip.data.collection import Collection

T = TypeVar("T")
SHIPPED = Path("pretrain") / "configs"  # below the clone in which training and benchmarks run
DEFAULTS = {
    "LEXLIP_DATA": "../shared/data",
    "LEXLIP_WEIGHTS": "../shared/weights",
    "LEXLIP_PEERS": "../shared/peers",
}


def option(default: Any, help: str, **metadata: Any) -> Any:
    """Declare a field of a settings class: its default, and the line that ``--help`` prints.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Settings:
    ...     seed: int = option(0, "of all that is random")
    >>> Settings().seed, dataclasses.fields(Settings)[0].metadata["help"]
    (0, 'of all that is random')
    """
    shown = {"help": help, **metadata}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=shown)
    return field(default=default, metadata=shown)


def option_of(cls: Any, name: str) -> Any:
    """Declare a field as another settings class does, with its default and its help."""
    known = cls.__dataclass_fields__[name]
    return option(known.default, **known.metadata)


@dataclass(frozen=True)
class Data:
    """Source of pictures and captions."""

    source: str = option("scenes", "data set name, folder, table; scenes are drawn")
    train: str = option("train", "split to train on")
    dev: str = option("dev", "split to validate on")
    test: str = option("test", "split to test on")
    scenes: Mapping[str, int] = option({}, "size of a split, and of a picture, where drawn")
    texts: tuple[str, ...] = option((), "files of captions without pictures, for masked language")
    exclude: str = option("", "JSON list of image ids to keep out of training")
    cache: str = option("runs/cache", "folder for pixels and features")
    flip: bool = option(False, "a mirrored second view; wrong where captions say left and right")
    crops: int = option(0, "random crops as further views; frozen trunks only, as flip")

    def open(self, split: str | None, leave_out: Sequence[str] = ()) -> Collection:
        """Read (or draw) a split of the pictures, of a folder without some files and folders."""
        from lexlip.data.collection import load_collection

        return load_collection(
            resolve(self.source), split, cache=self.cache, scenes=dict(self.scenes) or None,
            exclude=leave_out,
        )  # fmt: skip


def build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Fill a dataclass from a TOML table, nested dataclasses from nested tables.

    Raises
    ------
    LexLIPError
        On an unknown key (names the nearest one) or a value of the wrong type.
    """
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {where}{near[0]}?" if near else f"; known: {sorted(known)}"
            raise LexLIPError(f"unknown setting {where}{key}{hint}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            value = build(hints[key], value, f"{where}{key}.")  # type: ignore[arg-type]
        else:
            value = _fit(value, hints[key], f"{where}{key}")
        values[key] = value
    return cls(**values)


def _fit(value: Any, hint: Any, name: str) -> Any:
    """Return a TOML value as the type that a field is annotated with."""
    union = get_origin(hint) in (Union, UnionType)  # int | None, str | Mapping[str, Any]
    kinds = [get_origin(kind) or kind for kind in (get_args(hint) if union else (hint,))]
    if float in kinds and type(value) is int:
        return float(value)
    if tuple in kinds and isinstance(value, list):
        return tuple(_fit(item, get_args(hint)[0], name) for item in value)
    if type(value) in kinds or (Mapping in kinds and isinstance(value, Mapping)):
        return value
    says = {int: "int", float: "float", bool: "bool", str: "str", tuple: "a list"}
    wanted = " or ".join(says.get(kind, "a table") for kind in kinds if kind is not NoneType)
    raise LexLIPError(f"setting {name} must be {wanted}, not {value!r}")


def read(
    path: str | Path, overrides: Sequence[str] = (), cls: type | None = None
) -> dict[str, Any]:
    """Read a TOML file and apply overrides; see `override`.

    Raises
    ------
    LexLIPError
        On a missing file, broken TOML or an override without ``=``.
    """
    path = Path(path)
    if not path.is_file():
        shipped = SHIPPED / f"{path.name.removesuffix('.toml')}.toml"
        if not shipped.is_file():
            names = sorted(p.stem for p in shipped.parent.glob("*.toml"))
            raise LexLIPError(f"no config {path}: give a TOML file or one of {names}")
        path = shipped
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise LexLIPError(f"{path} is not valid TOML: {error}") from None
    return override(table, overrides, cls)


def override(
    table: dict[str, Any], overrides: Sequence[str], cls: type | None = None
) -> dict[str, Any]:
    """Apply overrides, each ``key=value`` or ``section.key=value``, to a table, in place.

    Parameters
    ----------
    table : dict
        As a TOML file gives it; returned.
    overrides : sequence of str
        Values in TOML's syntax; what is not TOML is text.
    cls : dataclass, optional
        What the table is for. Where a field is a text, so is its value, without quotes too; where
        it is a list, commas separate its items, and a repeated key adds to it.

    Raises
    ------
    LexLIPError
        On an override without ``=``, or below something that is not a table.

    Examples
    --------
    >>> override({"seed": 1}, ["stage1.lr=1e-4", "seed=2", "data=photos/"])
    {'seed': 2, 'stage1': {'lr': 0.0001}, 'data': 'photos/'}
    >>> override({}, ["texts=a.txt,b.txt", "exclude=2024"], Data)
    {'texts': ['a.txt', 'b.txt'], 'exclude': '2024'}
    """
    given = set[str]()
    for text in overrides:
        dotted, sign, written = text.partition("=")
        if not sign:
            raise LexLIPError(f"override {text!r} is not of the form key=value")
        *sections, key = dotted.split(".")
        inner = table
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise LexLIPError(f"override {text!r}: {section} is not a table")
        value = _value(written, _hint(cls, dotted))
        if isinstance(value, list) and dotted in given:
            value = inner[key] + value
        inner[key] = value
        given.add(dotted)
    return table


def _hint(cls: Any, dotted: str) -> Any:
    """Return the type of the field that a dotted key names, None where no field is."""
    for name in dotted.split("."):
        cls = get_type_hints(cls).get(name) if dataclasses.is_dataclass(cls) else None
    return cls


def _value(text: str, hint: Any) -> Any:
    """Read the value of an override for a field of this type; None for any type."""
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    kinds = {kind for kind in get_args(hint) if kind is not NoneType} or {hint}
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return value if isinstance(value, list) else [_value(x, item) for x in text.split(",")]
    return text if kinds == {str} and not isinstance(value, str) else value


def from_overrides(cls: type[T], overrides: Sequence[str]) -> T:
    """Fill the settings of a job that reads no TOML file."""
    return build(cls, override({}, overrides, cls), "")


def resolve(name: str) -> str:
    """A tower's or file's place: ``$VARIABLES`` expanded, ``package:NAME/sub`` found on disk."""
    if name.startswith("package:"):
        package, _, rest = name.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            pip = package.replace("_", "-")
            raise LexLIPError(f"{name} needs the package {pip}: pip install {pip}")
        return str(Path(spec.submodule_search_locations[0]) / rest)
    for variable, default in DEFAULTS.items():
        name = name.replace(f"${variable}", os.environ.get(variable, default))
    return os.path.expandvars(name)
