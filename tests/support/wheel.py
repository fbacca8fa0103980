"""The wheel in an empty environment: what pip install brings, and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What pip says where no registry can be reached; anything else is a failure of ours.
UNREACHABLE = ("NewConnectionError", "ConnectTimeout", "NameResolutionError", "ProxyError")


@dataclass(frozen=True)
class Installed:
    """An environment that has lexlip and what it needs; pip itself is not in it."""

    python: Path
    bin: Path
    site: Path

    def run(self, *command, **options):
        """Run a program of the environment, or Python code after -c; outside of the clone."""
        program = self.python if command[0].startswith("-") else self.bin / command[0]
        words = command if command[0].startswith("-") else command[1:]
        clean = {
            name: value for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "VIRTUAL_ENV")
        }  # fmt: skip
        environ = clean | options.pop("env", {})
        options = {"cwd": self.site.parent, "timeout": 120, **options}
        return subprocess.run(
            [str(program), *map(str, words)], env=environ, capture_output=True, text=True, **options
        )

    def start(self, *command, env):
        """Start a program of the environment; its lines are read from `stdout`."""
        environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.Popen(
            [str(self.bin / command[0]), *map(str, command[1:])],
            env=environ | env | {"PYTHONUNBUFFERED": "1"},
            cwd=self.site.parent,
            stdout=subprocess.PIPE,
            text=True,
        )

    def packages(self):
        """Names and versions of the distributions."""
        code = (
            "import importlib.metadata as m, json;"
            "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
        )
        return json.loads(self.run("-c", code).stdout)

    def megabytes(self):
        """What the packages take on the disk, as du -sm counts it."""
        files = [path for path in self.site.rglob("*") if path.is_file()]
        return sum(path.stat().st_blocks * 512 for path in files) / 2**20


def pip(*words):
    """Run pip of the tests' environment, with the settings of this machine."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        if any(word in done.stderr for word in UNREACHABLE):
            pytest.skip("no package registry can be reached")
        raise RuntimeError(f"pip {words[0]} fails: {done.stderr[-2000:]}")


def build(folder):
    """Build the wheel in a folder; return its file."""
    source = folder / "source"  # a build writes beside what it builds
    shutil.copytree(
        ROOT / "lexlip", source / "lexlip", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", source)
    (wheel,) = (folder / "wheels").glob("lexlip-*.whl")
    return wheel


def install(wheel, folder, python=sys.executable, *options):
    """Install a wheel into a new environment of a Python."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    pins = ROOT / ".ci" / "constraints.txt"
    pip("--python", python, "install", "--quiet", *options, "-c", pins, wheel)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return Installed(python, programs, Path(site.strip()))
