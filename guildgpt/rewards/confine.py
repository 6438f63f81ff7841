"""A process gives up what it could do, for good: limits, privileges, files, system calls.

Called in a process that has just been forked, before it runs a line that is not ours. Each step is
made by the kernel, holds for a process without privileges and for root alike, and cannot be undone.
Which files can be reached is Landlock's part: see landlock(7) and linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from typing import Literal, NamedTuple

from guildgpt.rewards import seccomp

Level = Literal["full", "read-only", "none"]

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _NO_NEW_PRIVS = 1, 4, 22, 38  # prctl
_FILTER = 2
_CAPABILITIES_3 = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # Landlock's calls: the same numbers on every machine
_VERSION = 1  # a flag of the first: only tell the version
_BENEATH = 1  # the rule: what lies beneath a path

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
_OF_A_FILE = _READ_FILE | _WRITE_FILE | _TRUNCATE

# What may be read besides the standard library: shared libraries, the time zone, the usual devices.
_READABLE = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime",
    "/usr/share/zoneinfo", "/dev/zero", "/dev/urandom",
)  # fmt: skip


class Limits(NamedTuple):
    """What one run may use at most."""

    seconds: float = 10.0
    """Of wall time, from the start of the run to its end."""
    cpu_seconds: int = 4
    memory_mib: int = 512
    """Of address space: Python itself takes about 40."""
    file_mib: int = 1
    """The size of one file."""
    files_mib: int = 16
    """Of all files together."""
    files: int = 64
    """How many files."""
    output_kib: int = 64
    """Of what is printed."""


DEFAULT_LIMITS = Limits()


def level() -> Level:
    """What this kernel can confine a process to.

    `full`: files outside the folder cannot be opened. `read-only`: Landlock is missing; nothing is
    written anywhere, but what the user may read can be read. `none`: not Linux on a known machine,
    or a kernel without seccomp filters: nothing is run.
    """
    if sys.platform != "linux" or platform.machine() not in seccomp.MACHINES:
        return "none"
    if struct.calcsize("P") != 8 or _libc().prctl(21, 0, 0, 0, 0) < 0:  # PR_GET_SECCOMP
        return "none"
    return "full" if _landlock_version() else "read-only"


def confine(limits: Limits, folder: str | None, at: Level) -> None:
    """Confine this process to reading the standard library, and to writing in `folder` if any.

    OSError if the kernel refuses a step; the process must then end without running anything.
    """
    _limit(limits)
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    hide()
    _prctl(_NO_NEW_PRIVS, 1)
    _drop_capabilities()  # else root could raise the limits again
    if at == "full":
        _restrict(readable(), ["/dev/null", *([folder] if folder else [])])
    code = seccomp.program(platform.machine(), writing=at == "full" and folder is not None)
    filter_ = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, and where they are
    described = struct.pack("@HP", len(code) // 8, ctypes.addressof(filter_))
    _prctl(_SET_SECCOMP, _FILTER, ctypes.create_string_buffer(described, len(described)))


def hide() -> None:
    """Keep this process's memory, files and environment from others of the same user."""
    _prctl(_SET_DUMPABLE, 0)


def readable() -> list[str]:
    """The files and folders that confined code may read: software, and nothing of the user's."""
    prefixes = {sys.base_prefix, sys.base_exec_prefix}
    libraries = [os.path.join(prefix, name) for prefix in prefixes for name in ("lib", "lib64")]
    standard = [os.path.dirname(os.__file__)]
    return [*standard, *libraries, *_READABLE]


def _limit(limits: Limits) -> None:
    mib = 2**20
    for which, most in (
        (resource.RLIMIT_AS, limits.memory_mib * mib),
        (resource.RLIMIT_FSIZE, limits.file_mib * mib),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_NPROC, 0),  # for root the system calls are refused instead
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))
    # SIGXCPU says why it ends; a second later comes SIGKILL for those that ignore it.
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    last = limits.cpu_seconds + 1
    last = last if hard == resource.RLIM_INFINITY else min(last, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (min(limits.cpu_seconds, last), last))


def _landlock_version() -> int:
    """The version that this kernel speaks, from 1; 0 if it has none or keeps it from us."""
    flags = ctypes.c_uint32(_VERSION)
    return max(0, int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), flags)))


def _restrict(readable: Sequence[str], writable: Sequence[str]) -> None:
    """From now on only these files, and what lies beneath these folders, can be opened.

    What does not exist is left out. With version 6 no signal reaches a process outside, either.
    """
    abi = _landlock_version()
    # All rights over files that a version knows: what is not in here is not looked after.
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    handled = [rights, 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0]  # files, TCP, scopes
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = struct.pack("=QQQ", *handled)
    ruleset = _call("Landlock", _CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for paths, wanted in ((readable, _READ), (writable, _WRITE)):
            for path in paths:
                _allow(ruleset, path, wanted & rights)
        _call("Landlock", _RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = struct.pack("=Qi", rights if os.path.isdir(path) else rights & _OF_A_FILE, place)
        given = (ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), rule, ctypes.c_uint32(0))
        _call("Landlock", _ADD, *given)
    finally:
        os.close(place)


def _drop_capabilities() -> None:
    header = struct.pack("=Ii", _CAPABILITIES_3, 0)
    _call("capset", _CAPSET[platform.machine()], header, bytes(24))


def _prctl(option: int, *arguments: object) -> None:
    values = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    values += [ctypes.c_ulong(0)] * (4 - len(values))
    _done(f"prctl {option}", _libc().prctl(option, *values))


def _call(step: str, number: int, *arguments: object) -> int:
    return _done(step, _libc().syscall(number, *arguments))


def _done(step: str, result: int) -> int:
    """What the kernel answered; OSError if it refused."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{step}: {os.strerror(code)}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
