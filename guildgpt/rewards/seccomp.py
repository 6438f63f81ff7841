"""The system calls that confined code may make, as a filter that the kernel runs before each one.

The list says what is allowed, so that what a later kernel invents is refused. Everything else
fails with EPERM: no socket, no process, no program, no thread, no signal to anybody, no ptrace, no
change of privileges, limits or filters.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_…, from linux/audit.h

_ALLOW, _EPERM, _KILL = 0x7FFF0000, 0x00050001, 0x80000000
_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

# Each call's number on x86_64 and on aarch64; 0 stands for read on the first, None for not there.
_CALLS: dict[str, tuple[int | None, int | None]] = {
    # open files
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66),
    "pread64": (17, 67), "pwrite64": (18, 68), "lseek": (8, 62), "close": (3, 57),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "ftruncate": (77, 46),
    "fsync": (74, 82), "fdatasync": (75, 83), "flock": (73, 32), "fadvise64": (221, 223),
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None),
    "epoll_pwait": (281, 22), "eventfd2": (290, 19), "recvfrom": (45, 207),
    # paths, to look at
    "fstat": (5, 80), "newfstatat": (262, 79), "stat": (4, None), "lstat": (6, None),
    "statx": (332, 291), "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getcwd": (79, 17), "chdir": (80, 49),
    "getdents64": (217, 61), "umask": (95, 166),
    # memory
    "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216),
    "brk": (12, 214), "madvise": (28, 233), "membarrier": (324, 283),
    # signals and timers, one's own
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "setitimer": (38, 103),
    "getitimer": (36, 102), "alarm": (37, None), "pause": (34, None),
    # time
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "getrusage": (98, 165),
    # who and where one is
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158),
    "getresuid": (118, 148), "getresgid": (120, 150), "getpgrp": (111, None),
    "getpgid": (121, 155), "getsid": (124, 156), "uname": (63, 160), "sysinfo": (99, 179),
    "getrlimit": (97, 163), "sched_getaffinity": (204, 123), "getcpu": (309, 168),
    # what the C library needs for itself
    "futex": (202, 98), "set_robust_list": (273, 99), "get_robust_list": (274, 100),
    "rseq": (334, 293), "set_tid_address": (218, 96), "arch_prctl": (158, None),
    "sched_yield": (24, 124), "getrandom": (318, 278), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

# These change what a path leads to. Landlock keeps them inside the folder; without it, none.
_CHANGES: dict[str, tuple[int | None, int | None]] = {
    "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276),
}  # fmt: skip


class _Test(NamedTuple):
    """Half of an argument, masked, must be one of the values (or, with `never`, none of them)."""

    word: int  # 2n is the lower half of argument n, 2n + 1 the upper
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    never: bool = False


_ACCESS, _CREATE, _TRUNCATE = 0o3, 0o100, 0o1000  # of open's flags
# A file opened for reading can be truncated by the same call, which Landlock learned late.
_NO_HIDDEN_TRUNCATION = (_TRUNCATE,), _ACCESS | _TRUNCATE
_FOR_READING = (0,), _ACCESS | _CREATE | _TRUNCATE
# Duplicates, flags, locks; not F_SETOWN and F_SETSIG, by which a pipe sends signals to others.
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 1030)
# Is it a terminal, how large; close on exec, non-blocking, how much is there to read.
_IOCTL = (0x5401, 0x5413, 0x5450, 0x5451, 0x5421, 0x541B)


def _with_arguments(writing: bool) -> list[tuple[tuple[int | None, int | None], list[_Test]]]:
    """The calls that are allowed with some arguments only."""

    def flags(word: int) -> list[_Test]:
        values, mask = _NO_HIDDEN_TRUNCATION if writing else _FOR_READING
        return [_Test(word, values, mask, never=writing)]

    return [
        ((2, None), flags(2)),  # open
        ((257, 56), flags(4)),  # openat
        ((72, 25), [_Test(2, _FCNTL)]),
        ((16, 29), [_Test(2, _IOCTL)]),
        # socketpair: AF_UNIX and SOCK_STREAM, as asyncio wakes itself. It leads nowhere else.
        ((53, 199), [_Test(0, (1,)), _Test(2, (1,), 0xF)]),
        ((44, 206), [_Test(8, (0,)), _Test(9, (0,))]),  # sendto, without an address
        ((302, 261), [_Test(0, (0,))]),  # prlimit64, of oneself
    ]


def program(machine: str, *, writing: bool) -> bytes:
    """The filter for a machine of `MACHINES`: an array of `struct sock_filter`.

    Without `writing` no file can be opened for writing, created, renamed or removed, wherever it
    lies: what is left where Landlock cannot say where it may lie.
    """
    side = list(MACHINES).index(machine)
    lines = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, MACHINES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for numbers in [*_CALLS.values(), *(_CHANGES.values() if writing else ())]:
        if (number := numbers[side]) is not None:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for numbers, tests in _with_arguments(writing):
        if (number := numbers[side]) is not None:
            body = [line for test in tests for line in _lines(test)]
            body.append((_RETURN, 0, 0, _ALLOW))
            lines += [(_EQUAL, 0, len(body), number), *body]
    lines.append((_RETURN, 0, 0, _EPERM))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _lines(test: _Test) -> list[tuple[int, int, int, int]]:
    """Go on if the test holds, else refuse."""
    lines = [(_LOAD, 0, 0, _ARGUMENTS + 4 * test.word), (_AND, 0, 0, test.mask)]
    if test.never:
        for value in test.values:
            lines += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _EPERM)]
        return lines
    jumps = [
        (_EQUAL, len(test.values) - index, 0, value) for index, value in enumerate(test.values)
    ]
    return [*lines, *jumps, (_RETURN, 0, 0, _EPERM)]
