"""Whether versions' files are where the store says, and what they were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guildgpt.errors import GuildError
from guildgpt.feedback.versions.versions import KnownVersion
from guildgpt.model.locate import WEIGHTS, locate
from guildgpt.model.version import version_of

Lack = Literal["missing", "another"]


@dataclass(frozen=True, slots=True)
class Lacking:
    """A version whose file is `missing`, or `another` than the one that was registered."""

    id: str
    path: str
    lack: Lack

    @property
    def says(self) -> str:
        """In words, with what to do."""
        what = "is not there" if self.lack == "missing" else "is another one than was registered"
        return (
            f"{self.id}: its file {what} ({self.path}). Say where it lies now: "
            "guildgpt versions register FOLDER"
        )


def lacking(versions: Iterable[KnownVersion]) -> list[Lacking]:
    """Those of the versions that cannot answer from here; reads the whole files."""
    found = ((one, _lack(one)) for one in versions)
    return [Lacking(one.id, one.path, lack) for one, lack in found if lack]


def _lack(version: KnownVersion) -> Lack | None:
    path = Path(version.path)
    if not path.is_file():
        return "missing"
    try:
        found = locate(str(path.parent if path.name in WEIGHTS else path))
        return None if version_of(found).sha256 == version.sha256 else "another"
    except (GuildError, OSError):
        return "another"  # a part of it is gone, or it is no model any more
