"""Files behind URLs: on disk, in memory, and on a web server that refuses some of them."""

from __future__ import annotations

import os
import sys

import pytest

from lexlip.errors import LexLIPError
from lexlip.storage import remote
from lexlip.storage.remote import Remote, Unreachable, is_remote, shown
from tests.support.file_server import serving

NANOSECOND = 1_700_000_000_123_456_000


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos" / "trip").mkdir(parents=True)
    (tmp_path / "photos" / "a.txt").write_bytes(b"0123456789")
    (tmp_path / "photos" / "trip" / "b.txt").write_bytes(b"below")
    os.utime(tmp_path / "photos" / "a.txt", ns=(0, NANOSECOND))
    return tmp_path / "photos"


@pytest.mark.parametrize("text", ["photos", "/photos", "C:\\photos", "C:/photos", "a:b", "", 3])
def test_paths_are_no_urls(text):
    assert not is_remote(text)


def test_a_folder_on_disk_behind_a_url(folder):
    place = Remote(folder.as_uri())
    assert [facts.url for facts in place.files()] == [
        (folder / "a.txt").as_uri(), (folder / "trip" / "b.txt").as_uri()
    ]  # fmt: skip
    facts = (place / "a.txt").facts()
    assert facts.size == 10 and abs(facts.modified - NANOSECOND) < 1000
    assert place.is_folder() and not (place / "a.txt").is_folder()
    assert [it.url for it in (place / "*.txt").matching()] == [(folder / "a.txt").as_uri()]
    with (place / "a.txt").open() as file:
        assert file.read(3) == b"012"


def test_what_is_written_is_read_and_removed():
    place = Remote("memory://written/deep/x.bin")
    place.write(b"\0\1\2")
    assert place.read() == b"\0\1\2" and place.read(1, 1) == b"\1" and place.exists()
    Remote("memory://written").remove()
    assert not place.exists()
    place.remove()  # a missing one is fine
    with pytest.raises(LexLIPError, match="memory://written/deep/x.bin does not exist") as told:
        place.read()
    assert not isinstance(told.value, Unreachable)


def test_a_web_server(folder, monkeypatch):
    refuse = {"/forbidden": 403, "/login": 401, "/broken": 500, "/silent": 0}
    monkeypatch.setattr(remote, "TIMEOUT", 0.5)
    with serving(folder, refuse) as (url, asked):
        place = Remote(f"{url}/a.txt")
        assert place.read() == b"0123456789" and place.read(2, 3) == b"234"
        assert ("GET", "/a.txt", "bytes=2-4") in asked
        facts = place.facts()
        assert facts.size == 10 and facts.etag
        assert abs(facts.modified - NANOSECOND) < 10**9 and facts.modified % 10**9 == 0
        assert [it.url for it in Remote(f"{url}/trip/").files()] == [f"{url}/trip/b.txt"]
        with pytest.raises(LexLIPError, match="does not exist: check its name"):
            Remote(f"{url}/nothing").read()
        for name, line in {
            "forbidden": "access is refused .*403.*check the keys",
            "login": "access is refused .*401",
            "broken": "cannot be read .*500",
            "silent": "no answer within 0.5 s",
        }.items():
            for ask in (Remote.read, Remote.facts, lambda place: place.open().read()):
                with pytest.raises(Unreachable, match=line) as told:
                    ask(Remote(f"{url}/{name}"))
                assert "\n" not in str(told.value)
    with pytest.raises(Unreachable, match="cannot be read"):
        Remote(f"{url}/a.txt").read()  # the server is gone


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("s3://bucket/a", "s3:// needs s3fs: pip install s3fs"),
        ("gs://bucket/a", "gs:// needs gcsfs: pip install gcsfs"),
        ("abfs://bucket/a", "abfs:// needs adlfs: pip install adlfs"),
        ("nonsense://bucket/a", "nonsense:// is unknown: give s3://"),
        ("simplecache::s3://bucket/a", "a chain of URLs is not read"),
    ],
)
def test_what_cannot_be_reached_at_all(url, line, monkeypatch):
    for package in ("s3fs", "gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LexLIPError, match=line):
        Remote(url).read()


def test_a_password_is_not_shown(folder):
    with pytest.raises(LexLIPError) as told:
        Remote("nonsense://me:secret@host/a").read()
    assert "secret" not in str(told.value)
    assert shown("https://host/a@b") == "https://host/a@b"
