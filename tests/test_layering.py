"""The house rules that a machine can keep: who imports whom, and what no module does."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
JOBS = ("pretrain", "indexing", "eval")
# The library, ground floor up: a row imports only rows above it (and itself).
FLOORS = [
    ("errors",),
    ("files", "java", "data.images", "data.draw", "data.meaning", "data.metadata", "columns"),
    ("data.grammar", "data.readers", "generations", "processes", "where_parser", "query_tree"),
    ("drawing",),
    ("where", "query_parser", "crops"),
    ("data.scenes", "data.collection"),
    ("config", "lexicon", "pooling", "impacts", "views", "codecs", "lexical"),
    ("settings", "processing", "card", "trunks", "towers", "engines.base", "postings.layout"),
    ("bm25", "rerank.pairs", "rerank.kernel", "rerank.fuse", "postings.restore"),
    ("rerank.late", "rerank.gaussian", "rerank.naaf"),
    ("query_search",),
    ("heads", "model", "postings", "postings.kernel", "postings.build", "postings.segment"),
    ("query_table", "lexical_clip", "checkpoints"),
    ("query_terms", "provenance", "attention", "occlusion"),
    ("query",),
    ("lexicon_map",),
    ("dense", "encode", "encoded", "manifest", "engines.parts", "engines.lucene_bridge"),
    ("explain", "stored", "engines.snapshot", "engines.lucene_metadata", "engines.lucene_snapshot"),
    ("floats", "forward", "engines.postings", "rerank.patches"),
    ("beside", "rerank.rerankers", "rerank"),
    ("rerank.stage",),
    ("engines.lucene",),
    ("engines.lucene_merge",),
    ("engines",),
    ("building",),
    ("index",),
    ("rerank.choose",),
    ("curve",),
    ("originals",),
    ("tune", "why", "rivals"),
    ("server.settings", "server.metrics", "server.schemas"),
    ("server.guard",),
    ("server.failures",),
    ("server.live", "server.pictures", "server.work", "server.bodies"),
    ("server.search", "server.explaining", "server.changing"),
    ("server.comparing",),
    ("server.service",),
    ("server.images", "server.searches", "server.state"),
    ("server.app",),
    ("server",),
    ("cli.app", "cli.common", "cli.output"),
    (
        "cli.indexing",
        "cli.searching",
        "cli.serve",
        "cli.tuning",
        "cli.doctor",
        "cli.explaining",
        "cli.lexicalise",
        "cli.comparing",
    ),
    ("cli",),
    ("cli.__main__",),
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


def imports(path):
    """Every module that a file imports, anywhere in it, type checking included."""
    found = set()
    for node in ast.walk(parse(path)):
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
    assert "lexlip.model" in imports(LIBRARY["lexlip.index"])
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


def test_the_library_is_built_from_the_ground_up():
    height = {f"lexlip.{part}": i for i, row in enumerate(FLOORS) for part in row}
    # The package's own __init__ imports lazily whatever its users ask for.
    assert height.keys() == LIBRARY.keys() - {"lexlip", "lexlip.data"}
    guilty = {
        (name, other)
        for name, path in LIBRARY.items()
        if name in height
        for other in imports(path)
        if within(other, "lexlip") and name != other
        if other not in height or height[other] > height[name]
    }
    assert guilty == set()


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_no_pickle_and_no_endless_module(name):
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
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_everything_public_says_what_it_is(name):
    tree = parse(LIBRARY[name])
    assert ast.get_docstring(tree), "the module itself"
    silent = []

    def visit(node, owner):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if child.name.startswith("_"):
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
