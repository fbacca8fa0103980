"""Readers during a compaction: they see all of their commit, or are told to open again."""

from __future__ import annotations

import threading

from scipy.sparse import csr_array

from lexlip.engines import Hit
from lexlip.errors import LexLIPError


def test_a_reader_loses_nothing_while_its_commit_is_dropped(new_engine):
    engine = new_engine("index")
    names = [f"d{number:03}" for number in range(60)]
    engine.add(names, csr_array([[5]] * 60))
    engine.commit()
    reader = new_engine("index", "r")
    whole = [Hit(name, 5) for name in names]
    engine.add(names, csr_array([[7]] * 60))
    engine.commit()
    answers, told, end = [], [], threading.Event()

    def search():
        while not end.is_set() and not told:
            try:
                answers.append(reader.search({0: 1}, 100))
            except LexLIPError as error:
                told.append(str(error))

    thread = threading.Thread(target=search)
    thread.start()
    engine.compact()
    end.wait(1.5)
    end.set()
    thread.join()
    assert answers and all(found == whole for found in answers)
    assert all("open it again" in line for line in told)
    assert reader.reopen() and reader.search({0: 1}, 1) == [Hit("d000", 7)]
