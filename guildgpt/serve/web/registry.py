"""The pages there are. A further one is an entry here and NAME.html, NAME.js (and NAME.css, if it
needs one) in `static/`; what it asks the server for is a router in `site.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SeenBy = Literal["anybody", "voter", "operator"]


@dataclass(frozen=True, slots=True)
class Page:
    """A page by the name of its files; `styles` are further style sheets of others that it takes.

    Whoever is not signed in sees only what `anybody` may; an operator sees all of them.
    """

    name: str
    title: str
    seen_by: SeenBy
    in_menu: bool = True
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
    Page("chat", "Chat", "voter", styles=("prose",)),
    Page("rounds", "Rounds", "voter", styles=("prose", "votes")),
    Page("ranking", "Ranking", "voter", styles=("prose", "votes")),
    Page("compare", "Side by side", "voter", styles=("prose", "votes")),
    Page("versions", "Versions", "operator", styles=("office",)),
    Page("pool", "Prompts", "operator", in_menu=False, styles=("office",)),
    Page("corrections", "Corrections", "operator", in_menu=False, styles=("prose", "office")),
    Page("reports", "Reports", "operator", in_menu=False, styles=("prose", "office")),
    Page("people", "People", "operator", in_menu=False, styles=("office",)),
    Page("runs", "Runs", "operator", in_menu=False, styles=("office",)),
    Page("account", "Your account", "voter", in_menu=False),
    Page("join", "Sign in", "anybody", in_menu=False),
    Page("refused", "Not for you", "anybody", in_menu=False),
)


def is_web(path: str) -> bool:
    """Whether a path is the web page's: who may see it, its session says, not a key."""
    return path.startswith(("/static/", "/api/")) or any(page.path == path for page in PAGES)
