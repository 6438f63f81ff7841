"""The address that a server listens on."""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import ip_address

from guildgpt.errors import GuildError


def listen(host: str, port: int) -> socket.socket:
    """Listen there, at any free port for 0. Raises `GuildError` where that is not to be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = f"port {port} of {host} is taken: another program listens there"
            remedy = "Another port, --port 8001, or 0 for any that is free. Or end that program."
        else:
            known = error.errno in errno.errorcode  # then Python adds to its words
            why = os.strerror(error.errno) if known and error.errno else error.strerror
            what = f"port {port} of {host} is not to be had: {why}"
            remedy = "Another --host, an address of this machine, or another --port above 1023."
        raise GuildError(what, remedy=remedy) from error


def is_loopback(host: str) -> bool:
    """Whether none but this machine's programs reach that address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
