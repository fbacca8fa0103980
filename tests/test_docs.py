"""The documentation says what is so: commands and code are tried."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil

import pytest
import typer.main

from lexlip.cli import app
from lexlip.settings import from_overrides
from tests.support import notebook
from tests.support.pages import DOCS, GUIDES, PAGES, README, ROOT, blocks, name_of

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"\$\(([A-Z_]+)\)", MAKEFILE))
JOBS = {
    target: modules[0]
    for target, lines in re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    if (modules := re.findall(r"@\$\(LEXLIP\) (\S+)", lines))
}
"""Target to the module that it runs."""


def code_lines(text):
    """The lines that a page gives to type, and the code within its sentences."""
    found, prose = blocks(text)
    shell = "".join(block.text for block in found if block.language in ("", "bash", "sh"))
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return shell.replace("\\\n", " ").splitlines(), spans


def words_of(line):
    return shlex.split(line, comments=True)


def all_code(starts, pages=PAGES):
    """(page, words, whether it is a line to type) of all code that starts so."""
    for page in pages:
        lines, spans = code_lines(page.read_text("utf-8"))
        for line in lines:
            if line.startswith(starts):
                yield name_of(page), words_of(line), True
        for span in spans:
            if span.startswith(starts):
                yield name_of(page), words_of(span), False


def check_lexlip(words, whole):
    """Raise unless `lexlip ...` is a command with these options; a whole line must parse."""
    name, *rest = words[1:]
    if name in ("--help", "COMMAND"):
        return
    command = COMMANDS[name]
    if whole:
        command.make_context(name, list(rest))
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    assert used <= known, f"lexlip {name} has no {used - known}"


def check_make(words):
    given = dict(word.split("=", 1) for word in words[1:] if re.match(r"[A-Z_]+=", word))
    targets = {word for word in words[1:] if "=" not in word}
    assert targets <= TARGETS, f"make has no {targets - TARGETS}"
    assert given.keys() <= VARIABLES, f"the Makefile reads no {given.keys() - VARIABLES}"
    overrides = shlex.split(given.get("SET", "").replace("...", ""))
    trains = any(target.startswith(("pretrain", "finetune")) for target in targets)
    jobs = ["pretrain.stage1"] if trains else sorted({JOBS[one] for one in targets if one in JOBS})
    for module in jobs if overrides else ():
        check_module(["python", "-m", module, *overrides], False)


def check_module(words, whole):
    """Raise unless `python -m job.module ...` is a job with these options and keys."""
    name = words[2]
    place = ROOT.joinpath(*name.split("."))
    path = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    assert path.is_file() and "__main__" in path.read_text(), f"no module {name} to run"
    job = importlib.import_module(f"{name}.__main__" if place.is_dir() else name).app
    command = typer.main.get_command(job)
    rest = [word for word in words[3:] if word not in ("...", "\\")]
    if whole:
        command.make_context(name, list(rest))
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    used = {word.partition("=")[0] for word in rest if word.startswith("-")}
    assert used <= known, f"{name} has no {used - known}"
    keys = [word for word in rest if re.match(r"[a-z][\w.]*=", word)]
    from_overrides(job.settings, keys)


def test_a_wrong_line_is_noticed():
    check_lexlip(words_of("lexlip search x.lex 'a -b' -k 5  # five"), True)
    with pytest.raises(Exception, match="No such option"):
        check_lexlip(words_of("lexlip search x.lex 'a' --like"), True)
    with pytest.raises(Exception, match="Missing"):
        check_lexlip(words_of("lexlip words cat.jpg"), True)
    with pytest.raises(KeyError):
        check_lexlip(words_of("lexlip find x.lex"), True)
    with pytest.raises(AssertionError, match="no {'--like'}"):
        check_lexlip(words_of("lexlip search --like"), False)
    with pytest.raises(AssertionError, match="no {'demos'}"):
        check_make(["make", "demos"])
    with pytest.raises(AssertionError, match="no {'RAN'}"):
        check_make(["make", "demo", "RAN=x"])
    with pytest.raises(Exception, match="did you mean stage2.epochs"):
        check_make(["make", "pretrain-stage2", "SET=stage2.epoch=1"])
    assert JOBS["bench"] == "eval.bench" and JOBS["bench-engine"] == "eval.race"
    with pytest.raises(Exception, match="did you mean rounds"):
        check_make(["make", "bench-engine", "SET=round=1"])
    with pytest.raises(Exception, match="did you mean bm25"):
        check_make(["make", "bench", "SET=bm=true"])
    check_make(["make", "pretrain-stage1", "index", "SET=stage1.epochs=1"])
    check_module(words_of("python -m eval.bench --config c --run r bm25=false crops=4"), True)
    with pytest.raises(AssertionError, match="no {'--model'}"):
        check_module(["python", "-m", "indexing.build", "--model", "x"], False)
    with pytest.raises(Exception, match="No such option"):
        check_module(["python", "-m", "indexing.build", "--model", "x"], True)
    with pytest.raises(Exception, match="did you mean model"):
        check_module(["python", "-m", "indexing.build", "modle=x"], False)
    with pytest.raises(Exception, match="crops is 9"):
        check_module(["python", "-m", "indexing.build", "crops=9"], False)
    with pytest.raises(AssertionError, match="no module"):
        check_module(["python", "-m", "eval.bench.benchmark"], False)
    found, prose = blocks("text `a`\n\n    one\n    two\n\n```python\nx = 1\n```\nend\n")
    assert [block.text for block in found] == ["one\n", "two\n", "x = 1\n"]
    assert prose.split() == ["text", "`a`", "end"]


def test_lines_with_lexlip_parse():
    checked = 0
    for page, words, whole in all_code("lexlip "):
        try:
            check_lexlip(words, whole)
        except Exception as error:
            raise AssertionError(f"{page}: {shlex.join(words)}: {error}") from error
        checked += whole
    assert checked > 40


def test_lines_with_make_and_modules_are_right():
    checked = 0
    for page, words, whole in [*all_code("make "), *all_code("python -m ")]:
        try:
            check_make(words) if words[0] == "make" else check_module(words, whole)
        except Exception as error:
            raise AssertionError(f"{page}: {shlex.join(words)}: {error}") from error
        checked += 1
    assert checked > 40


def test_every_command_is_in_the_docs():
    assert {"index", "search", "words", "doctor"} <= COMMANDS.keys()
    named = {words[1] for _, words, _ in all_code("lexlip ", GUIDES)}
    assert COMMANDS.keys() - named == set()


FRAMEWORKS = DOCS / "how-to" / "frameworks.md"


def python_blocks(page):
    return [block for block in blocks(page.read_text("utf-8"))[0] if block.language == "python"]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name_of(page), marks=[pytest.mark.java] if page == README else [])
        for page in PAGES
        if python_blocks(page) and page != FRAMEWORKS
    ],
)
def test_python_in_the_docs_runs(page, demo_home, tmp_path, monkeypatch):
    home = tmp_path / "home"
    shutil.copytree(demo_home, home)
    monkeypatch.chdir(home)
    namespace: dict[str, object] = {}
    for block in python_blocks(page):
        # On its own line, so that an error names the line of the page.
        code = compile("\n" * block.line + block.text, name_of(page), "exec")
        exec(code, namespace)


@pytest.mark.parametrize("framework", ["langchain_core", "llama_index", "haystack"])
def test_retrievers_of_frameworks_run(framework, demo_home, tmp_path, monkeypatch):
    pytest.importorskip(framework, reason=f"{framework} is not installed, and no extra brings it")
    first, *others = python_blocks(FRAMEWORKS)
    (block,) = (one for one in others if f"from {framework}" in one.text)
    shutil.copytree(demo_home, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    namespace: dict[str, object] = {"__name__": framework}
    for one in (first, block):
        text = "\n" * one.line + one.text
        exec(compile(text, name_of(FRAMEWORKS), "exec", dont_inherit=True), namespace)
    found = namespace.get("documents") or namespace.get("nodes") or namespace["found"]
    assert found


def test_the_notebook_shows_what_it_prints(tmp_path, monkeypatch):
    import nbformat

    text = notebook.TOUR.read_text("utf-8")
    stored = nbformat.reads(text, as_version=4)
    nbformat.validate(stored)
    assert not re.search(r"/(home|work|Users|tmp)/", text)
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "TMPDIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    run = notebook.run(tmp_path)
    code = [cell for cell in run.cells if cell.cell_type == "code"]
    assert len(run.cells) > len(code) > 5
    pictures = [one for cell in code for one in cell.outputs if "data" in one]
    assert sum("image/jpeg" in one.data for one in pictures) >= 4

    def printed(cells):
        """What each cell printed; weights may differ in their last digit."""
        streams = [[one.text for one in cell.get("outputs", ()) if "text" in one] for cell in cells]
        return [re.sub(r"\d+", "#", "".join(one)) for one in streams]

    assert printed(stored.cells) == printed(run.cells)
    assert any("scene-" in one for one in printed(run.cells))
