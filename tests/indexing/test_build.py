"""The job that builds an index: settings from a config, a run's folder or options."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from indexing.build import Settings, app, build
from lexlip import Index
from lexlip.build.encode import chunks
from lexlip.build.encoded_parts import Encoded
from lexlip.errors import LexLIPError
from lexlip.settings import Data


def command(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def manifest(path):
    return json.loads((path / "manifest.json").read_text())


@pytest.fixture
def run(checkpoint, tmp_path):
    """A run whose second stage is the tiny model, and a config of a few scenes for it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "stage2").symlink_to(checkpoint)
    (tmp_path / "tiny.toml").write_text(
        f"""
        [data]
        source = "scenes"
        scenes = {{ train = 5, dev = 3, test = 4, size = 32 }}
        cache = "{tmp_path / "cache"}"

        [index]
        engine = "postings"
        max_terms = 6
        """
    )
    return folder, tmp_path / "tiny.toml"


def test_a_config_and_a_run_say_everything(run, model):
    folder, config = run
    result = command("--config", config, "--run", folder)
    assert result.exit_code == 0, result.output
    found = manifest(folder / "index")
    assert (found["max_terms"], found["engine"]) == (6, "postings")
    assert found["checkpoint"] == str((folder / "stage2").resolve())
    assert "3 pictures (0 skipped)" in result.stdout and "cosine" in result.stdout
    again = command("--config", config, "--run", folder)  # a run's index is replaced
    assert again.exit_code == 0 and "3 pictures" in again.stdout
    with Index.open(folder / "index", model) as index:
        assert len(index) == 3
        assert {hit.id for hit in index.search("a red circle", 9)} <= {
            f"scene-{i:06}" for i in (5, 6, 7)
        }


def test_options_go_before_the_config(run):
    folder, config = run
    out = folder / "other"
    options = ("split=test", "max_terms=2", f"out={out}")
    result = command("--config", config, "--run", folder, *options)
    assert result.exit_code == 0, result.output
    assert "4 pictures" in result.stdout and manifest(out)["max_terms"] == 2
    assert not (folder / "index").exists()


def test_the_config_may_name_the_split(run):
    folder, config = run
    config.write_text(config.read_text() + 'split = "train"\n')
    assert "5 pictures" in command("--config", config, "--run", folder).stdout


def test_any_pictures_without_a_config(checkpoint, photos, tmp_path):
    options = (f"data={photos}", f"model={checkpoint}", f"out={tmp_path / 'x'}")
    result = command(*options, "engine=postings")
    assert result.exit_code == 0, result.output
    assert "12 pictures (1 skipped)" in result.stdout
    assert manifest(tmp_path / "x")["source"] == str(photos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[index]\nmax_term = 3\n", "index.max_term; did you mean index.max_terms?"),
        ("[data]\nsorce = 'x'\n", "data.sorce; did you mean data.source?"),
        ("[index]\nengine = 3\n", "index.engine must be str, not 3"),
        ("[index\n", "not valid TOML"),
    ],
)
def test_mistakes_in_the_config_are_one_line(tmp_path, text, message):
    (tmp_path / "a.toml").write_text(text)
    result = command("--config", tmp_path / "a.toml", "--run", tmp_path / "run")
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_term=3", "unknown setting max_term; did you mean max_terms?"),
        ("workers=two", "workers must be int, not 'two'"),
        ("crops=9", "crops is 9: 0 to 4 corners"),
        ("photos", "'photos' is not of the form key=value"),
    ],
)
def test_mistakes_in_overrides_are_one_line(run, override, message):
    result = command("--config", run[1], "--run", run[0], override)
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_run_that_was_not_trained_is_named(run, tmp_path):
    result = command("--config", run[1], "--run", tmp_path / "untrained")
    assert result.exit_code == 2 and "untrained/stage2" in result.stderr
    assert not (tmp_path / "untrained").exists()


def test_nowhere_to_write_is_an_error(checkpoint, photos):
    settings = Settings(data=str(photos), model=str(checkpoint), engine="postings")
    with pytest.raises(LexLIPError, match="nowhere to write"):
        build(settings, Data())


# --- the bulk build -------------------------------------------------------------------------------


@pytest.fixture
def engine(kind):
    return kind


@pytest.fixture
def pictures(photos, tmp_path):
    """Twelve pictures in two folders, some with a year, and two broken ones between them."""
    lines = ["file_name,year"]
    for number in range(12):
        name = f"{'trip' if number % 3 else 'home'}/{number:02}.png"
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(photos / f"{number:02}.png", tmp_path / "pictures" / name)
        if number % 4:
            lines.append(f"{name},{2015 + number}")
    for name in ("home/00-broken.png", "trip/05-broken.png"):
        shutil.copy2(photos / "broken.png", tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "metadata.csv").write_text("\n".join(lines))
    return tmp_path / "pictures"


@pytest.fixture
def settings(checkpoint, pictures, tmp_path):
    """Fourteen pictures in parts of four."""
    return Settings(
        data=str(pictures),
        model=str(checkpoint),
        out=str(tmp_path / "bulk.lex"),
        max_terms=7,
        part_size=4,
    )


QUERIES = ("a red circle", "two blue squares in the snow", "star")
FILTERS = (None, "year >= 2020", "folder == 'trip' and not (year > 2024)", "bytes > 0")


def same(bulk, other):
    """Two indexes answer the same: hits, order within ties, metadata, filters; and are sound."""
    assert len(bulk) == len(other) == 12 and bulk.check() == []
    for query in QUERIES:
        for where in FILTERS:
            for k in (1, 3, 50):
                hits = bulk.search(query, k, where)
                assert hits == other.search(query, k, where) != []
    ids = [hit.id for hit in bulk.search(QUERIES[0], 50)]
    assert bulk.engine.fetch(ids) == other.engine.fetch(ids)
    assert (bulk.path / "skipped.jsonl").read_text() == (other.path / "skipped.jsonl").read_text()


def created(settings, model, path, engine, monkeypatch, **options):
    """The index that `Index.create` makes of the same, its chunks as large as the parts."""
    with monkeypatch.context() as patch:
        patch.setitem(chunks.__kwdefaults__, "size", settings.part_size)
        return Index.create(
            path, model, settings.data, max_terms=settings.max_terms, engine=engine,
            checkpoint=settings.model, **options,
        )  # fmt: skip


def test_a_bulk_build_is_what_create_builds(settings, model, engine, tmp_path, monkeypatch):
    with created(settings, model, tmp_path / "one.lex", engine, monkeypatch) as one:
        for number, shards in enumerate((1, 3)):
            out = tmp_path / f"bulk-{number}.lex"
            settings = replace(settings, out=str(out), engine=engine, shards=shards)
            with build(settings, Data()) as bulk:
                assert bulk.manifest == one.manifest
                assert [name for name, _ in bulk.skipped] == [name for name, _ in one.skipped]
                same(bulk, one)
                bulk.delete([bulk.search(QUERIES[0], 1)[0].id])  # it lives on
                assert bulk.add(settings.data).written == 1
                bulk.compact()
                bulk.add(settings.data)
                (out / "skipped.jsonl").write_text((one.path / "skipped.jsonl").read_text())
                same(bulk, one)
    assert not list(tmp_path.glob("*.parts")) and not list(tmp_path.glob(".*"))


def test_workers_on_the_command_line(settings, model, tmp_path, monkeypatch):
    options = (f"data={settings.data}", f"model={settings.model}", f"out={settings.out}")
    more = ("engine=postings", "workers=2", "shards=2", "max_terms=7")
    result = command(*options, *more, "part_size=4", "keep_parts=true")
    assert result.exit_code == 0, result.output
    assert "12 pictures (2 skipped)" in result.stdout
    with (
        Index.open(settings.out, model) as bulk,
        created(settings, model, tmp_path / "one.lex", "postings", monkeypatch) as one,
    ):
        same(bulk, one)
    assert Encoded.open(f"{settings.out}.parts").missing() == []


def test_kept_parts_make_other_indexes(settings, model, make_model, tmp_path, monkeypatch):
    settings = replace(settings, engine="postings", keep_parts=True, keep_floats=True)
    build(settings, Data()).close()
    parts = f"{settings.out}.parts"
    with (
        Index.from_encoded(tmp_path / "a.lex", parts, model, engine="postings") as bulk,
        created(
            settings, model, tmp_path / "b.lex", "postings", monkeypatch, keep_floats=True
        ) as one,
        Index.open(settings.out, model) as floats,
    ):
        same(bulk, one)
        assert floats.search("star", 5, rescore=9) == one.search("star", 5, rescore=9) != []
    with pytest.raises(LexLIPError, match="there is an index at .*a.lex"):
        Index.from_encoded(tmp_path / "a.lex", parts, engine="postings")
    with pytest.raises(LexLIPError, match="built by another model"):
        Index.from_encoded(tmp_path / "c.lex", parts, make_model(seed=1), engine="postings")
    shutil.rmtree(f"{parts}/part-000002")
    with pytest.raises(LexLIPError, match="part 2 of .* cannot be used .*encode again"):
        Index.from_encoded(tmp_path / "c.lex", parts, engine="postings")
    assert not (tmp_path / "c.lex").exists() and not list(tmp_path.glob(".*"))


def test_settings_of_the_build_may_stand_in_the_config(run):
    folder, config = run
    config.write_text(config.read_text() + "keep_parts = true\npart_size = 2\nshards = 2\n")
    assert command("--config", config, "--run", folder).exit_code == 0
    assert len(Encoded.open(folder / "index.parts")) == 2
    config.write_text(config.read_text() + "workers = 0\n")
    result = command("--config", config, "--run", folder)
    assert result.exit_code == 2 and "workers is 0" in result.stderr
    assert command("--config", config, "--run", folder, "workers=1").exit_code == 0


def test_a_corrupt_picture_costs_one_line(settings, pictures):
    settings = replace(settings, engine="postings")
    with build(settings, Data()) as index:
        lines = [json.loads(line) for line in (index.path / "skipped.jsonl").open()]
    assert [line["id"] for line in lines] == ["home/00-broken.png", "trip/05-broken.png"]
    assert all("damaged" in line["reason"] for line in lines)


def test_a_failed_build_leaves_the_old_index_and_no_new_one(settings, pictures, model, tmp_path):
    settings = replace(settings, engine="postings")
    build(settings, Data()).close()
    for path in pictures.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(LexLIPError, match="no readable picture"):
        build(settings, Data())
    with Index.open(settings.out, model) as index:
        assert len(index) == 12
    with pytest.raises(LexLIPError, match="no readable picture"):
        build(replace(settings, out=str(tmp_path / "new.lex")), Data())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bulk.lex", "pictures"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "lucine"}, "no engine 'lucine'"),
        ({"shards": 0}, "shards is 0: give 1 or more"),
        ({"out": "pictures"}, "holds no manifest.json"),
    ],
)
def test_what_would_fail_in_an_hour_fails_at_once(settings, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("indexing.build.encode", lambda *_: pytest.fail("encodes first"))
    with pytest.raises(LexLIPError, match=message):
        build(replace(settings, **{"engine": "postings", **change}), Data())
