"""A PostgreSQL URL as hosters hand it out, read as libpq reads it, for asyncpg.

Every parameter of libpq is understood or refused by name; asyncpg would send what it does not know
to the server. No error shows a value: each may hold a part of the password.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from guildgpt.errors import StoreError
from guildgpt.feedback.storage.postgres_tls import TLS_PARAMETERS, tls_arguments

FORM = "postgresql://user:password@host:5432/database"
ENCODE = (
    "In a password, write @ : / ? # and % percent-encoded (@ is %40). This prints it so: "
    "python -c \"import getpass, urllib.parse; print(urllib.parse.quote(getpass.getpass(), ''))\""
)

# `hosts [/database] [?name=value&…]`: what may follow the last @ of the credentials.
_ADDRESS = re.compile(r"([^/?#@\s]*)(?:/([^/?#@]*))?(?:\?(.*))?", re.DOTALL)
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|((?:[\w.-]|%[0-9A-Fa-f]{2})*))(?::(\d*))?")
_PLACEHOLDER = re.compile(r"[\[<]?your[-_ ]?password[\]>]?", re.IGNORECASE)

_PLACE = ("host", "port", "user", "password", "dbname", "database")
# What these ask for is done anyway, or is nothing to do; any other value is refused.
_DONE_ANYWAY = {
    "client_encoding": ("utf8", "utf-8", "unicode", "auto"),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable",),
    "pgbouncer": ("true", "false"),  # Prisma's word, in Supabase's URLs; we find out ourselves
    "replication": ("false", "off", "no", "0"),
    "sslcertmode": ("allow",),
    "sslcompression": ("0", "1"),  # libpq ignores it, too
    "sslsni": ("1",),
}
_ATTRIBUTES = ("any", "read-write", "primary")
_NOT_FOR_WRITING = ("read-only", "standby", "prefer-standby")
_SOCKET_OPTIONS = {  # with libpq's defaults, but for a connection that is soon known to be dead
    "keepalives": ("SO_KEEPALIVE", 1),
    "keepalives_idle": ("TCP_KEEPIDLE", 60),  # seconds; before a router forgets who is idle
    "keepalives_interval": ("TCP_KEEPINTVL", 10),
    "keepalives_count": ("TCP_KEEPCNT", 3),
    "tcp_user_timeout": ("TCP_USER_TIMEOUT", 30_000),  # milliseconds
}
_OTHERS = (
    *("application_name", "connect_timeout", "fallback_application_name", "gsslib", "krbsrvname"),
    *("options", "passfile", "target_session_attrs", "prepared_statement_cache_size"),
)
KNOWN = (*_PLACE, *_DONE_ANYWAY, *_SOCKET_OPTIONS, *_OTHERS, *TLS_PARAMETERS)
# libpq knows them, asyncpg does not.
_REFUSED = {
    "service": "Write host, user and database into the store's URL, and the password or a passfile",
    "servicefile": "Write host, user and database into the store's URL",
    "hostaddr": "Write the address in place of the host",
    **dict.fromkeys(
        (
            *("gssdelegation", "max_protocol_version", "min_protocol_version", "require_auth"),
            *("requirepeer", "requiressl", "scram_client_key", "scram_server_key"),
            *("sslkeylogfile", "oauth_issuer", "oauth_client_id", "oauth_client_secret"),
            "oauth_scope",
        ),
        "Take it out of the store's URL",
    ),
}


@dataclass(frozen=True, slots=True)
class PostgresURL:
    """Where a server is, and how to connect to it."""

    shown: str
    """The URL for people: without password and parameters."""
    hosts: tuple[tuple[str, int], ...]
    """Each with its port, to be tried in turn; none: asyncpg's default."""
    arguments: Mapping[str, Any] = field(repr=False)
    """Of `asyncpg.connect`, besides the host."""
    socket_options: tuple[tuple[int, int, int], ...]
    """To be set on a connection's socket."""
    guessed: bool
    """User and password were not percent-encoded."""
    pooled: bool
    """The URL says that a pooler stands before the server."""


def read_url(url: str, environment: Mapping[str, str]) -> PostgresURL:
    """The URL read; raises StoreError if it cannot be, or asks for what is not done here."""
    text = url.strip().partition("://")[2]
    found = _split(text)
    if found is None:
        raise StoreError("the store's URL cannot be read", remedy=f"Write {FORM}. {ENCODE}")
    credentials, hostlist, database, parameters = found
    user, _, password = credentials.partition(":")
    guessed = bool(re.search(r"[@/?#:]|%(?![0-9A-Fa-f]{2})", user + password))
    query = _known(parameters, guessed)
    user = query.pop("user", "") or unquote(user)
    secret = query.pop("password", "") or unquote(password)
    if _PLACEHOLDER.fullmatch(secret):
        raise StoreError(
            "the store's URL holds the hoster's placeholder in place of a password",
            remedy="Put your password there. " + ENCODE,
        )
    database = query.pop("dbname", "") or query.pop("database", "") or unquote(database)
    hosts = _hosts(query.pop("host", ""), hostlist, query.pop("port", ""))
    on_a_socket = bool(hosts) and all(host.startswith("/") for host, _ in hosts)
    settings = {"application_name": query.pop("fallback_application_name", "guildgpt")}
    for name in ("application_name", "options"):
        if value := query.pop(name, ""):
            settings[name] = value
    arguments = {
        "user": user or _user(environment),
        "password": secret or None,
        "database": database or None,
        "server_settings": settings,
        # Seconds; libpq waits for ever if they are not above 0.
        "timeout": max(0, _whole("connect_timeout", query.pop("connect_timeout", "10"))) or None,
        "target_session_attrs": _attributes(query.pop("target_session_attrs", ""), len(hosts)),
        "passfile": _passfile(query.pop("passfile", "")),
        "krbsrvname": query.pop("krbsrvname", None),
        "gsslib": query.pop("gsslib", None),
        **tls_arguments(query, environment, on_a_socket=on_a_socket),
    }
    socket_options = _socket_options(query)
    pooled = query.pop("pgbouncer", "") == "true"
    pooled |= query.pop("prepared_statement_cache_size", "") == "0"
    at = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
    return PostgresURL(
        shown=f"postgresql://{user}{':***' if secret else ''}{'@' if user else ''}{at}/{database}",
        hosts=hosts,
        arguments=arguments,
        socket_options=() if on_a_socket else tuple(socket_options),
        guessed=guessed,
        pooled=pooled,
    )


def _split(text: str) -> tuple[str, str, str, str] | None:
    """Credentials, hosts, database and parameters.

    The credentials end at the first @ that an address follows: so a password may hold an @, a / or
    a # that nobody encoded.
    """
    ends = [-1, *(found.start() for found in re.finditer("@", text))]
    for end in ends:
        found = _ADDRESS.fullmatch(text, end + 1)
        if found is None:
            continue
        hosts, database, query = found[1], found[2] or "", found[3] or ""
        names = [part.partition("=") for part in query.split("&") if part]
        certain = end == ends[-1] or all(name in (*KNOWN, *_REFUSED) for name, _, _ in names)
        if (
            certain
            and all(_HOST.fullmatch(host) for host in hosts.split(","))
            and all(re.fullmatch(r"[\w.-]+", name) and equals for name, equals, _ in names)
        ):
            return text[: max(end, 0)], hosts, database, query
    return None


def _known(parameters: str, guessed: bool) -> dict[str, str]:
    """The parameters; those that are not known, or whose value is not, are refused."""
    parts = (part.partition("=") for part in parameters.split("&") if part)
    query = {name: unquote(value) for name, _, value in parts}
    for name in query:
        if name in _REFUSED:
            raise StoreError(
                f"`{name}` in the store's URL is not understood here",
                remedy=f"{_REFUSED[name]}.",
            )
        if name not in KNOWN:
            if guessed or "password" in query:  # of which this may be a part
                raise StoreError(
                    "a parameter in the store's URL is none of PostgreSQL's",
                    remedy=f"Write {FORM}. {ENCODE}",
                )
            near = get_close_matches(name, KNOWN, n=1)
            hint = f"Did you mean `{near[0]}`? Else take" if near else "Take"
            raise StoreError(
                f"`{name}` in the store's URL is no parameter of PostgreSQL",
                remedy=f"{hint} it out of the URL.",
            )
        if name in _DONE_ANYWAY and query[name].lower() not in _DONE_ANYWAY[name]:
            raise must_be(name, _DONE_ANYWAY[name])
    return query


def must_be(name: str, values: tuple[str, ...]) -> StoreError:
    """A parameter has a value that is not one of those it may have here."""
    return StoreError(
        f"`{name}` in the store's URL has a value that is not understood here",
        remedy=f"Write {' or '.join(values)}, or take it out of the URL.",
    )


def _hosts(named: str, written: str, ports: str) -> tuple[tuple[str, int], ...]:
    """Hosts with their ports; `named` and `ports` are the parameters, which go first."""
    if named:  # here a colon belongs to an address, or to a socket's folder
        found = [(host, "") for host in named.split(",")]
    else:
        parts = filter(None, map(_HOST.fullmatch, written.split(",")))  # all: _split looked
        found = [(part[1] or unquote(part[2] or ""), part[3] or "") for part in parts]
    if ports:
        numbers = ports.split(",") if "," in ports else [ports] * len(found)
        if len(numbers) != len(found):
            raise StoreError(
                "the store's URL has another number of ports than of hosts",
                remedy="Write a port for each host, or one for all.",
            )
        found = [(name, port) for (name, _), port in zip(found, numbers, strict=True)]
    if len(found) > 1 and not all(name for name, _ in found):
        raise StoreError(
            "the store's URL has a comma without a host", remedy="Write host1:5432,host2:5432."
        )
    for name, _ in found:
        try:
            name.encode("idna")
        except UnicodeError:
            if not name.startswith("/"):
                raise StoreError(
                    "the store's URL has a host whose name cannot be one",
                    remedy=f"Write {FORM}. {ENCODE}",
                ) from None
    return tuple(
        (name or "localhost", _port(port or "5432")) for name, port in found if name or port
    )


def _user(environment: Mapping[str, str]) -> str:
    try:
        return environment.get("PGUSER") or getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's number without a name
        raise StoreError("the store's URL names no user", remedy=f"Write {FORM}.") from None


def _port(port: str) -> int:
    if not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise StoreError(
            "the port in the store's URL is no number from 1 to 65535",
            remedy=f"Write {FORM}. {ENCODE}",
        )
    return int(port)


def _whole(name: str, value: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", value, re.ASCII):
        raise StoreError(
            f"`{name}` in the store's URL is no whole number", remedy=f"Write {name}=10, say."
        )
    return int(value)


def _attributes(value: str, hosts: int) -> str:
    """Of several hosts the one that can be written to is meant, if nothing else is said."""
    if value in _NOT_FOR_WRITING:
        raise StoreError(
            "`target_session_attrs` asks for a server that cannot be written to",
            remedy="The store has to be: write read-write, or take it out of the URL.",
        )
    if value and value not in _ATTRIBUTES:
        raise must_be("target_session_attrs", _ATTRIBUTES)
    return value if value and value != "any" else ("read-write" if hosts > 1 else "any")


def _passfile(value: str) -> str | None:
    """asyncpg passes in silence over a file that is missing, or open to others."""
    if not value:
        return None
    path = Path(value)
    try:
        mode = path.stat().st_mode
        path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"`passfile` in the store's URL cannot be read ({error.strerror})",
            remedy="Name a file with lines of host:port:database:user:password.",
        ) from None
    if mode & 0o077 and hasattr(socket, "AF_UNIX"):
        raise StoreError(
            "`passfile` in the store's URL is open to other users", remedy="chmod 600 the file."
        )
    return value


def _socket_options(query: dict[str, str]) -> list[tuple[int, int, int]]:
    """For setsockopt: level, option, value. What the system does not know is left out."""
    options = []
    for name, (option, default) in _SOCKET_OPTIONS.items():
        value = _whole(name, query.pop(name, str(default)))
        if name == "keepalives":
            options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(value != 0)))
        elif hasattr(socket, option) and value > 0:  # 0 is the system's own
            options.append((socket.IPPROTO_TCP, getattr(socket, option), value))
    return options
