"""Settings: TOML and overrides into dataclasses, with errors that say what to write."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lexlip import settings as toml
from lexlip.errors import LexLIPError
from pretrain import settings as pretraining

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    flag: bool = False


@dataclass(frozen=True)
class Outer:
    steps: int = 3
    name: str = "a"
    limit: int | None = None
    tower: str | Mapping[str, int] = ""
    paths: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[int, ...] = ()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('steps = 7\n[inner]\nrate = 0.25\n[other]\nkey = "b"\n')
    return path


def test_values_reach_their_fields():
    table = {"steps": 7, "limit": 2, "paths": ["x", "y"], "inner": {"flag": True}}
    built = toml.build(Outer, table | {"tower": {"width": 3}}, "")
    assert built == Outer(7, "a", 2, {"width": 3}, ("x", "y"), Inner(0.5, True))
    assert toml.build(Outer, {}, "") == Outer()


def test_a_whole_number_may_stand_for_a_float():
    rate = toml.build(Outer, {"inner": {"rate": 1}}, "").inner.rate
    assert rate == 1.0 and type(rate) is float


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"stpes": 1}, "unknown setting stpes; did you mean steps?"),
        ({"inner": {"rat": 1}}, "unknown setting inner.rat; did you mean inner.rate?"),
        ({"zzzzzz": 1}, "unknown setting zzzzzz; known: "),
        ({"steps": "7"}, "setting steps must be int, not '7'"),
        ({"steps": 1.5}, "setting steps must be int, not 1.5"),
        ({"steps": True}, "setting steps must be int, not True"),
        ({"name": 3}, "setting name must be str, not 3"),
        ({"limit": "x"}, "setting limit must be int, not 'x'"),
        ({"inner": {"flag": 1}}, "setting inner.flag must be bool, not 1"),
        ({"inner": {"rate": "fast"}}, "setting inner.rate must be float, not 'fast'"),
        ({"inner": 3}, "setting inner must be"),
        ({"steps": [1]}, "setting steps must be"),
        ({"steps": {"a": 1}}, "setting steps must be"),
        ({"paths": "x"}, "setting paths must be"),
    ],
)
def test_errors_name_the_key_and_what_it_takes(table, message):
    with pytest.raises(LexLIPError) as error:
        toml.build(Outer, table, "")
    assert str(error.value).startswith(message)


def test_overrides_replace_add_and_make_tables(file):
    read = toml.read(
        file, ["steps=9", "inner.rate=1e-4", "inner.flag=true", "name=two words", "new.a.b=[1, 2]"]
    )
    assert read == {
        "steps": 9,
        "inner": {"rate": 1e-4, "flag": True},
        "other": {"key": "b"},
        "name": "two words",
        "new": {"a": {"b": [1, 2]}},
    }


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["name=2024", "tower=vit"], Outer(name="2024", tower="vit")),
        (["name=true"], Outer(name="true")),
        (["name='two words'", "steps=4"], Outer(4, "two words")),
        (["paths=a,2024"], Outer(paths=("a", "2024"))),
        (['paths=["a,b", "c"]'], Outer(paths=("a,b", "c"))),
        (["paths=a,b", "paths=c"], Outer(paths=("a", "b", "c"))),
        (["sizes=8,16"], Outer(sizes=(8, 16))),
        (["sizes=8"], Outer(sizes=(8,))),
        (["sizes=8", "sizes=[16, 32]"], Outer(sizes=(8, 16, 32))),
        (["tower.width=3", "limit=2"], Outer(limit=2, tower={"width": 3})),
        (["inner.rate=1", "inner.flag=true"], Outer(inner=Inner(1.0, True))),
        (["steps=1", "steps=2"], Outer(2)),
    ],
)
def test_overrides_are_read_for_their_fields(overrides, expected):
    assert toml.from_overrides(Outer, overrides) == expected


def test_a_list_on_the_command_line_replaces_that_of_the_file():
    table = toml.override({"paths": ["x"]}, ["paths=y"], Outer)
    assert table == {"paths": ["y"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step=1", "unknown setting step; did you mean steps?"),
        ("sizes=8,x", "setting sizes must be int, not 'x'"),
        ("steps=8,9", "setting steps must be int, not '8,9'"),
        ("inner.flag=yes", "setting inner.flag must be bool, not 'yes'"),
    ],
)
def test_wrong_overrides_name_the_key(text, message):
    with pytest.raises(LexLIPError) as error:
        toml.from_overrides(Outer, [text])
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("override", ["steps", "steps.deeper=1", "inner"])
def test_a_broken_override_is_named(file, override):
    with pytest.raises(LexLIPError, match=override.split("=")[0]):
        toml.read(file, [override])


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "a.toml").write_text("steps = = 7")
    with pytest.raises(LexLIPError, match=r"a\.toml is not valid TOML"):
        toml.read(tmp_path / "a.toml")


def test_a_missing_config_lists_the_shipped_ones(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(LexLIPError, match="no config scnes.*'flickr8k-tiny', .*'scenes'"):
        toml.read("scnes")


SHIPPED = sorted((REPOSITORY / "pretrain" / "configs").glob("*.toml"))


@pytest.mark.parametrize("config", [path.stem for path in SHIPPED])
def test_every_shipped_config_loads_by_its_name(config, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    loaded = pretraining.load(config, ["stage1.lr=1e-4"])
    assert loaded.name == config and loaded.stage1.lr == 1e-4
    assert loaded.stage2.queue_size > 0
    by_path = pretraining.load(REPOSITORY / "pretrain" / "configs" / f"{config}.toml")
    assert by_path.model == loaded.model and by_path.data == loaded.data


def test_tables_of_other_jobs_do_not_matter_to_training(tmp_path):
    (tmp_path / "a.toml").write_text('name = "a"\n[index]\nx = 1\n[bench]\ny = 2\n')
    assert pretraining.load(tmp_path / "a.toml").name == "a"
    (tmp_path / "a.toml").write_text("[indx]\nx = 1\n")
    with pytest.raises(LexLIPError, match="indx"):
        pretraining.load(tmp_path / "a.toml")


def test_places_are_resolved(monkeypatch):
    monkeypatch.setenv("LEXLIP_DATA", "/elsewhere")
    monkeypatch.delenv("LEXLIP_WEIGHTS", raising=False)
    monkeypatch.setenv("MINE", "/home")
    assert toml.resolve("$LEXLIP_DATA/a.txt") == "/elsewhere/a.txt"
    assert toml.resolve("$LEXLIP_WEIGHTS/vit") == f"{toml.DEFAULTS['LEXLIP_WEIGHTS']}/vit"
    assert toml.resolve("$MINE/a") == "/home/a"
    assert toml.resolve("flickr8k") == "flickr8k"


def test_a_folder_inside_a_package_is_found(tmp_path, monkeypatch):
    (tmp_path / "some_tower" / "model").mkdir(parents=True)
    (tmp_path / "some_tower" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = toml.resolve("package:some_tower/model")
    assert os.path.samefile(found, tmp_path / "some_tower" / "model")
    with pytest.raises(LexLIPError, match="pip install no-such-tower"):
        toml.resolve("package:no_such_tower/model")


def test_scenes_are_drawn_in_the_sizes_asked_for(tmp_path):
    sizes = {"train": 4, "dev": 2, "test": 0, "size": 32}
    data = toml.Data(scenes=sizes, cache=str(tmp_path))
    assert len(data.open("train")) == 4 and len(data.open("dev")) == 2
    assert data.open("train").image(0).size == (32, 32)
