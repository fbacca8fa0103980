"""Faults at system calls: one call of a process fails, or is its last.

A child is traced, and stopped by the kernel at each system call that changes files (seccomp with
ptrace). At the chosen one the call is not made: it returns an error, or the child is killed. So
every call is reached, also those of numpy and of C libraries, which no patched function sees.
Linux on x86-64.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SUPPORTED = sys.platform == "linux" and platform.machine() == "x86_64"

CALLS = {
    1: "write", 2: "open", 18: "pwrite64", 20: "writev", 73: "flock", 72: "fcntl", 74: "fsync",
    75: "fdatasync", 76: "truncate", 77: "ftruncate", 82: "rename", 83: "mkdir", 84: "rmdir",
    85: "creat", 86: "link", 87: "unlink", 88: "symlink", 257: "openat", 258: "mkdirat",
    263: "unlinkat", 264: "renameat", 285: "fallocate", 316: "renameat2", 326: "copy_file_range",
    40: "sendfile",
}  # fmt: skip
"""Numbers of system calls that change files, names or locks."""

_BY_DESCRIPTOR = {1, 18, 20, 72, 73, 74, 75, 77, 285}
_PATH_FIRST = {2, 76, 82, 83, 84, 85, 86, 87, 88}
_PATH_SECOND = {257, 258, 263, 264, 316}
_SET_LOCK = (6, 7, 37, 38)  # F_SETLK and its kin: other calls of fcntl change nothing
_UNLOCK = 8  # which fails for nobody
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_TRACEME, _GETREGS, _SETREGS, _CONT, _DETACH, _SETOPTIONS = 0, 12, 13, 7, 17, 0x4200
_OPTIONS = 0x80 | 0x100000  # PTRACE_O_TRACESECCOMP, PTRACE_O_EXITKILL
_SECCOMP_EVENT = 7
_RAX, _RDI, _RSI, _RDX, _ORIG_RAX, _WORDS = 10, 14, 13, 12, 15, 27

KILL = -1
"""In place of an error number: the process is killed, before the call is made."""


@dataclass
class Ended:
    """What became of a traced child.

    Attributes
    ----------
    calls : list of str
        The watched calls that it made, in their order, up to the fault.
    status : int
        As `os.waitstatus_to_exitcode` has it: 0 done, 3 refused with one line, 4 any other
        exception, -9 killed.
    """

    calls: list[str] = field(default_factory=list)
    status: int = 0


def _filter() -> None:
    """Let the kernel stop this process at the calls of `CALLS`; the tracer decides."""
    code = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # load the number of the call
    numbers = sorted(CALLS)
    for place, number in enumerate(numbers):
        code.append(struct.pack("HBBI", 0x15, len(numbers) - place, 0, number))
    code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))  # allow
    code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FF00000))  # trace
    program = ctypes.create_string_buffer(b"".join(code))
    header = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, header, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _child(work: Callable[[], object]) -> None:
    """Do the work, and end with a status that says how."""
    from lexlip import LexLIPError

    status = 4
    try:
        ctypes.CDLL(None).ptrace(_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        _filter()
        work()
        status = 0
    except LexLIPError as error:
        status = 3 if len(str(error).splitlines()) == 1 else 4
    except BaseException:
        traceback.print_exc(limit=-2)
    os._exit(status)


def run(work: Callable[[], object], watched: Path, at: int = 0, fault: int = KILL) -> Ended:
    """Run some work in a child, with a fault at one of its watched calls.

    Parameters
    ----------
    work : callable
        Runs in a fork of this process.
    watched : Path
        Only calls below this folder count.
    at : int
        Number of the call, from 1; 0 lets all of them through.
    fault : int
        An error number, or `KILL`.
    """
    ended, child = Ended(), os.fork()
    if child == 0:
        _child(work)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    os.waitpid(child, 0)
    if libc.ptrace(_SETOPTIONS, child, None, _OPTIONS):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise OSError(ctypes.get_errno(), "ptrace is not allowed")
    registers, passed = (ctypes.c_ulonglong * _WORDS)(), 0
    while True:
        libc.ptrace(_CONT, child, None, passed)
        _, status = os.waitpid(child, 0)
        passed = 0
        if not os.WIFSTOPPED(status):
            ended.status = os.waitstatus_to_exitcode(status)
            return ended
        if status >> 16 != _SECCOMP_EVENT:
            passed = os.WSTOPSIG(status)
            continue
        libc.ptrace(_GETREGS, child, None, ctypes.addressof(registers))
        number = registers[_ORIG_RAX]
        if not _counts(child, number, registers, str(watched)):
            continue
        ended.calls.append(CALLS[number])
        if len(ended.calls) == at:
            if fault == KILL:
                os.kill(child, signal.SIGKILL)
                continue
            registers[_ORIG_RAX] = 2**64 - 1
            registers[_RAX] = 2**64 - fault
            libc.ptrace(_SETREGS, child, None, ctypes.addressof(registers))


def _counts(child: int, number: int, registers: ctypes.Array[ctypes.c_ulonglong], top: str) -> bool:
    """Whether a call changes something below the watched folder."""
    first, second, third = registers[_RDI], registers[_RSI], registers[_RDX]
    if number == 72 and second not in _SET_LOCK or number == 73 and second & _UNLOCK:
        return False
    if number == 2 and not second & _WRITES or number == 257 and not third & _WRITES:
        return False
    if number in _BY_DESCRIPTOR:
        return _link(child, first).startswith(top)
    if number in (40, 326):  # to the descriptor: the first one of sendfile
        return _link(child, first if number == 40 else third).startswith(top)
    path = _text(child, first if number in _PATH_FIRST else second)
    if not path.startswith("/"):
        signed = ctypes.c_int(first & 0xFFFFFFFF).value
        base = _link(child, signed) if number in _PATH_SECOND and signed >= 0 else ""
        path = os.path.join(base or os.readlink(f"/proc/{child}/cwd"), path)
    return path.startswith(top)


def _link(child: int, descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/{child}/fd/{descriptor}")
    except OSError:
        return ""


def _text(child: int, address: int) -> str:
    with open(f"/proc/{child}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        room = 4096 - address % 4096
        raw = memory.read(room)
        if b"\0" not in raw:
            raw += memory.read(4096)
    return os.fsdecode(raw.partition(b"\0")[0])


def allowed() -> str | None:
    """Return why no process can be traced here, None where it can."""
    if not SUPPORTED:
        return "made of Linux's means, on x86-64"
    try:
        run(lambda: None, Path("/nowhere"))
    except OSError as error:
        return f"no process can be traced here: {error}"
    return None


FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "kill": KILL}
"""What happens at a call. A full disk, a broken one, and a process that ends."""
