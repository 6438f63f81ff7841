"""Where the feedback store lies, and the key that turns members into hashes.

The key never lies in the database: whoever has only that cannot tell who a member is.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from guildgpt.errors import GuildError

STORE_VARIABLE = "GUILDGPT_STORE"
KEY_VARIABLE = "GUILDGPT_MEMBER_KEY"
_KEY_BYTES = 32
_SERVER_ALL_THE_SAME = re.compile(
    r"^(postgres|postgresql|jdbc):|(^|\s)(host|dbname|user|password|service)\s*=", re.IGNORECASE
)
_MAKE_ONE = "python -c 'import secrets; print(secrets.token_hex(32))'"


def default_store() -> str:
    """The store's URL: $GUILDGPT_STORE, or a SQLite file in the user's data folder."""
    chosen = os.environ.get(STORE_VARIABLE, "").strip()
    return as_url(chosen) if chosen else f"sqlite:///{_data_dir() / 'feedback.db'}"


def as_url(store: str) -> str:
    """A URL as it is; anything else is the path of a SQLite file.

    Raises GuildError for what was meant to name a server: a file of that name would show the
    password to everybody who lists the folder.
    """
    store = store.strip()
    if "://" in store:
        return store
    if _SERVER_ALL_THE_SAME.search(store):
        raise GuildError(
            "this names a database server, but not as a URL",
            remedy="Write postgresql://user:password@host:5432/database.",
        )
    return f"sqlite:///{Path(store).expanduser()}"


def store_file(store_url: str) -> Path | None:
    """The file of a SQLite store; None for a server's, and for one in memory."""
    scheme, _, rest = store_url.partition("://")
    if scheme.partition("+")[0] != "sqlite":
        return None
    name = rest.removeprefix("/").partition("?")[0]
    return Path(name).expanduser() if name not in ("", ":memory:") else None


def member_key(store_url: str) -> bytes:
    """The key, at least 32 bytes: $GUILDGPT_MEMBER_KEY in hexadecimal, or a file's.

    The file lies beside a SQLite store (`feedback.db.key`), for a server's in the user's data
    folder; it is made with mode 0600 where there is none. Raises GuildError if what is there is no
    key, and if the key of a SQLite store is gone: with a new one, no member would be found again.
    """
    if text := os.environ.get(KEY_VARIABLE, "").strip():
        return _parse(text, f"${KEY_VARIABLE}")
    database, path = store_file(store_url), key_file(store_url)
    if not path.exists():
        if database is not None and database.exists() and database.stat().st_size:
            raise GuildError(
                "the key of this store's members is gone",
                where=path,
                remedy=f"Put the file back, or its text into ${KEY_VARIABLE}: without it no member "
                "can be told from another, nor be erased.",
            )
        _make(path)
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return _parse(path.read_text(encoding="ascii", errors="replace").strip(), str(path))
    except OSError as error:
        raise GuildError(
            f"the key of the store's members cannot be read ({error.strerror})", where=path
        ) from error


def key_file(store_url: str) -> Path:
    """The file that has the store's key, unless $GUILDGPT_MEMBER_KEY does."""
    database = store_file(store_url)
    return database.with_name(database.name + ".key") if database else _data_dir() / "member.key"


def has_key(store_url: str) -> bool:
    """Whether there is a key for this store."""
    return bool(os.environ.get(KEY_VARIABLE, "").strip()) or key_file(store_url).exists()


def keep_key(store_url: str, key: bytes) -> None:
    """Put a key where the store's is looked for; one that is there stays. GuildError if it cannot
    be written."""
    _make(key_file(store_url), key)


def _make(path: Path, key: bytes | None = None) -> None:
    """A key, a new one if none is given, whole or not at all; one that another process made
    meanwhile stays."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write((key.hex() if key else secrets.token_hex(_KEY_BYTES)) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            with suppress(FileExistsError):
                os.link(part, path)  # unlike a rename, it never takes another's place
        finally:
            part.unlink()
    except OSError as error:
        raise GuildError(
            f"the key of the store's members cannot be written ({error.strerror})",
            where=path,
            remedy=f"Make the folder writable, or set ${KEY_VARIABLE} to the output of {_MAKE_ONE}",
        ) from error


def _parse(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < _KEY_BYTES:
        raise GuildError(
            f"this is no key: {2 * _KEY_BYTES} hexadecimal digits or more are",
            where=where,
            remedy=f"A new store may take a new one: {_MAKE_ONE}",
        )
    return key


def _data_dir() -> Path:
    from platformdirs import user_data_dir

    return Path(user_data_dir("guildgpt", appauthor=False))
