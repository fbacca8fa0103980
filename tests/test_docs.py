"""The documentation says what is so: commands and code are tried."""

from __future__ import annotations

import ast
import re
import shlex
import shutil

import pytest
import typer.main

from lexlip.cli import app
from tests.support.pages import DOCS, GUIDES, PAGES, README, ROOT, blocks, name_of

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"\$\(([A-Z]+)\)", MAKEFILE))


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
    from pretrain.settings import load

    given = dict(word.split("=", 1) for word in words[1:] if re.match(r"[A-Z]+=", word))
    targets = {word for word in words[1:] if "=" not in word}
    assert targets <= TARGETS, f"make has no {targets - TARGETS}"
    assert given.keys() <= VARIABLES, f"the Makefile reads no {given.keys() - VARIABLES}"
    if any(target.startswith("pretrain") for target in targets):
        overrides = shlex.split(given.get("SET", "").replace("...", ""))
        load(ROOT / "pretrain" / "configs" / "scenes.toml", overrides)


def check_module(words):
    """Raise unless `python -m job.module --option` has that module and these options."""
    path = ROOT.joinpath(*words[2].split(".")).with_suffix(".py")
    assert path.is_file(), f"no module {words[2]}"
    sources = [path.read_text()]
    if words[2].startswith("pretrain."):
        sources.append((ROOT / "pretrain" / "loop.py").read_text())
    arguments = {
        argument.arg
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name in ("main", "command")
        for argument in node.args.args
    } | {"help"}
    used = {word[2:].replace("-", "_") for word in words[3:] if word.startswith("--")}
    assert used <= arguments, f"{words[2]} has no {used - arguments}"


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
    with pytest.raises(AssertionError, match="no {'modle'}"):
        check_module(["python", "-m", "indexing.build", "--modle", "x"])
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
    for page, words, _ in [*all_code("make "), *all_code("python -m ")]:
        try:
            (check_make if words[0] == "make" else check_module)(words)
        except Exception as error:
            raise AssertionError(f"{page}: {shlex.join(words)}: {error}") from error
        checked += 1
    assert checked > 40


def test_every_command_is_in_the_docs():
    assert {"index", "search", "words", "doctor"} <= COMMANDS.keys()
    named = {words[1] for _, words, _ in all_code("lexlip ", GUIDES)}
    assert COMMANDS.keys() - named == set()


def python_blocks(page):
    return [block for block in blocks(page.read_text("utf-8"))[0] if block.language == "python"]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name_of(page), marks=[pytest.mark.java] if page == README else [])
        for page in PAGES
        if python_blocks(page)
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


def test_the_notebook_runs(checkpoint, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    text = (DOCS / "tour.ipynb").read_text("utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) > len(code) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert not re.search(r"/(home|work|Users|tmp)/", text)
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "TMPDIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("LEXLIP_CHECKPOINT", str(checkpoint))
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    printed = [
        output.text for cell in code for output in cell.outputs if output.output_type == "stream"
    ]
    assert any("scene-" in one for one in printed)
    pictures = [output for cell in code for output in cell.outputs if "data" in output]
    assert sum("image/png" in output.data for output in pictures) >= 4
