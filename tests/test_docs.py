"""The documentation says what is so: commands, code, file names and links are tried."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import typer.main

from lexlip.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
GUIDES = sorted(DOCS.rglob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *GUIDES]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"\$\(([A-Z]+)\)", MAKEFILE))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A piece of code in a page: fenced, with its language, or indented."""

    language: str
    text: str
    line: int


def blocks(text):
    """The code blocks of a page in Markdown, and the page without them."""
    found, prose = [], []
    lines = iter(enumerate(text.splitlines(), 1))
    before = ""
    for number, line in lines:
        if line.startswith("```"):
            inside = []
            for _, one in lines:
                if one.startswith("```"):
                    break
                inside.append(one)
            found.append(Block(line.strip("` "), "\n".join(inside) + "\n", number))
        elif line.startswith("    ") and (not before.strip() or before.startswith("    ")):
            found.append(Block("", line[4:] + "\n", number))
        else:
            prose.append(line)
        before = line
    return found, "\n".join(prose)


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


@pytest.fixture(scope="module")
def made(checkpoint, model, model_with_heads, word_table, photos, tmp_path_factory):
    """What `make demo` and a user would have, of tiny models: checkpoints, pictures, an index."""
    from lexlip import Index
    from lexlip.data.collection import load_collection
    from lexlip.encode import encode_pictures
    from lexlip.encoded import Encoded

    folder = tmp_path_factory.mktemp("docs")
    runs = folder / "runs" / "demo"
    shutil.copytree(checkpoint, runs / "stage2")
    word_table.save_pretrained(runs / "stage2")
    model_with_heads.save_pretrained(runs / "heads")
    shutil.copytree(photos, folder / "photos")
    shutil.copy(photos / "00.png", folder / "photo.jpg")
    Index.create(
        runs / "index", model, photos, engine="postings", checkpoint=runs / "stage2"
    ).close()
    source = load_collection(photos)
    with Encoded.plan(folder / "photos.parts", model, source, 64) as encoded:
        encoded.write(0, encode_pictures(model, source, range(len(source))))
    return folder


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
def test_python_in_the_docs_runs(page, made, tmp_path, monkeypatch):
    home = tmp_path / "home"
    shutil.copytree(made, home)
    monkeypatch.chdir(home)
    namespace: dict[str, object] = {}
    for block in python_blocks(page):
        # On its own line, so that an error names the line of the page.
        code = compile("\n" * block.line + block.text, name_of(page), "exec")
        exec(code, namespace)


def tables(text):
    """The rows of all tables of a page: dicts by column, with the heading above the table."""
    found, heading, columns = [], "", None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            columns = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if columns is None:
            columns = cells
        elif not set(line) <= set("|-: "):
            found.append({"section": heading, **dict(zip(columns, cells, strict=True))})
    return found


FORMATS = DOCS / "formats.md"
GENERATIONS = "Folders of generations"


def documented(sections, prefix=""):
    """Pattern of a file name -> its rows in docs/formats.md; numbers stand for any number."""
    found = {}
    for row in tables(FORMATS.read_text("utf-8")):
        if row["section"] in sections:
            for name in re.findall(r"`([^`]+)`", row.get("file", row.get("file or folder", ""))):
                pattern = re.sub(r"\d+", r"\\d+", re.escape(prefix + name))
                found.setdefault(pattern, []).append(row)
    assert found
    return found


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }


SMALLEST = {"uint8", "uint16", "int32", "int64"}


def fits(array, row):
    """Whether an array is of a type and has as many dimensions as its row says."""
    kinds = set(re.findall(r"[a-z]+\d*", row["dtype"]))
    kinds = kinds - {"smallest"} | SMALLEST if "smallest" in kinds else kinds
    return str(array.dtype) in kinds and array.ndim == row["shape"].partition("]")[0].count(",") + 1


def undocumented(folder, patterns):
    """Files of a folder that no pattern fits, or whose arrays are not as the page says."""
    wrong = []
    for name, path in files_in(folder).items():
        rows = [row for pattern in patterns if re.fullmatch(pattern, name) for row in
                patterns[pattern]]  # fmt: skip
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            rows = [row for row in rows if fits(array, row)]
            name = f"{name} {array.dtype} {array.shape}"
        if not rows:
            wrong.append(name)
    return wrong


@pytest.fixture(scope="module")
def full_index(made, make_model, model_with_heads, photos):
    """An index with everything that an index can hold."""
    from lexlip import Index
    from lexlip.dense import DenseDualEncoder
    from lexlip.rivals import DenseVectors

    folder = made / "described"
    shutil.copytree(photos, folder)
    rows = ["file_name,year,private,size"]
    rows += [f"{n:02}.png,{2000 + n},{n % 2 == 0},{n / 2}" for n in range(9)]
    (folder / "metadata.csv").write_text("\n".join(rows))
    index = Index.create(
        made / "full.lex", model_with_heads, folder, engine="postings", keep_floats=True,
        keep_views=True,
    )  # fmt: skip
    make_model(kind=DenseDualEncoder).save_pretrained(made / "dense")
    with index:
        DenseVectors.create(index, made / "dense")
        index.second_stage.save({"filip": 0.5}, None)
        index.delete(["03.png"])
    return made / "full.lex"


def index_patterns():
    sections = ("Index", "The postings engine", "Float vectors", "The forward store")
    patterns = documented([*sections, "Dense vectors"])
    for store in ("engine/", "floats/", "views/"):
        patterns |= documented([GENERATIONS], store)
    return patterns


def test_the_files_of_an_index_are_documented(full_index):
    patterns = index_patterns()
    assert undocumented(full_index, patterns) == []
    assert undocumented(full_index, documented(["Index"])) != []  # these can fail
    for rows in patterns.values():
        rows[:] = [
            {**row, "dtype": row.get("dtype", "").replace("float32", "int8")} for row in rows
        ]
    wrong = [name for name in undocumented(full_index, patterns) if "weights.npy float32" in name]
    assert len(wrong) == 1
    assert (full_index / "skipped.jsonl").exists()


def test_documented_files_of_an_index_are_written(full_index, tmp_path):
    from lexlip.codecs import CODECS
    from lexlip.forward import ForwardStore
    from lexlip.views import Views

    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(20, 4, 8)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    nothing = np.zeros((20, 0), np.float32)
    views = Views(tokens, np.full(20, 4, np.int32), nothing, nothing)
    written = set(files_in(full_index))
    for codec in CODECS:
        store = ForwardStore(tmp_path / codec / "views", "w", codec=codec)
        store.write([f"{n}" for n in range(20)], views)
        store.close()
        assert undocumented(tmp_path / codec, index_patterns()) == []
        written |= set(files_in(tmp_path / codec))
    for pattern in index_patterns():
        if not pattern.endswith("/"):
            assert any(re.fullmatch(pattern, name) for name in written), pattern


def test_the_files_of_checkpoints_and_parts_are_documented(made, checkpoint):
    assert undocumented(checkpoint, documented(["Checkpoint"])) == []
    parts = documented(["Encoded parts"])
    assert undocumented(made / "photos.parts", parts) == []
    assert any(re.fullmatch(pattern, "part-000000/weights.npz") for pattern in parts)


def test_formats_are_documented():
    source = "\n".join(
        path.read_text() for job in ("lexlip", "pretrain") for path in (ROOT / job).rglob("*.py")
    )
    written = set(re.findall(r'"(lexlip-[a-z]+[-/]\d+)"', source))
    described = set(re.findall(r"`(lexlip-[a-z]+[-/]\d+)`", FORMATS.read_text("utf-8")))
    assert "lexlip-index/2" in written
    assert written == described


def keys_in(section):
    """The keys that a table of docs/formats.md lists."""
    rows = [row for row in tables(FORMATS.read_text("utf-8")) if row["section"] == section]
    return {key for row in rows if "key" in row for key in re.findall(r"`(\w+)`", row["key"])}


def test_the_keys_of_a_manifest_are_documented(full_index):
    assert json.loads((full_index / "manifest.json").read_text()).keys() == keys_in("Index")


def site_hook():
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference_pages():
    """Pages that exist in the built site only."""
    return {f"reference/{name}.md" for name in site_hook().modules()} | {"reference/index.md"}


def anchors(text):
    headings = re.findall(r"^#+ (.+)$", blocks(text)[1], re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def broken_links(page, text, made_pages):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", blocks(text)[1]):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file.is_relative_to(DOCS) and file.relative_to(DOCS).as_posix() in made_pages:
            continue
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    made_pages = reference_pages()
    assert {"reference/lexlip.index.md", "reference/lexlip.md"} <= made_pages
    assert broken_links(page, page.read_text("utf-8"), made_pages) == []
    bad = "[a](nowhere.md) [b](#nowhere) [c](https://example.org)"
    assert broken_links(page, bad, made_pages) == ["nowhere.md", "#nowhere"]


def test_links_out_of_the_site_become_text():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="how-to/a.md"))
    text = "[`a`](../../lexlip/a.py) [b](../b.md) [c](c.md)"
    said = site_hook().on_page_markdown(text, page, None, None)
    assert said == "`a` [b](../b.md) [c](c.md)"


def test_pages_are_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text()
    assert [name_of(page) for page in GUIDES if page.relative_to(DOCS).as_posix() not in nav] == []
    listed = re.findall(r": ([\w/-]+\.md)$", nav, re.MULTILINE)
    assert len(listed) > 10
    assert [one for one in listed if not (DOCS / one).exists()] == ["reference/index.md"]


def test_the_picture_is_one_that_browsers_draw():
    picture = DOCS / "architecture.svg"
    ElementTree.parse(picture)
    text = picture.read_text("utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text and "@import" not in text


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
