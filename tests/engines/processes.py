"""The processes that llama.cpp runs in, as the system knows them."""

from __future__ import annotations

import psutil


def children() -> set[psutil.Process]:
    """Those that this process has."""
    found = set()
    for child in psutil.Process().children():
        try:
            if any("llamacpp_child" in word for word in child.cmdline()):
                found.add(child)
        except psutil.Error:  # it just ended
            continue
    return found
