"""The pages there are. A further one is an entry here and NAME.html, NAME.js (and NAME.css, if it
needs one) in `static/`; what it asks the server for is a router in `site.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SeenBy = Literal["anybody", "voter", "operator"]


@dataclass(frozen=True, slots=True)
class Page:
    """A page by the name of its files; `styles` are further style sheets of others that it takes.

    Whoever is not signed in sees only what `anybody` may; an operator sees all of them. The menu
    names it by `in_menu`, "" if it does not; pages of a `wing` stand behind that one's entry.
    """

    name: str
    title: str
    seen_by: SeenBy
    in_menu: str = ""
    wing: str = ""
    styles: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where it is: the chat is what one comes to first."""
        return "/" if self.name == "chat" else f"/{self.name}"

    def is_for(self, role: str | None) -> bool:
        """Whether somebody in that role sees it; None is nobody who has signed in."""
        allowed = {"anybody": (None, "voter", "operator"), "voter": ("voter", "operator")}
        return role in allowed.get(self.seen_by, ("operator",))


PAGES = (
    Page("chat", "Chat", "voter", "Chat", styles=("prose",)),
    Page("rounds", "Rounds", "voter", "Rounds", styles=("prose", "votes")),
    Page("ranking", "Ranking", "voter", "Ranking", styles=("prose", "votes")),
    Page("compare", "Side by side", "voter", "Side by side", styles=("prose", "votes")),
    Page("versions", "Versions", "operator", "Manage", styles=("office",)),
    Page("pool", "Prompts", "operator", wing="versions", styles=("office",)),
    Page("corrections", "Corrections", "operator", wing="versions", styles=("prose", "office")),
    Page("reports", "Reports", "operator", wing="versions", styles=("prose", "office")),
    Page("people", "People", "operator", wing="versions", styles=("office",)),
    Page("runs", "Runs", "operator", wing="versions", styles=("office",)),
    Page("account", "Your account", "voter"),
    Page("join", "Sign in", "anybody"),
    Page("refused", "Not for you", "anybody"),
    Page("lost", "Nothing is here", "anybody"),
)


def is_web(path: str) -> bool:
    """Whether a path is the web page's: who may see it, its session says, not a key."""
    return path.startswith(("/static/", "/api/")) or any(page.path == path for page in PAGES)
