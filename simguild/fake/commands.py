"""Application commands: registered by the bot, looked up and filled in by people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from simguild.fake import limits, messages, payloads
from simguild.fake.errors import Refused
from simguild.fake.forms import Form
from simguild.fake.messages import Upload
from simguild.fake.world import Attachment, Channel, Guild, Role, User, World

Json = dict[str, Any]

SLASH, USER_MENU, MESSAGE_MENU = 1, 2, 3
SUBCOMMAND, GROUP, STRING, INTEGER, BOOLEAN, USER, CHANNEL, ROLE = 1, 2, 3, 4, 5, 6, 7, 8
MENTIONABLE, NUMBER, ATTACHMENT = 9, 10, 11
_NAME = re.compile(r"[-_'\w]{1,32}")


class Commands:
    """What the bot has registered, for all guilds and for single ones."""

    def __init__(self, world: World):
        self._world = world
        self.everywhere: list[Json] = []
        self.in_guild: dict[int, list[Json]] = {}

    def replace(self, guild_id: int | None, bodies: list[Json]) -> list[Json]:
        """Register these commands in place of all before; a name keeps its id."""
        form = Form()
        _check_commands(form, bodies)
        form.check()
        before = {(one["type"], one["name"]): one["id"] for one in self.registered(guild_id)}
        done = []
        for body in bodies:
            command = {"type": SLASH, "description": "", "options": [], **body}
            id = before.get((command["type"], command["name"])) or str(self._world.new_id())
            bits = body.get("default_member_permissions")
            command |= {
                "id": id,
                "application_id": str(self._world.application_id),
                "version": str(self._world.new_id()),
                "default_member_permissions": None if bits is None else str(bits),
            }
            if guild_id is not None:
                command["guild_id"] = str(guild_id)
            done.append(command)
        if guild_id is None:
            self.everywhere = done
        else:
            self.in_guild[guild_id] = done
        return done

    def registered(self, guild_id: int | None) -> list[Json]:
        """The commands of a guild, or those of all (None)."""
        return self.everywhere if guild_id is None else self.in_guild.get(guild_id, [])

    def find(self, name: str, kind: int, user: User, channel: Channel) -> Json:
        """The command of that name that `user` may call in `channel`, or `Refused`."""
        own = self.registered(channel.guild.id) if channel.guild else []
        for command in [*own, *self.everywhere]:
            if command["name"] == name and command["type"] == kind:
                _check_may_call(command, user, channel)
                return command
        known = ", ".join(one["name"] for one in [*own, *self.everywhere]) or "none"
        raise Refused(f"there is no command {name!r} here; registered: {known}")

    def slash_data(self, name: str, options: Mapping[str, Any], user: User, at: Channel) -> Json:
        """The data of a slash command; subcommands are named after a space ("set channel")."""
        first, *rest = name.split()
        command = self.find(first, SLASH, user, at)
        chain, leaf = [], command
        for part in rest:
            below = {one["name"]: one for one in leaf["options"] if one["type"] in (1, 2)}
            if part not in below:
                raise Refused(f"/{name}: there is no subcommand {part!r}")
            leaf = below[part]
            chain.append(leaf)
        if any(one["type"] in (SUBCOMMAND, GROUP) for one in leaf.get("options") or []):
            raise Refused(f"/{name} has subcommands: call one of them")
        resolved: Json = {}
        filled = self._fill(f"/{name}", leaf.get("options") or [], options, at, resolved)
        for level in reversed(chain):
            filled = [{"name": level["name"], "type": level["type"], "options": filled}]
        data = {"id": command["id"], "name": first, "type": SLASH, "options": filled}
        return data | _guild_and_resolved(command, resolved)

    def menu_data(self, name: str, user: User, at: Channel, target: Json) -> Json:
        """The data of a context menu's entry on a message, whose payload is `target`."""
        command = self.find(name, MESSAGE_MENU, user, at)
        data = {"id": command["id"], "name": name, "type": MESSAGE_MENU, "target_id": target["id"]}
        return data | _guild_and_resolved(command, {"messages": {target["id"]: target}})

    def _fill(
        self, name: str, known: list[Json], given: Mapping[str, Any], at: Channel, resolved: Json
    ) -> list[Json]:
        names = {option["name"] for option in known}
        if set(given) - names:
            raise Refused(f"{name} has no option {sorted(set(given) - names)}; it has {names}")
        filled = []
        for option in known:
            if option["name"] in given:
                value = self._value(f"{name} {option['name']}", option, given[option["name"]], at)
                resolve(value, resolved, at)
                told = value if isinstance(value, str | int | float | bool) else str(value.id)
                filled.append({"name": option["name"], "type": option["type"], "value": told})
            elif option.get("required"):
                raise Refused(f"{name}: the option {option['name']!r} is required")
        return filled

    def _value(self, name: str, option: Json, value: Any, at: Channel) -> Any:
        """What the client would let a person enter."""
        kind = option["type"]
        choices = [choice["value"] for choice in option.get("choices") or []]
        if choices and value not in choices:
            raise Refused(f"{name}: {value!r} is not among {choices}")
        if kind == ATTACHMENT and isinstance(value, tuple):
            return messages.attach(at, [Upload(*value)])[0]
        right: dict[int, type | tuple[type, ...]] = {
            STRING: str,
            INTEGER: int,
            BOOLEAN: bool,
            NUMBER: (int, float),
            USER: User,
            CHANNEL: Channel,
            ROLE: Role,
            MENTIONABLE: (User, Role),
        }
        if kind not in right or not isinstance(value, right[kind]):
            raise Refused(f"{name}: {value!r} does not fit an option of type {kind}")
        kinds = option.get("channel_types")
        if isinstance(value, Channel) and kinds and value.kind not in kinds:
            raise Refused(f"{name}: a channel of type {value.kind} is not offered, only {kinds}")
        size = limits.utf16_length(value) if isinstance(value, str) else value
        low, high = ("min_length", "max_length") if kind == STRING else ("min_value", "max_value")
        most = option.get(high, 6000 if kind == STRING else None)
        if kind in (STRING, INTEGER, NUMBER) and (
            size < option.get(low, size) or (most is not None and size > most)
        ):
            raise Refused(f"{name}: {size} is outside {option.get(low)} to {most}")
        return value


def resolve(value: Any, resolved: Json, at: Channel) -> None:
    """Add what an option's id stands for to the command's `resolved`."""

    def under(kind: str, payload: Json) -> None:
        resolved.setdefault(kind, {})[str(value.id)] = payload

    if isinstance(value, User):
        under("users", payloads.user(value))
        if at.guild is not None and value.id in at.guild.members:
            permissions = str(at.permissions(value))
            part = payloads.member_part(at.guild.members[value.id])
            under("members", {**part, "permissions": permissions})
    elif isinstance(value, Channel):
        under("channels", payloads.command_channel(value, at.permissions(at.world.bot)))
    elif isinstance(value, Role):
        under("roles", payloads.role(value))
    elif isinstance(value, Attachment):
        under("attachments", payloads.attachment(value, at.world))


def _guild_and_resolved(command: Json, resolved: Json) -> Json:
    more: Json = {"resolved": resolved} if resolved else {}
    return more | ({"guild_id": command["guild_id"]} if "guild_id" in command else {})


def _check_may_call(command: Json, user: User, channel: Channel) -> None:
    guild: Guild | None = channel.guild
    contexts = command.get("contexts")
    where = 0 if guild else 1
    elsewhere = contexts is not None and where not in contexts
    if elsewhere or (guild is None and command.get("dm_permission") is False):
        raise Refused(f"{command['name']!r} cannot be called {'here' if guild else 'in a DM'}")
    bits = command["default_member_permissions"]
    if guild is None or bits is None:
        return
    own = channel.permissions(user)
    if own & 1 << 3 == 0 and (int(bits) == 0 or own & int(bits) != int(bits)):
        raise Refused(f"{user.name} may not call {command['name']!r}")


def _check_commands(form: Form, bodies: list[Json]) -> None:
    seen = set()
    for kind, most in ((SLASH, limits.COMMANDS), (USER_MENU, 15), (MESSAGE_MENU, 15)):
        if sum(body.get("type", SLASH) == kind for body in bodies) > most:
            form.fault("commands", "MAX_COMMANDS", f"More than {most} of type {kind}.")
    for index, body in enumerate(bodies):
        path, kind = str(index), body.get("type", SLASH)
        if (kind, body.get("name")) in seen:
            words = "Application command names must be unique."
            form.fault(path, "APPLICATION_COMMANDS_DUPLICATE_NAME", words)
        seen.add((kind, body.get("name")))
        if kind == SLASH:
            _check_named(form, path, body)
            _check_options(form, path, body.get("options") or [], depth=0)
            if _characters(body) > 8000:
                form.fault(path, "APPLICATION_COMMAND_TOO_LARGE", "More than 8000 characters.")
        else:
            form.length(f"{path}.name", body.get("name"), limits.COMMAND_NAME, 1)
            if body.get("description"):
                words = "Context menu commands cannot have description."
                form.fault(f"{path}.description", "CONTEXT_MENU_COMMAND_DESCRIPTION", words)


def _check_named(form: Form, path: str, body: Json) -> None:
    name = body.get("name") or ""
    if not _NAME.fullmatch(name) or name != name.lower():
        words = f"Command name is invalid: {name!r}."
        form.fault(f"{path}.name", "APPLICATION_COMMAND_INVALID_NAME", words)
    most = limits.COMMAND_DESCRIPTION
    form.length(f"{path}.description", body.get("description"), most, 1)


def _check_options(form: Form, path: str, options: object, depth: int) -> None:
    seen, optional = set(), False
    for index, option in enumerate(form.items(f"{path}.options", options, limits.OPTIONS)):
        where, kind = f"{path}.options.{index}", option.get("type")
        _check_named(form, where, option)
        if option.get("name") in seen:
            words = "Option names must be unique."
            form.fault(where, "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS", words)
        seen.add(option.get("name"))
        if kind in (SUBCOMMAND, GROUP):
            if depth > (0 if kind == GROUP else 1):
                form.fault(where, "APPLICATION_COMMAND_OPTIONS_TYPE_INVALID", "Nested too deep.")
            _check_options(form, where, option.get("options") or [], depth + 1)
            continue
        if kind not in range(STRING, ATTACHMENT + 1):
            form.fault(f"{where}.type", "BASE_TYPE_CHOICES", f"No type of option: {kind!r}.")
        if option.get("required") and optional:
            words = "Required options must be placed before non-required options."
            form.fault(where, "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID", words)
        optional |= not option.get("required")
        choices = form.items(f"{where}.choices", option.get("choices") or [], limits.OPTIONS)
        for place, choice in enumerate(choices):
            form.length(f"{where}.choices.{place}.name", choice.get("name"), 100, 1)


def _characters(body: Json) -> int:
    own = len(body.get("name") or "") + len(body.get("description") or "")
    own += sum(
        len(str(choice.get("name"))) + len(str(choice.get("value")))
        for choice in body.get("choices") or []
    )
    return own + sum(_characters(option) for option in body.get("options") or [])
