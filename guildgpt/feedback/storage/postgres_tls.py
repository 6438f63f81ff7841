"""TLS to a PostgreSQL server, as its URL asks for it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from guildgpt.errors import StoreError

_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_VALUES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "channel_binding": ("disable", "prefer", "require"),
    "ssl_min_protocol_version": tuple(_VERSIONS),
    "ssl_max_protocol_version": tuple(_VERSIONS),
}
TLS_PARAMETERS = ("ssl", "sslpassword", "sslrootcert", "sslcert", "sslkey", "sslcrl", *_VALUES)
_VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "channel_binding": "PGCHANNELBINDING",
}
_UNFIT = {"sslcert": "does not fit its key, or `sslpassword` does not open the key"}
_SYSTEM = "system"  # in place of a file: the certificates that the system trusts


def tls_arguments(
    query: dict[str, str], environment: Mapping[str, str], *, on_a_socket: bool
) -> dict[str, Any]:
    """What `asyncpg.connect` is told; takes the parameters that say it out of `query`.

    Channel binding keeps a server out that only passes the password on. asyncpg cannot do it, so
    `require` is met by what keeps the same server out: a certificate that is verified in full.
    """
    asked = {name: query.pop(name) for name in TLS_PARAMETERS if query.get(name)}
    for name, variable in _VARIABLES.items():
        if value := environment.get(variable):
            asked.setdefault(name, value)
    if ssl_too := asked.pop("ssl", None):  # JDBC's name, and that of some hosters
        asked.setdefault("sslmode", "require" if ssl_too in ("true", "1") else ssl_too)
    for name, values in _VALUES.items():
        if name in asked and asked[name] not in values:
            raise StoreError(
                f"`{name}` in the store's URL has a value that it cannot have",
                remedy=f"Write {', '.join(values[:-1])} or {values[-1]}.",
            )

    mode = asked.get("sslmode")
    if asked.pop("channel_binding", None) == "require":
        if mode == "disable" or on_a_socket:
            raise StoreError(
                "`channel_binding=require` cannot be met without TLS",
                remedy="Take it, or `sslmode=disable`, out of the store's URL."
                if mode == "disable"
                else "Take it out of the store's URL: this is a socket on the same machine.",
            )
        mode = "verify-full"
    root = asked.get("sslrootcert")
    if root == _SYSTEM and mode is None:
        mode = "verify-full"  # as in libpq
    if root == _SYSTEM and mode not in ("disable", "verify-full"):
        raise StoreError(
            "`sslrootcert=system` needs `sslmode=verify-full`",
            remedy="Anybody can have a certificate that the system trusts: write verify-full.",
        )
    # Where libpq and asyncpg look for one.
    has_root = root or os.path.exists(os.path.expanduser("~/.postgresql/root.crt"))
    if mode in ("verify-ca", "verify-full") and not has_root:
        if mode == "verify-ca":
            raise StoreError(
                "`sslmode=verify-ca` needs the certificate of your hoster's authority",
                remedy="Name its file: sslrootcert=FILE. Or write sslmode=verify-full.",
            )
        root = _SYSTEM

    context = _context(asked, root)  # so that each file's fault is said by name
    direct = asked.pop("sslnegotiation", None) == "direct"
    if direct and mode not in ("require", "verify-ca", "verify-full"):
        raise StoreError(
            "`sslnegotiation=direct` needs TLS", remedy="Write sslmode=require or verify-full."
        )
    arguments: dict[str, Any] = {"direct_tls": True} if direct else {}
    if mode == "verify-full" and root == _SYSTEM:
        return arguments | {"ssl": context}
    if mode:
        asked["sslmode"] = mode
    return arguments | ({"dsn": f"postgresql://?{urlencode(asked)}"} if asked else {})


def _context(asked: Mapping[str, str], root: str | None) -> ssl.SSLContext:
    """A context that verifies in full, from the files that were named."""
    context = (
        ssl.create_default_context() if root == _SYSTEM else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    if root and root != _SYSTEM:
        _load("sslrootcert", root, lambda: context.load_verify_locations(cafile=root))
    if crl := asked.get("sslcrl"):
        _load("sslcrl", crl, lambda: context.load_verify_locations(cafile=crl))
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if key := asked.get("sslkey"):
        _load("sslkey", key, lambda: None)
    if cert := asked.get("sslcert"):
        secret = asked.get("sslpassword", "")  # never asked for on a terminal
        _load("sslcert", cert, lambda: context.load_cert_chain(cert, key, password=lambda: secret))
    context.minimum_version = _VERSIONS[asked.get("ssl_min_protocol_version", "TLSv1.2")]
    if highest := asked.get("ssl_max_protocol_version"):
        context.maximum_version = _VERSIONS[highest]
    context.set_alpn_protocols(["postgresql"])
    return context


def _load(name: str, file: str, load: Any) -> None:
    try:
        Path(file).read_bytes()
        load()
        return
    except ssl.SSLError:
        fault = _UNFIT.get(name, "holds no certificate in PEM form")
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    raise StoreError(
        f"`{name}` in the store's URL names a file that {fault}",
        where=file,
        remedy="Give the path of the file that your hoster lets you download.",
    )
