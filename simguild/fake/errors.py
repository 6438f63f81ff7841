"""How the fake Discord says no: to the bot over REST, and to a test that asks the impossible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Refused(Exception):
    """A simulated person tried what Discord's own client would not let them do."""


class Fault(NamedTuple):
    """One thing wrong with a request body: where (`components.0.custom_id`), which, in words."""

    path: str
    code: str
    message: str


class ApiError(Exception):
    """An answer of the REST API that is not a success.

    `violation` tells in words which limit the bot broke, and is empty where it broke none: a bot
    may well meet a message that was deleted, but never has to send one that is too long.
    """

    def __init__(
        self,
        status: int,
        code: int,
        message: str,
        *,
        violation: str = "",
        errors: dict[str, Any] | None = None,
    ):
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.violation = violation
        self.body: dict[str, Any] = {"message": message, "code": code}
        if errors:
            self.body["errors"] = errors


def invalid_form(faults: Sequence[Fault]) -> ApiError:
    """Error 50035 with Discord's tree of what is wrong where."""
    tree: dict[str, Any] = {}
    for fault in faults:
        node = tree
        for part in fault.path.split("."):
            node = node.setdefault(part, {})
        node.setdefault("_errors", []).append({"code": fault.code, "message": fault.message})
    words = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
    return ApiError(400, 50035, "Invalid Form Body", violation=words, errors=tree)


def unknown(what: str, code: int) -> ApiError:
    """404: there is no such thing, or no longer."""
    return ApiError(404, code, f"Unknown {what}")


def unknown_channel() -> ApiError:
    """404 10003."""
    return unknown("Channel", 10003)


def unknown_message() -> ApiError:
    """404 10008."""
    return unknown("Message", 10008)


def missing_access() -> ApiError:
    """403 50001: the bot does not even see the channel."""
    return ApiError(403, 50001, "Missing Access")


def missing_permissions() -> ApiError:
    """403 50013."""
    return ApiError(403, 50013, "Missing Permissions")
