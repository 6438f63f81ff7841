"""Which version a model is: its name, and the first digits of what its file holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from guildgpt.chat.template import TEMPLATE_FILE
from guildgpt.hashes import combined, file_sha256
from guildgpt.model.gguf_file import check_whole, parts
from guildgpt.model.json_file import read_json
from guildgpt.model.locate import WEIGHTS, Located, locate

_ID = re.compile(r".+@[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Version:
    """A model that answers: `id` is its name, "@" and the first 8 hex digits of its sha256, which
    is that of all its files if it was split. `path` is its GGUF's, from whatever folder one looks.
    """

    id: str
    name: str
    path: str
    sha256: str


def version_of(found: Located, sha256: str | None = None) -> Version:
    """The version that a model is; reads the whole file unless its hash is known."""
    if sha256 is None:
        sha256 = combined([file_sha256(part) for part in _files(found)])
    return Version(f"{name_of(found)}@{sha256[:8]}", found.name, str(found.gguf.absolute()), sha256)


def name_of(found: Located) -> str:
    """What a version's id begins with. Every run calls its model folders "model": what they lie in
    says more, but for folders of others."""
    if found.folder is None:
        return found.name
    ours = (found.folder / TEMPLATE_FILE).is_file()
    return (found.folder.parent if ours else found.folder.absolute()).name


def _files(found: Located) -> list[Path]:
    """All files that hold the model, in order."""
    if not found.weights:
        return parts(found.gguf)
    if found.gguf.suffix != ".json":
        return [found.gguf]
    shards = sorted(set(read_json(found.gguf)["weight_map"].values()))
    return [found.gguf.parent / shard for shard in shards]


def check_model(path: Path) -> None:
    """Raise `EngineError` for a GGUF that is missing or not whole; whether weights are, torch says
    when it opens them."""
    if path.name not in WEIGHTS:
        check_whole(path)


def named(model: str) -> Version | str:
    """A version by its id, as `guildgpt feedback stats` shows it, or by its model.

    Raises `ModelError` where there is no such model.
    """
    return model if is_id(model) else version_of(locate(model))


def is_id(model: str) -> bool:
    """Whether a text looks like a version's id: NAME@ and 8 hexadecimal digits."""
    return _ID.fullmatch(model) is not None
