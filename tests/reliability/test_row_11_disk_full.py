"""Row 11 of the failure matrix: a full disk. A lock goes with the failure that it was taken for."""

from __future__ import annotations

import builtins
import errno
import os
import socket

import pytest

from lexlip import LexLIPError
from lexlip.storage import folder_lock
from lexlip.storage.folder_lock import FolderLock
from lexlip.storage.generations import GenerationWriter


def _full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Full:
    """A file on a disk that is full: it can be opened, and nothing can be written."""

    def __init__(self, file):
        self._file = file

    write = flush = staticmethod(_full)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def _descriptors(folder):
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.lexists(link)].count(str(folder))


@pytest.mark.parametrize("where", ["open", "write", "unlink", "gethostname"])
def test_row_11_a_lock_does_not_outlive_its_failure(tmp_path, monkeypatch, where):
    GenerationWriter(tmp_path).close()
    if where == "unlink":  # the name of a killed writer, which cannot be removed
        (tmp_path / "OWNER").write_text("process 1 on elsewhere")
    with monkeypatch.context() as patch:
        if where == "open":
            patch.setattr(folder_lock, "open", _full, raising=False)
        if where == "write":
            patch.setattr(folder_lock, "open", lambda *a: _Full(builtins.open(*a)), raising=False)
        if where == "unlink":
            patch.setattr(type(tmp_path), "unlink", _full)
        if where == "gethostname":
            patch.setattr(socket, "gethostname", _full)
        with pytest.raises(LexLIPError, match="cannot be opened for writing: No space left"):
            GenerationWriter(tmp_path)
    if os.path.isdir("/proc/self/fd"):
        assert _descriptors(tmp_path / "LOCK") == 0
    GenerationWriter(tmp_path).close()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system follows all links")
@pytest.mark.parametrize("name", ["LOCK", "OWNER"])
def test_row_11_a_link_in_place_of_a_lock_is_not_followed(tmp_path, name):
    """An engine's folder from elsewhere: what its LOCK points to stays as it is."""
    (tmp_path / "victim").write_text("dear to somebody")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / name).symlink_to(tmp_path / "victim")
    try:
        lock = FolderLock(tmp_path / "index")
    except OSError:
        assert name == "LOCK"
    else:
        lock.release()
    assert (tmp_path / "victim").read_text() == "dear to somebody"
