"""Settings: TOML files with dotted overrides, read into frozen dataclasses.

One file serves a whole run; each job reads the tables that are its own, and all of them read
``[data]``, so that they open the same pictures.
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


@dataclass(frozen=True)
class Data:
    """Where pictures and captions come from."""

    source: str = "scenes"
    train: str = "train"
    dev: str = "dev"
    test: str = "test"
    scenes: Mapping[str, int] = field(default_factory=dict)  # sizes, when the project draws them
    texts: tuple[str, ...] = ()  # captions without pictures, for the masked-language objectives
    exclude: str = ""  # JSON list of image ids to keep out of training
    cache: str = "runs/cache"
    flip: bool = False  # a mirrored second view; wrong where captions say left and right
    crops: int = 0  # further views, cut at random; of frozen trunks only, as flip is

    def open(self, split: str | None) -> Collection:
        """Read (or draw) a split of the pictures."""
        from lexlip.data.collection import load_collection

        return load_collection(
            resolve(self.source), split, cache=self.cache, scenes=dict(self.scenes) or None
        )


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
    return field(default=default, metadata={"help": help, **metadata})


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
        return tuple(value)
    if type(value) in kinds or (Mapping in kinds and isinstance(value, Mapping)):
        return value
    says = {int: "int", float: "float", bool: "bool", str: "str", tuple: "a list"}
    wanted = " or ".join(says.get(kind, "a table") for kind in kinds if kind is not NoneType)
    raise LexLIPError(f"setting {name} must be {wanted}, not {value!r}")


def read(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file and apply dotted overrides, each ``a.b=value`` in TOML's own syntax.

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
    for override in overrides:
        dotted, sign, text = override.partition("=")
        if not sign:
            raise LexLIPError(f"override {override!r} is not of the form section.key=value")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        *sections, key = dotted.split(".")
        inner = table
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise LexLIPError(f"override {override!r}: {section} is no table")
        inner[key] = value
    return table


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
