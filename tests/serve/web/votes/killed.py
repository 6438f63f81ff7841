"""A server in a process of its own, to be killed; started by `test_killed.py`."""

from __future__ import annotations

import sys
from pathlib import Path

from letters import Letters

from ..conftest import site_over
from .voters import Talker


def main(folder: str, invite: bool) -> None:
    """Serve the store in a folder; say where, and a link's token for who has none yet."""
    with site_over(Talker(Letters()), Path(folder)) as site:
        token = site.link().partition("#")[2] if invite else ""
        print(f"{site.url} {token}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "invite")
