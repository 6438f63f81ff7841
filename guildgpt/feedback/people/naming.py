"""What people of the web page may be called: one name each, and none that reads like another's."""

from __future__ import annotations

import unicodedata

from sqlalchemy import Connection, select

from guildgpt.errors import SignInRefused
from guildgpt.feedback.storage.rows import storable
from guildgpt.feedback.storage.schema import accounts

LONGEST_NAME = 60  # characters
LOCAL_NAME = "operator"  # whoever sits at the machine, until they choose another
LOCAL_ACCOUNT = "local_account"  # the fact which account is theirs, once they did


def clean_name(name: str) -> str:
    """A name as it is written down. Raises SignInRefused where nobody could be called so."""
    composed = unicodedata.normalize("NFC", str(storable(name)))
    shown = "".join(one for one in composed if one.isspace() or unicodedata.category(one)[0] != "C")
    chosen = " ".join(shown.split())
    if not any(one.isalnum() for one in chosen):
        raise SignInRefused("a name has letters", remedy="Choose one that others know you by.")
    if len(chosen) > LONGEST_NAME:
        raise SignInRefused(
            f"a name has {LONGEST_NAME} characters at most", remedy="Choose a shorter one."
        )
    return chosen


def refuse_taken(connection: Connection, name: str, *, of: str | None = None) -> None:
    """Raise SignInRefused for a name that reads like another's, ended accounts' included; `of` is
    the account whose own name it may be."""
    others = (accounts.c.kind == "web") & (accounts.c.id != (of or ""))
    wanted = select(accounts.c.name).where(others)
    if _as_read(name) in {_as_read(one) for one in [LOCAL_NAME, *connection.scalars(wanted)]}:
        raise taken(name)


def taken(name: str) -> SignInRefused:
    """What it is that somebody else is called so."""
    return SignInRefused(f"somebody is called {name} already", remedy="Choose another name.")


def _as_read(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
