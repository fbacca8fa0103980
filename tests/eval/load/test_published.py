"""The study of publication: indexes that are compared whole."""

from __future__ import annotations

from eval.load.published import checksum, local
from lexlip import Index


def test_checksums_tell_indexes_apart(tmp_path):
    (tmp_path / "again").mkdir()
    first, _ = local(tmp_path, "one", 60, seed=0)
    again, _ = local(tmp_path / "again", "one", 60, seed=0)
    other, _ = local(tmp_path, "two", 60, seed=0)
    assert checksum(first) == checksum(again) and checksum(first)[0] == 60
    assert checksum(other)[1] != checksum(first)[1]  # the same impacts under other ids
    with Index.open(first, mode="w") as index:
        index.delete(["one-0000007.jpg"])
    assert checksum(first)[0] == 59 and checksum(first)[1] != checksum(again)[1]
