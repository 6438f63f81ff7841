"""How one role's turn is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Trim = Literal["none", "newlines", "all", "by token"]
# What a control token takes off beside it (`lstrip`, `rstrip` of an added token) is Unicode's white
# space; what a template's `trim` takes is Python's, which has four characters more.
_BY_TOKEN = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_TRIMMED: dict[Trim, str | None] = {
    "none": "",
    "newlines": "\n",
    "all": None,
    "by token": _BY_TOKEN,
}


@dataclass(frozen=True, slots=True)
class Turn:
    """How a role's turn is written: what stands before and after its content, and what is taken
    off the content's ends."""

    opening: str
    closing: str
    left: Trim = "none"
    right: Trim = "none"

    def content(self, text: str) -> str:
        """The text as it stands in the turn."""
        return text.lstrip(_TRIMMED[self.left]).rstrip(_TRIMMED[self.right])
