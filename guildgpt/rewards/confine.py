"""A process gives up what it could do, for good: limits, privileges, files, system calls.

Called in a process that has just been forked, before it runs a line that is not ours. Each step is
made by the kernel, holds for a process without privileges and for root alike, and cannot be undone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from typing import Literal, NamedTuple

from guildgpt.rewards import landlock, seccomp

Level = Literal["full", "read-only", "none"]

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _NO_NEW_PRIVS = 1, 4, 22, 38  # prctl
_FILTER = 2
_CAPABILITIES_3 = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}

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
    return "full" if landlock.version() else "read-only"


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
        landlock.restrict(readable(), ["/dev/null", *([folder] if folder else [])])
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


def _drop_capabilities() -> None:
    header = struct.pack("=Ii", _CAPABILITIES_3, 0)
    if _libc().syscall(_CAPSET[platform.machine()], header, bytes(24)) < 0:
        _fail("capset")


def _prctl(option: int, *arguments: object) -> None:
    values = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    values += [ctypes.c_ulong(0)] * (4 - len(values))
    if _libc().prctl(option, *values) < 0:
        _fail(f"prctl {option}")


def _fail(step: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, f"{step}: {os.strerror(code)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
