"""Builds behind an alias: replacements on the same name, readers meanwhile, kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scipy.sparse import csr_array

from lexlip import Index
from lexlip.build import write
from lexlip.engines import Hit, OpenSearchEngine
from lexlip.engines.opensearch import builds
from lexlip.engines.opensearch.documents import body
from lexlip.engines.opensearch.place import Place
from lexlip.engines.opensearch.state import State, write_state
from lexlip.errors import LexLIPError

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("opensearch")]

ROOT = Path(__file__).resolve().parents[3]
QUERY = "a red circle"


@pytest.fixture
def place(opensearch):
    return Place.parse(opensearch.place())


@pytest.fixture
def client(place):
    with place.client() as client:
        yield client


@pytest.fixture
def create(model, images, place, tmp_path):
    """Return a function: make, or replace, the index of some of the pictures."""

    def create(*numbers, replace=True, **options):
        pictures = {f"{number:02}": images[number] for number in numbers}
        engine = f"opensearch:{place.nodes[0]}/{place.name}"
        return Index.create(
            tmp_path / "x.lex", model, pictures, engine=engine, replace=replace, **options
        )

    return create


def indexes(client, place):
    """The indexes of a name, and the one that it leads to."""
    found = sorted(client.indices.get(index=f"{place.name}*"))
    return found, builds.served(client, place)


def test_a_replacement_takes_the_same_name(create, client, place, model, tmp_path):
    create(0, 1, 2).close()
    (first,), served = indexes(client, place)
    assert served == [first] != [place.name] and first.startswith(f"{place.name}-")
    kept = json.loads((tmp_path / "x.lex" / "engine" / "opensearch.json").read_text())
    assert kept["index"] == first and kept["made"]
    shutil.copytree(tmp_path / "x.lex", tmp_path / "copy.lex")
    with Index.open(tmp_path / "x.lex", model) as old, Index.open(tmp_path / "copy.lex") as copy:
        assert old.stats()["cluster_index"] == first
        before = old.search(QUERY, 9)
        with pytest.raises(LexLIPError, match="there is an index at .*x.lex"):
            create(3, replace=False)
        create(3, 4, 5, 6).close()
        names, (second,) = indexes(client, place)
        assert names == sorted([first, second]) and second != first
        # who has the old one open stays with it, until it goes on
        assert old.search(QUERY, 9) == before and sorted(copy) == ["00", "01", "02"]
        assert old.stale() and old.reopen() and sorted(old) == ["03", "04", "05", "06"]
        create(7).close()
        names, (third,) = indexes(client, place)
        assert names == sorted([second, third])
        assert sorted(old) == ["03", "04", "05", "06"] and old.check() == []
        with pytest.raises(LexLIPError, match="was it deleted, or replaced twice") as error:
            copy.engine.search({0: 1}, 9)
        assert "\n" not in str(error.value) and first in str(error.value)


def test_readers_get_one_index_or_the_other(create, model, tmp_path):
    create(0, 1, 2, 3).close()
    done, answers, errors = threading.Event(), [], []

    def read():
        try:
            with Index.open(tmp_path / "x.lex", model) as index:
                while not done.is_set():
                    if index.stale():
                        index.reopen()
                    found = {hit.id for hit in index.engine.search(terms, 99)}
                    answers.append((frozenset(index), found))
                    done.wait(0.02)
        except Exception as error:
            errors.append(error)

    terms = dict.fromkeys(range(1000), 1)
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for numbers in ((4, 5), (6, 7, 8), (9, 10)):
            create(*numbers).close()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    known = [{"00", "01", "02", "03"}, {"04", "05"}, {"06", "07", "08"}, {"09", "10"}]
    assert errors == [] and len(answers) > 20
    assert all(set(ids) in known and found <= ids for ids, found in answers)
    assert len({ids for ids, _ in answers}) > 1  # readers moved on meanwhile


KILLED = """
import os, signal, sys
from pathlib import Path
from scipy.sparse import csr_array
from lexlip.build.recipe import Recipe
from lexlip.build.write import ENGINE, index_folder
from lexlip.engines import open_engine

path, kind, point = sys.argv[1:]
with index_folder(Path(path), Recipe(engine=kind), replace=True) as folder:
    if point == "begun":
        os.kill(os.getpid(), signal.SIGKILL)
    engine = open_engine(kind, folder / ENGINE, "w")
    engine.add(["half"], csr_array([[1]]))
    if point == "committed":
        engine.commit()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_replacement_left_goes_with_the_next(
    create, client, place, model, tmp_path, monkeypatch
):
    create(0, 1).close()
    kind = f"opensearch:{place.nodes[0]}/{place.name}"
    left = []
    for point in ("begun", "sent", "committed"):
        command = [sys.executable, "-c", KILLED, tmp_path / "x.lex", kind, point]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
        names, (served,) = indexes(client, place)
        left += [name for name in names if name != served and name not in left]
        with Index.open(tmp_path / "x.lex", model) as index:
            assert sorted(index) == ["00", "01"] and index.engine.place.name == served
    assert len(left) == 2  # one began before there was an index, and each went with the next
    # Of another machine nobody knows whether it lives: it stays for a week.
    names, (first,) = indexes(client, place)
    (orphan,) = set(names) - {first}
    monkeypatch.setattr(builds.socket, "gethostname", lambda: "elsewhere")
    create(2, 3).close()
    names, (second,) = indexes(client, place)
    assert names == sorted([first, second, orphan])
    monkeypatch.setattr(builds, "_AWAY", -1)
    create(4).close()
    names, (third,) = indexes(client, place)
    assert names == sorted([second, third])


def test_a_kill_between_folder_and_name_is_mended(create, client, place, model, tmp_path):
    create(0, 1).close()
    _, (first,) = indexes(client, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "serve_build", lambda *_: None)  # as if it ended here
        patch.setattr(OpenSearchEngine, "_serve", lambda *_: None)
        create(2).close()
    names, served = indexes(client, place)
    assert served == [first] and len(names) == 2
    with Index.open(tmp_path / "x.lex", model) as index:  # the folder decides
        assert sorted(index) == ["02"]
        create(3).close()  # nothing of the served one or of the folder's was deleted before
        assert sorted(index) == ["02"]
    with Index.open(tmp_path / "x.lex", model, "w") as index:
        assert sorted(index) == ["03"]
        _, served = indexes(client, place)
        assert served == [index.engine.place.name]


def test_nothing_of_others_is_deleted(create, client, place, opensearch, model, images, tmp_path):
    other = Place.parse(f"{place.nodes[0]}/{place.name}-more")
    more = f"opensearch:{other.nodes[0]}/{other.name}"
    Index.create(tmp_path / "more.lex", model, {"m": images[0]}, engine=more).close()
    client.indices.create(index=f"{place.name}-theirs")
    create(0, 1).close()
    create(2, 3).close()
    create(4, 5).close()
    names, served = indexes(client, place)
    assert len(names) == 4 and f"{place.name}-theirs" in names
    with Index.open(tmp_path / "more.lex", model) as index:
        assert sorted(index) == ["m"]
    with pytest.raises(LexLIPError, match=f"\\(it is {served[0]}\\) already: take another name"):
        kind = f"opensearch:{place.nodes[0]}/{place.name}"
        Index.create(tmp_path / "second.lex", model, {"n": images[0]}, engine=kind)
    assert not (tmp_path / "second.lex").exists() and indexes(client, place) == (names, served)


def test_a_failed_replacement_leaves_nothing(create, client, place, images, model, tmp_path):
    create(0, 1).close()
    before = indexes(client, place)
    with pytest.raises(LexLIPError, match="were skipped, more than"):
        pictures = {"0": images[0], "1": tmp_path / "none.png"}
        kind = f"opensearch:{place.nodes[0]}/{place.name}"
        (tmp_path / "none.png").write_bytes(b"none")
        Index.create(
            tmp_path / "x.lex", model, pictures, engine=kind, replace=True, max_skipped=0.1
        )
    assert indexes(client, place) == before
    with Index.open(tmp_path / "x.lex", model) as index:
        assert sorted(index) == ["00", "01"]


def test_an_index_of_an_earlier_lexlip_goes_on(client, place, tmp_path):
    """Its name is that of the index itself, and its folder knows the owner alone."""
    folder, kind = tmp_path / "x.lex" / "engine", f"opensearch:{place.nodes[0]}/{place.name}"
    folder.mkdir(parents=True)
    (folder / "opensearch.json").write_text(json.dumps({"owner": "their-owner"}))
    client.indices.create(index=place.name, body=body(1, 0))
    write_state(client, place, State("their-owner", "writer"))
    text = kind.partition(":")[2]
    with open_in(folder, "w", text) as engine:
        engine.add(["a"], csr_array([[3]]))
        engine.commit()
    served = []
    for number in range(3):
        with open_in(folder, "r", text) as reader:
            held = reader.search({0: 1}, 9)
            replace_with(tmp_path / "x.lex", kind, f"new-{number}")
            assert reader.search({0: 1}, 9) == held
        with open_in(folder, "w", text) as engine:
            assert engine.search({0: 1}, 9) == [Hit(f"new-{number}", 5)]
        served.append(builds.served(client, place))
    # the first replacement leaves the old index its name; the second takes it
    names, _ = indexes(client, place)
    assert served[0] == [place.name] and served[1] != served[2] and place.name not in served[1]
    assert len(names) == 2 and place.name not in names


def open_in(folder, mode, place):
    from contextlib import closing

    return closing(OpenSearchEngine(folder, mode, place))


def replace_with(path, kind, id):
    """Replace an index, as `Index.create` does, by one of a document."""
    from lexlip.build.recipe import Recipe

    (path / "manifest.json").write_text("{}")
    with write.index_folder(path, Recipe(engine=kind), replace=True) as folder:
        with open_in(folder / "engine", "w", kind.partition(":")[2]) as engine:
            engine.add([id], csr_array([[5]]))
            engine.commit()
        (folder / "manifest.json").write_text("{}")
