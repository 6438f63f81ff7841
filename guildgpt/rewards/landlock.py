"""Landlock: the kernel lets this process reach the files it names, and no others.

See landlock(7) and linux/landlock.h. What is once given up cannot be had back.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every machine
_VERSION = 1  # a flag of the first: only tell the version
_BENEATH = 1  # the rule: what lies beneath a path

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
_OF_A_FILE = _READ_FILE | _WRITE_FILE | _TRUNCATE


def version() -> int:
    """The version that this kernel speaks, from 1; 0 if it has none or keeps it from us."""
    told = _libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(0, int(told))


def restrict(readable: Sequence[str], writable: Sequence[str]) -> None:
    """From now on only these files, and what lies beneath these folders, can be opened.

    What does not exist is left out. With version 6 no signal reaches a process outside, either.
    OSError if the kernel refuses; `PR_SET_NO_NEW_PRIVS` must have been set.
    """
    abi = version()
    rights = _rights(abi)
    handled = [rights, 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0]  # files, TCP, scopes
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = struct.pack("=QQQ", *handled)
    ruleset = _call(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for paths, wanted in ((readable, _READ), (writable, _WRITE)):
            for path in paths:
                _allow(ruleset, path, wanted & rights)
        _call(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _rights(abi: int) -> int:
    """All rights over files that a version knows: what is not in here is not looked after."""
    known = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    return int((1 << known) - 1)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, place)
        _call(_ADD, ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
