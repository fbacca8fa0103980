"""Publication to a cluster: what is there is not sent again, and nothing wrong is ever served."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from indexing import publish as job
from indexing.publish import Settings, app, publish
from lexlip import Index
from lexlip.build.encode import encode_pictures
from lexlip.build.encoded_parts import Encoded
from lexlip.build.recipe import Recipe
from lexlip.data.collection import load_collection
from lexlip.engines import OpenSearchEngine
from lexlip.engines.opensearch import builds
from lexlip.engines.opensearch.place import Place
from lexlip.errors import LexLIPError
from tests.support.cone_speaker import cone_speaker, picture

real = [pytest.mark.engine, pytest.mark.xdist_group("opensearch")]
ROOT = Path(__file__).resolve().parents[2]
QUERIES = ("a red circle", "two blue squares in the snow", "star")


@pytest.fixture(scope="module")
def parts(checkpoint, model, photos, tmp_path_factory):
    """Twelve pictures and a broken one, in parts of three."""
    folder = tmp_path_factory.mktemp("parts") / "photos.parts"
    source = load_collection(photos)
    with Encoded.plan(folder, model, source, Recipe(max_terms=7), checkpoint, 3) as encoded:
        for number in encoded.missing():
            encoded.write(number, encode_pictures(model, source, encoded.rows(number)))
    return folder


@pytest.fixture
def place(opensearch):
    return Place.parse(opensearch.place())


@pytest.fixture
def settings(parts, place, tmp_path):
    engine = f"opensearch:{place.nodes[0]}/{place.name}"
    return Settings(str(parts), str(tmp_path / "x.lex"), engine, commit=3, sample=8, seed=1)


@pytest.fixture
def local(parts, model, tmp_path):
    """The same documents in an index on this machine."""
    Index.from_encoded(tmp_path / "local.lex", parts, model, engine="postings").close()
    return tmp_path / "local.lex"


def words_of(settings):
    """Settings as a command line has them."""
    return [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in vars(settings).items()
    ]


def same(path, other, model, queries=QUERIES):
    """Two indexes answer the same, and are sound."""
    with Index.open(path, model) as ours, Index.open(other, model) as theirs:
        assert sorted(ours) == sorted(theirs) and ours.check() == []
        ids = sorted(ours)
        assert ours.engine.fetch(ids) == theirs.engine.fetch(ids)
        assert (ours.impacts(ids) != theirs.impacts(ids)).nnz == 0
        for query in queries:
            for where in (None, "bytes > 90")[: 1 + bool(ours.engine.kinds)]:
                for k in (1, 3, 50):
                    assert ours.search(query, k, where) == theirs.search(query, k, where)
        assert len(ours.search(queries[0], 50)) > 3
        facts = (dict(it.manifest) for it in (ours, theirs))
        assert all({**fact, "engine": ""} == {**theirs.manifest, "engine": ""} for fact in facts)


def served(place):
    """Where the name leads to, and how many builds there are."""
    with place.client() as client:
        return builds.served(client, place), len(client.indices.get(index=f"{place.name}*"))


def listed(path):
    with Index.open(path) as index:
        return sorted(index)


class TestACluster:
    pytestmark = real

    def test_parts_and_an_index_become_the_same(self, settings, local, model, place, tmp_path):
        done = publish(settings)
        assert (done.documents, done.sent, done.compared, done.seed) == (12, 12, 8, 1)
        same(settings.out, local, model)
        ours, theirs = (Path(it) / "skipped.jsonl" for it in (settings.out, local))
        assert ours.read_text() == theirs.read_text() != ""
        second = replace(
            settings, source=str(local), out=str(tmp_path / "y.lex"), engine=f"{settings.engine}-y"
        )
        assert publish(second).sent == 12
        same(second.out, settings.out, model)
        again = publish(second)  # it is there
        assert (again.sent, again.documents) == (0, 12)
        with Index.open(local, model, "w") as index:
            index.delete(["03.png"])
            index.compact()
            index.add(index.manifest["source"])  # the broken one is still skipped
        with Index.open(second.out, model, "w") as index:
            index.delete(["00.png"])
        (index_of_y,), _ = served(Place.parse(second.engine.partition(":")[2]))
        assert publish(second).sent == 12  # both are others now
        same(second.out, local, model)
        assert served(Place.parse(second.engine.partition(":")[2]))[0] != [index_of_y]
        assert not list(tmp_path.glob("*.publishing"))
        with Index.open(second.out, model, "w") as index:  # it lives on
            assert index.add(index.manifest["source"]).unchanged == 12

    def test_vectors_and_floats_go_along(self, settings, place, tmp_path):
        speaker = cone_speaker(120, 80)[0]
        pictures = {f"p{number}": picture(number) for number in range(40)}
        options = {"engine": "postings", "keep_floats": True}
        Index.create(tmp_path / "v.lex", speaker, pictures, **options).close()
        publish(replace(settings, source=str(tmp_path / "v.lex")))
        same(settings.out, tmp_path / "v.lex", speaker, ("caption 3", "caption 17"))
        with Index.open(settings.out, speaker) as ours, Index.open(tmp_path / "v.lex") as theirs:
            ids = sorted(ours)
            floats = (it.side_stores.floats.read(ids) for it in (ours, theirs))
            assert abs(next(floats) - next(floats)).max() == 0
        moved = replace(
            settings,
            source=settings.out,
            out=str(tmp_path / "z.lex"),
            engine=f"{settings.engine}-z",
        )
        publish(moved)  # from one cluster to the next
        same(moved.out, tmp_path / "v.lex", speaker, ("caption 3", "caption 17"))

    @pytest.mark.parametrize(
        ("point", "there"),
        [
            ("indexing.staging:begin_build", 0),
            ("lexlip.engines.opensearch.engine:write_state", 0),
            ("lexlip.engines.opensearch.writing:Writer.commit@2", 3),
            ("lexlip.engines.opensearch.writing:send_apart@4", 9),
            ("indexing.publish:differences", 12),
            ("indexing.staging:put_in_place", 12),
            ("indexing.staging:serve_build", None),
        ],
    )
    def test_a_killed_job_goes_on(self, settings, parts, local, model, place, point, there):
        given = words_of(settings)
        command = [sys.executable, "-c", KILLED, point, *given]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        killed = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        if there is not None:
            assert served(place)[0] == [] and not Path(settings.out).exists()
        done = publish(settings)
        assert done.sent == (0 if there is None else 12 - there) and done.documents == 12
        same(settings.out, local, model)
        (index,), count = served(place)
        assert count == 1  # what a kill left without a folder goes at once
        with place.client() as client:
            client.indices.refresh(index=index)
            assert client.count(index=index)["count"] == 12 + 1  # with the state: nothing twice

    def test_what_is_not_right_is_never_served(
        self, settings, parts, local, model, place, monkeypatch, tmp_path
    ):
        publish(settings)
        before = served(place)
        with Index.open(local, model, "w") as index:
            index.delete(["03.png"])
        other = replace(settings, source=str(local), sample=11)
        real = job.differences

        def spoiled(change):
            def compare(engine, *rest):
                (hit,) = engine._view.find(["05.png"]).values()
                change(engine._client, engine.place.name, hit["_id"])
                return real(engine, *rest)

            monkeypatch.setattr(job, "differences", compare)

        def impacts(client, index, key):
            doc = {"doc": {"imp": {"3": 7}}}
            client.update(index=index, id=key, body=doc, params={"refresh": "true"})

        def metadata(client, index, key):
            doc = {"doc": {"row": {"json": '{"bytes":1}'}}}
            client.update(index=index, id=key, body=doc, params={"refresh": "true"})

        def gone(client, index, key):
            client.delete(index=index, id=key, params={"refresh": "true"})

        for change, line in [
            (impacts, "1 of 11 have other impacts, as '05.png'; seed=1"),
            (metadata, "1 of 11 have other metadata, as '05.png'"),
            (gone, "is damaged: 10 documents of 11"),
        ]:
            spoiled(change)
            with pytest.raises(LexLIPError, match="the old index stays") as error:
                publish(other)
            assert line in str(error.value) and "\n" not in str(error.value)
            assert served(place) == before and len(listed(settings.out)) == 12
            assert not list(tmp_path.glob("*.publishing"))
        monkeypatch.setattr(job, "differences", real)
        assert publish(other).sent == 11 and len(listed(settings.out)) == 11

    def test_a_build_of_another_source_is_begun_anew(self, settings, local, model, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(job, "differences", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                publish(settings)
        assert Path(f"{settings.out}.publishing/index").is_dir()
        with Index.open(local, model, "w") as index:
            index.delete(["07.png"])
        done = publish(replace(settings, source=str(local)))
        assert done.sent == 11 and len(listed(settings.out)) == 11
        assert publish(replace(settings, source=str(local), fresh=True)).sent == 11

    def test_the_command(self, settings, place):
        given = words_of(settings)
        result = CliRunner().invoke(app, given)
        assert result.exit_code == 0, result.output
        assert "12 documents, 12 sent in" in result.stdout and "a second)" in result.stdout
        assert "8 compared (seed=1)" in result.stdout
        assert "published already" in CliRunner().invoke(app, given).stdout
        assert isinstance(Index.open(settings.out).engine, OpenSearchEngine)


KILLED = """
import importlib, os, signal, sys

point, *given = sys.argv[1:]
module, _, name = point.partition(":")
name, _, number = name.partition("@")
owner = importlib.import_module(module)
while "." in name:
    first, _, name = name.partition(".")
    owner = getattr(owner, first)
real, left = getattr(owner, name), [int(number or 1)]

def killed(*args, **options):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **options)

setattr(owner, name, killed)
from indexing.publish import app
app(given)
"""


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"source": ""}, "give source=PARTS or source=INDEX"),
        ({"out": ""}, "give source=PARTS or source=INDEX"),
        ({"engine": "postings"}, "postings is an engine of this machine"),
        ({"engine": ""}, "no engine"),
        ({"engine": "opensearch:nowhere"}, "has no place"),
        ({"commit": 0}, "commit is 0: give 1 or more"),
        ({"sample": 0}, "sample is 0: give 1 or more"),
        ({"source": "{tmp}/none"}, "no encoded documents in"),
        ({"source": "{tmp}/x.lex"}, "is the source too"),
        ({"max_skipped": 0.01}, "1 of 13 pictures were skipped"),
    ],
)
def test_mistakes_are_said_at_once(parts, tmp_path, change, line):
    kind = "opensearch:http://127.0.0.1:1/photos"
    settings = Settings(str(parts), str(tmp_path / "x.lex"), kind)
    given = {name: str(it).replace("{tmp}", str(tmp_path)) if name == "source" else it
             for name, it in change.items()}  # fmt: skip
    with pytest.raises(LexLIPError, match=line) as error:
        publish(replace(settings, **given))
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_missing_part_is_named(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "p")
    shutil.rmtree(tmp_path / "p" / "part-000002")
    kind = "opensearch:http://127.0.0.1:1/photos"
    with pytest.raises(LexLIPError, match="part 2 of .* cannot be used"):
        publish(Settings(str(tmp_path / "p"), str(tmp_path / "x.lex"), kind))
