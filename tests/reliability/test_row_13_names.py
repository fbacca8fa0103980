"""Row 13 of the failure matrix: names and words with codes that a terminal would obey."""

from __future__ import annotations

import shutil

import pytest

from lexlip.models.exported import ExportedLexLIP
from lexlip.models.shipped import SHIPPED

ODD = "od\x1b[31md\rname"


@pytest.fixture
def odd(build, tmp_path):
    return shutil.move(build(), tmp_path / f"{ODD}.lex")


COMMANDS = [
    ("search", "{0}", "a red circle"), ("search", "{0}", "a red circle", "--paths"),
    ("search", "{0}", "a red circle must:\x1b[31mred"), ("search", "{0}", f"xyzzy{ODD}"),
    ("explain", "{0}", "red", "0.png"), ("explain", "{0}", "red", "0.png", "-o", "{0}/w\x1b.png"),
    ("index", "{0}-missing", "-o", "{0}"), ("delete", "{0}", ODD), ("delete", "{0}", "0.png"),
    ("compact", "{0}"), ("stats", "{0}"), ("check", "{0}"), ("check", "{0}-missing"),
    ("words", f"red {ODD}", "-m", "{1}"), ("words", f"red must:{ODD}", "-m", "{1}"),
    ("compare", "{0}", "--dense", "{0}-missing"), ("lexicalise", "{0}", "--clip", "{0}", "-o", "x"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_row_13_codes_in_names_reach_no_terminal(odd, lexlip, checkpoint, command):
    done = lexlip(*[part.format(odd, checkpoint) for part in command])
    assert done.exit_code in (0, 2), done.output
    assert "\x1b" not in done.output and "\r" not in done.output


def test_row_13_codes_in_words_of_a_model_reach_no_terminal(lexlip, monkeypatch):
    """A checkpoint from elsewhere: its vocabulary is printed too."""
    monkeypatch.setattr(ExportedLexLIP, "words_of", lambda *_: [(ODD, 1.0)])
    done = lexlip("words", "a red circle", "-m", SHIPPED)
    assert done.exit_code == 0 and "name" in done.stdout, done.output
    assert "\x1b" not in done.output and "\r" not in done.output
