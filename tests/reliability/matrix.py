"""The failure matrix: what may go wrong, what lexlip promises then, and the tests of it.

`python -m tests.reliability.matrix FIGURES` writes docs/reliability.md from the tests' names and
first lines, and from the figures that a run of them measured (make reliability). Without a file it
takes the figures of the last run: after a test was added or renamed.
"""

# ruff: noqa: E501  (a table)
from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
FIGURES = ROOT / "docs" / "results" / "reliability.json"


@dataclass(frozen=True)
class Row:
    """One row of the matrix.

    Attributes
    ----------
    number : int
    failure : str
        What happens.
    promise : str
    elsewhere : tuple of str
        Tests of other folders, ``file::name``. Those of this folder are found by their names,
        ``test_row_NN_...``.
    """

    number: int
    failure: str
    promise: str
    elsewhere: tuple[str, ...] = ()


_RESUME, _PARALLEL = "tests/pretrain/test_resume.py::", "tests/pretrain/test_parallel.py::"
_ENCODE, _POSTINGS = (
    "tests/indexing/test_encode.py::",
    "tests/lexlip/engines/postings/test_crash.py::",
)
_IMAGES, _SERVER = "tests/lexlip/data/test_images.py::", "tests/lexlip/server/"

ROWS = (
    Row(1, "Training is killed", "a resumed run ends in the same bits",
        (_RESUME + "test_kill_9_at_random_moments_changes_nothing",
         _RESUME + "test_a_kill_between_the_two_renames_of_a_save")),
    Row(2, "One of several training processes is killed",
        "the launcher ends, or starts all again, and the run ends in the same bits"),
    Row(3, "Indexing is killed", "the last commit is there, whole; the same job made again completes",
        (_POSTINGS + "test_a_killed_writer_leaves_a_whole_commit",
         "tests/lexlip/storage/test_generations.py::test_death_at_every_step_leaves_old_or_new",
         "tests/lexlip/storage/test_forward_failures.py::*killed*")),
    Row(4, "A process that encodes is killed", "one line; a second run ends with each id once",
        (_ENCODE + "test_a_dead_worker_is_one_line_and_finished_parts_stay",
         _ENCODE + "test_a_killed_encode_goes_on")),
    Row(5, "Corrupt pictures, odd names, odd dates",
        "a line each with the reason, the job goes on; --max-skipped makes many of them an error"),
    Row(6, "Pictures that are small on disk and huge in memory or time",
        "refused by their header, or decoded in bounded memory and time",
        (_IMAGES + "test_bombs_are_refused_by_their_header", _IMAGES + "test_too_many_bytes",
         "tests/field/test_bounds.py::*")),
    Row(7, "Archives that unpack outside, or to much", "no archive is unpacked; one of vectors expands within bounds"),
    Row(8, "Paths and links that lead out of the folder",
        "nothing is sent but pictures that were indexed",
        (_SERVER + "test_images.py::test_nothing_but_indexed_pictures_is_sent",
         _SERVER + "test_images.py::test_an_id_that_climbs_out_of_the_folder_is_not_followed",
         _SERVER + "test_links.py::*")),
    Row(9, "A hostile checkpoint", "no code of it runs, and refusing it costs little",
        ("tests/test_layering.py::*pickle*",)),
    Row(10, "A loss that is no number",
        "all processes skip the step; after some in a row the run ends, and writes no checkpoint",
        (_RESUME + "test_a_bad_step_leaves_no_trace",
         _RESUME + "test_too_many_bad_steps_end_the_run_before_a_checkpoint",
         _PARALLEL + "test_a_bad_step_of_one_process_is_skipped_by_all_and_one_log_is_written")),
    Row(11, "A disk that is full or broken", "one line; what was committed stays; writing goes on later",
        ("tests/lexlip/engines/test_full_disk.py::*",
         _POSTINGS + "test_a_full_disk_at_every_step_keeps_the_last_commit",
         _RESUME + "test_a_full_disk_keeps_the_last_checkpoint",
         _SERVER + "test_health.py::*full_disk*")),
    Row(12, "An empty query", "refused with a reason, or no hits",
        ("tests/lexlip/cli/test_cli.py::test_an_empty_query",
         _SERVER + "test_searches.py::test_bad_searches_are_refused_with_a_reason")),
    Row(13, "Any Unicode, and codes that terminals obey", "the same answer each time, and no crash",
        ("tests/lexlip/query/test_parser.py::*any_text*",
         _SERVER + "test_schema.py::test_no_request_breaks_the_server")),
    Row(14, "A query of a megabyte", "refused before it is read as a query",
        (_SERVER + "test_guard.py::test_a_body_is_cut_off_where_it_is_too_long",
         _SERVER + "test_bodies.py::*")),
    Row(15, "Words that nobody knows", "no hits, and a note",
        ("tests/lexlip/query/test_index.py::*known_word*",
         "tests/lexlip/cli/test_cli.py::test_unknown_words_find_nothing")),
    Row(16, "Search while an index is written or replaced", "the old index or the new one, never both",
        (_SERVER + "test_live.py::test_no_answer_mixes_two_commits",
         "tests/lexlip/storage/test_generations.py::*readers_see*", "tests/field/test_replaced.py::*")),
    Row(17, "Another model than the index has", "refused in one line",
        ("tests/lexlip/cli/test_cli.py::*another_model*", "tests/field/test_precision.py::*")),
    Row(18, "Bits that change on the disk",
        "lexlip check names every file; nothing that is damaged is written anew as sound"),
    Row(19, "Slow clients, and more connections than descriptors", "others are served on",
        (_SERVER + "test_connections.py::*",
         _SERVER + "test_guard.py::test_what_takes_too_long_is_answered_and_too_many_are_sent_away")),
    Row(20, "An address where a picture is expected", "nothing is fetched"),
    Row(21, "An engine or an index that is away", "one line; health says so; what is open is served on",
        (_SERVER + "test_health.py::*gone*",)),
    Row(22, "An id that comes twice", "the last one wins, or the source is refused",
        ("tests/lexlip/engines/test_engines.py::test_the_last_document_of_an_id_wins",
         "tests/lexlip/data/test_collection.py::test_double_ids_are_refused")),
)  # fmt: skip


@dataclass(frozen=True)
class Test:
    """A test: its file, its name, and what it shows."""

    file: str
    name: str
    shows: str


def _functions(path: Path) -> Iterator[Test]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            told = (ast.get_docstring(node) or "").strip().partition("\n\n")[0]
            words = re.sub(r"^test_(row_\d\d_)?", "", node.name).replace("_", " ")
            shows = " ".join(told.split()) or f"{words[0].upper()}{words[1:]}."
            yield Test(path.relative_to(ROOT).as_posix(), node.name, shows)


def tests_of(row: Row) -> list[Test]:
    """Return the tests of a row: those named after it, then those of other folders."""
    found = [
        test
        for path in sorted(Path(__file__).parent.glob("test_*.py"))
        for test in _functions(path)
        if test.name.startswith(f"test_row_{row.number:02}_")
    ]
    for named in row.elsewhere:
        file, _, name = named.partition("::")
        pattern = re.compile(name.replace("*", ".*"))
        here = [test for test in _functions(ROOT / file) if pattern.fullmatch(test.name)]
        if not here:
            raise LookupError(f"row {row.number}: there is no test {named}")
        found += here
    return found


def figures_of(lines: list[dict], tests: list[Test]) -> dict[str, str]:
    """Add up what the tests of a row measured, by name."""
    names, found = {test.name for test in tests}, dict[str, object]()
    for line in lines:
        if line["test"] in names:
            name, value = line["name"], line["value"]
            old = found.get(name)
            found[name] = old + value if isinstance(old, int) and isinstance(value, int) else value
    return {name: str(value) for name, value in found.items()}


def page(lines: list[dict]) -> str:
    """Return docs/reliability.md."""
    every = [(row, tests_of(row)) for row in ROWS]
    count = sum(len(tests) for _, tests in every)
    table, parts = [], []
    for row, tests in every:
        figures = "; ".join(f"{name}: {it}" for name, it in figures_of(lines, tests).items())
        table.append(
            f"| [{row.number}](#row-{row.number}) | {row.failure} | {row.promise} | {len(tests)} "
            f"| {figures} |"
        )
        listed = [f"- `{test.file}`, `{test.name}`: {test.shows}" for test in tests]
        parts.append(
            f"## Row {row.number}\n\n{row.failure}: {row.promise}.\n\n" + "\n".join(listed)
        )
    head = HEAD.format(count=count, table="\n".join(table))
    return head + "\n\n" + "\n\n".join(parts) + "\n"


HEAD = """\
# Reliability

What may go wrong, what is promised then, and the tests that hold lexlip to it. This page is made
from the tests: `make reliability` runs them and writes it. {count} test functions, many of them
with several cases, run with every change.

Limits and what is not defended: [Security](../SECURITY.md).
Longer runs: [fuzzing](results/fuzzing.md) and [load](results/soak.md).

| row | what happens | promise | tests | figures |
|---|---|---|---|---|
{table}"""


def main(figures: str | None = None) -> None:
    """Write the page, with the figures of a run, which are kept, or else with those of the last."""
    if figures is None:
        lines = json.loads(FIGURES.read_text("utf-8"))
    else:
        lines = [json.loads(line) for line in Path(figures).read_text("utf-8").splitlines()]
    lines.sort(key=lambda line: (line["test"], line["name"], str(line["value"])))
    text = "[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n"
    FIGURES.write_text(text, "utf-8")
    PAGE.write_text(page(lines), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
