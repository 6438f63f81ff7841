"""Discord's permission bits, and which of them someone has in a channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntFlag


class Permission(IntFlag):
    """The bits that a text bot meets."""

    ADMINISTRATOR = 1 << 3
    MANAGE_CHANNELS = 1 << 4
    MANAGE_GUILD = 1 << 5
    ADD_REACTIONS = 1 << 6
    VIEW_CHANNEL = 1 << 10
    SEND_MESSAGES = 1 << 11
    MANAGE_MESSAGES = 1 << 13
    EMBED_LINKS = 1 << 14
    ATTACH_FILES = 1 << 15
    READ_MESSAGE_HISTORY = 1 << 16
    MENTION_EVERYONE = 1 << 17
    USE_APPLICATION_COMMANDS = 1 << 31
    MANAGE_THREADS = 1 << 34
    CREATE_PUBLIC_THREADS = 1 << 35
    CREATE_PRIVATE_THREADS = 1 << 36
    SEND_MESSAGES_IN_THREADS = 1 << 38


ALL = (1 << 50) - 1
_ADMINISTRATOR = int(Permission.ADMINISTRATOR)  # as plain numbers: enums are slow to combine
_VIEW_CHANNEL = int(Permission.VIEW_CHANNEL)
EVERYONE = int(
    Permission.ADD_REACTIONS
    | Permission.VIEW_CHANNEL
    | Permission.SEND_MESSAGES
    | Permission.EMBED_LINKS
    | Permission.ATTACH_FILES
    | Permission.READ_MESSAGE_HISTORY
    | Permission.USE_APPLICATION_COMMANDS
    | Permission.CREATE_PUBLIC_THREADS
    | Permission.SEND_MESSAGES_IN_THREADS
)

Overwrites = Mapping[int, tuple[int, int]]


def resolve(
    roles: Mapping[int, int], everyone: int, user: int, overwrites: Overwrites | None = None
) -> int:
    """The permissions of `user`, who has `roles` (id to bits; `everyone` is the guild's id).

    `overwrites` are the channel's, by role or user id, as (allow, deny): first everyone's, then
    the other roles' together, then the user's own. Who does not see a channel can do nothing in it.
    """
    bits = 0
    for permissions in roles.values():
        bits |= permissions
    if bits & _ADMINISTRATOR:
        return ALL
    if overwrites is None:
        return bits
    for group in ((everyone,), [role for role in roles if role != everyone], (user,)):
        allow, deny = _together(group, overwrites)
        bits = bits & ~deny | allow
    return bits if bits & _VIEW_CHANNEL else 0


def _together(ids: Iterable[int], overwrites: Overwrites) -> tuple[int, int]:
    allow = deny = 0
    for id in ids:
        more, less = overwrites.get(id, (0, 0))
        allow |= more
        deny |= less
    return allow, deny
