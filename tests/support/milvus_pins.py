"""Tests of Milvus with another Milvus Lite, in an environment that is made for it.

python tests/support/milvus_pins.py FOLDER            2.5.1, which has the core of a cluster
python tests/support/milvus_pins.py FOLDER 3.2.1      one that ranks wrongly: it is refused
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINS = {
    "2.5.1": ["milvus-lite==2.5.1", "pymilvus==2.6.17", "setuptools<81"],
    "3.2.1": ["milvus-lite==3.2.1", "pymilvus==3.0.2"],
}
TOOLS = ["hypothesis", "numba", "pytest", "pytest-randomly", "pytest-xdist"]
TESTS = ["test_conformance.py", "test_engines.py", "test_folders.py", "test_metadata.py",
         "test_browsing.py", "test_walk.py", "test_milvus.py"]  # fmt: skip
# These two need torch.
LEFT_OUT = "milvus and not an_index_in_milvus and not a_replacement"


def environment(folder: Path, version: str) -> Path:
    """Return a Python that has lexlip's packages and one Milvus Lite, installed where need be."""
    python = folder / version / "bin" / "python"
    ready = folder / version / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / version], check=True)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = [*project["dependencies"], *TOOLS, *PINS[version]]
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted], check=True)
        ready.touch()
    return python


def main() -> int:
    """Run the tests, or see that the version is refused; return 0 where all is well."""
    folder = Path(sys.argv[1]).absolute()
    version = sys.argv[2] if len(sys.argv) > 2 else "2.5.1"
    python, env = environment(folder, version), {**os.environ, "PYTHONPATH": str(ROOT)}
    if version == "2.5.1":
        tests = [str(ROOT / "tests" / "lexlip" / "engines" / name) for name in TESTS]
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-s", "-k", LEFT_OUT, *tests]
        return subprocess.run(command, cwd=ROOT, env=env).returncode
    code = """
import sys
from lexlip.engines.milvus import engine
for by_name in (True, False):
    if not by_name:  # as a server that does not tell its version
        engine.check_installed = engine.lite_version = lambda *_: None
    try:
        engine.MilvusEngine(f"{sys.argv[1]}/{by_name}", "w", f"{sys.argv[1]}/wrong.db/photos")
    except Exception as error:
        print(error)
        assert "ranks wrongly" in str(error)
    else:
        sys.exit("it is not refused")
"""
    return subprocess.run([python, "-c", code, folder], cwd=ROOT, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
