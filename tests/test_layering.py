"""The house rules that a machine can keep: who imports whom, and what no module does."""

from __future__ import annotations

import ast
import subprocess
import sys
import tokenize
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
JOBS = ("pretrain", "indexing", "eval")
# Of a module, docstrings aside: more is a sign that two ideas share a file.
MOST_CODE_LINES = 280
# The library, ground floor up: each imports only what is above it in this list (and itself).
FLOORS = [
    "errors",
    "impacts",
    "lexicon",
    "filters",
    "storage",
    "data",
    "settings",
    "engines",
    "models",
    "sentence_transformers",
    "query",
    "rerank",
    "build",
    "index",
    "exchange",
    "home",
    "explain",
    "measure",
    "server",
    "cli",
]


def modules(package):
    """Module name -> file, of all Python files of a package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


LIBRARY = modules("lexlip")
EVERYTHING = {name: path for part in ("lexlip", *JOBS) for name, path in modules(part).items()}


def parse(path):
    return ast.parse(path.read_text(), str(path))


def statements(node):
    """Every node that runs when a module is imported: no functions, nothing for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from statements(child)


def imports(path, nodes=ast.walk):
    """Every module that a file imports, anywhere in it, type checking included."""
    found = set()
    for node in nodes(parse(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from lexlip.data import readers` is an import of lexlip.data.readers.
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (submodules & EVERYTHING.keys()) or {node.module}
    return found


def within(name, package):
    return name == package or name.startswith(f"{package}.")


def test_the_walk_finds_the_project():
    assert {"lexlip", "lexlip.data.scenes", "pretrain.stage1"} <= EVERYTHING.keys()
    assert "lexlip.models.speaker" in imports(LIBRARY["lexlip.index"])
    assert "lexlip.data.readers" in imports(LIBRARY["lexlip.data.collection"])


@pytest.mark.parametrize("job", JOBS)
def test_the_library_imports_no_job(job):
    guilty = [name for name, path in LIBRARY.items() if any(within(i, job) for i in imports(path))]
    assert guilty == []


@pytest.mark.parametrize("job", JOBS)
def test_no_job_imports_another(job):
    others = set(JOBS) - {job}
    guilty = {
        name: found
        for name, path in modules(job).items()
        if (found := {i for i in imports(path) if any(within(i, other) for other in others)})
    }
    assert guilty == {}


def room(name):
    """The module or package at the top of the library that holds a module."""
    return name.split(".")[1]


def test_the_library_is_built_from_the_ground_up():
    height = {part: i for i, part in enumerate(FLOORS)}
    # The package's own __init__ imports lazily whatever its users ask for.
    inside = [name for name in LIBRARY if name != "lexlip"]
    assert height.keys() == {room(name) for name in inside}
    guilty = {
        (name, other)
        for name in inside
        for other in imports(LIBRARY[name])
        if within(other, "lexlip")
        if other == "lexlip" or height[room(other)] > height[room(name)]
    }
    assert guilty == set()


def circle(graph):
    """Return nodes that lead back to the first of them, or nothing where there are none."""
    done = set()

    def visit(node, path):
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return []
        found = next((c for other in sorted(graph[node]) if (c := visit(other, [*path, node]))), [])
        done.add(node)
        return found

    return next((found for node in graph if (found := visit(node, []))), [])


def test_no_modules_import_each_other_in_a_circle():
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": {"d"}, "d": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    graph = {
        name: (imports(path, statements) & EVERYTHING.keys()) - {name}
        for name, path in EVERYTHING.items()
    }
    assert "lexlip.data.readers" in graph["lexlip.data.collection"]
    assert circle(graph) == []


def test_the_top_of_the_library_fits_on_a_screen():
    entries = [path.name for path in (ROOT / "lexlip").iterdir() if path.name != "__pycache__"]
    assert len(FLOORS) <= 20 and len(entries) <= 22


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_no_module_pickles(name):
    path = EVERYTHING[name]
    assert not {i.split(".")[0] for i in imports(path)} & {
        "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"
    }  # fmt: skip
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = f"{node.value.id}.{node.attr}"
            assert called not in ("torch.load", "torch.save", "np.savez_compressed"), called
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant) and node.value.value is False


def code_lines(text):
    """Count the lines that hold code: no docstrings, comments or blank lines."""
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = [t for t in tokenize.generate_tokens(StringIO(text).readline) if t.type not in blank]
    lines = {line for t in tokens[:-1] for line in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def test_modules_hold_few_lines_of_code():
    assert code_lines('"""Doc."""\n\nx = [\n    # why\n    1,\n]\n\n\n"""Also."""\n') == 3
    sizes = {name: code_lines(path.read_text()) for name, path in EVERYTHING.items()}
    assert {name: size for name, size in sizes.items() if size > MOST_CODE_LINES} == {}


def _is_overload(node):
    """Types of a function that is told about below."""
    return any(isinstance(it, ast.Name) and it.id == "overload" for it in node.decorator_list)


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_everything_public_says_what_it_is(name):
    tree = parse(LIBRARY[name])
    assert ast.get_docstring(tree), "the module itself"
    silent = []

    def visit(node, owner):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if child.name.startswith("_") or _is_overload(child):
                    continue
                if not ast.get_docstring(child):
                    silent.append(f"{owner}{child.name}")
                if isinstance(child, ast.ClassDef):
                    visit(child, f"{owner}{child.name}.")

    visit(tree, "")
    assert silent == []


def modules_after(code):
    """Names of all modules that a fresh Python has loaded after running `code`."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import lexlip",
        "import lexlip.engines",
        "import lexlip.cli",
        "import lexlip.impacts, lexlip.lexicon, lexlip.settings",
        "import lexlip.index",
        "import lexlip.rerank.rescore",
        "import lexlip.data.collection",
    ],
)
def test_light_parts_start_neither_torch_nor_java(code):
    loaded = modules_after(code)
    assert "lexlip" in loaded
    heavy = {"torch", "transformers", "datasets", "jnius", "matplotlib", "numba", "pyserini"}
    assert not loaded & heavy


def test_lazy_names_are_the_real_ones():
    import lexlip
    from lexlip.errors import LexLIPError

    assert lexlip.LexLIPError is LexLIPError
    assert all(hasattr(lexlip, name) for name in lexlip.__all__)
    with pytest.raises(AttributeError, match="no attribute 'LexLIPP'"):
        lexlip.LexLIPP  # noqa: B018


# Rooms that run networks; one study measures a loop that people write without lexlip.
NETWORKS = ("lexlip.models", "pretrain", "eval.studies.encoding")


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_torch_ends_at_the_models(name):
    found = {i.split(".")[0] for i in imports(EVERYTHING[name])}
    if not any(within(name, room) for room in NETWORKS):
        assert not found & {"torch", "transformers", "accelerate"}


@pytest.mark.parametrize(
    "modules",
    [
        "lexlip.models, lexlip.models.speaker, lexlip.models.query_table, lexlip.models.runtime",
        "lexlip.query.query, lexlip.query.lexicon_map, lexlip.index, lexlip.build.write",
        "lexlip.rerank.stage, lexlip.rerank.rerankers, lexlip.measure.shares",
        "lexlip.explain.explanation, lexlip.explain.sheet",
        "lexlip.server, lexlip.server.app, lexlip.measure.systems",
    ],
)
def test_all_but_the_networks_import_without_torch(modules):
    assert not modules_after(f"import {modules}") & {"torch", "transformers", "accelerate"}


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_modules_are_introduced_by_a_noun(name):
    """The reference lists first lines: a relative clause says nothing to someone who scans it."""
    first = (ast.get_docstring(parse(EVERYTHING[name])) or "").split()[:1]
    assert not set(first) & {"What", "How", "Who", "That", "Those", "Where", "Which", "Whether"}
