"""Which version a model is: its name, and the first digits of what its file holds."""

from __future__ import annotations

import re

from guildgpt.data.lines import file_sha256
from guildgpt.feedback.records import Version
from guildgpt.model.locate import Located, locate

_ID = re.compile(r".+@[0-9a-f]{8}")


def version_of(found: Located) -> Version:
    """The version that a model has in the store; reads the whole GGUF file once."""
    digest = file_sha256(found.gguf)
    # Every run calls its model folders "model": what they lie in says more.
    name = found.folder.parent.name if found.folder else found.name
    return Version(f"{name}@{digest[:8]}", found.name, str(found.gguf), digest)


def named(model: str) -> Version | str:
    """A version by its id, as `guildgpt feedback stats` shows it, or by its model.

    Raises `ModelError` where there is no such model.
    """
    return model if _ID.fullmatch(model) else version_of(locate(model))
