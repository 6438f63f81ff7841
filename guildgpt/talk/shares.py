"""Which of several versions answers a conversation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping


def version_for(conversation: str, shares: Mapping[str, float], number: int) -> str:
    """The version that answers a conversation as long as release `number` lasts.

    Each version draws u in (0, 1) from a hash of release, conversation and itself; the smallest
    -log(u) / share wins, which happens in just that share of all conversations. Where a version is
    left out, only its own conversations go to others (weighted rendezvous hashing).
    """

    def wait(version: str) -> float:
        digest = hashlib.sha256(f"{number}\0{conversation}\0{version}".encode()).digest()
        drawn = (int.from_bytes(digest[:8]) + 0.5) / 2**64
        return -math.log(drawn) / shares[version]

    return min(sorted(shares), key=wait)
