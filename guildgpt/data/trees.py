"""Open-Assistant's files as trees of messages: what training and the feedback store read of them.

Two forms of file, told apart by their rows: *trees*, one a line, replies nested in their message;
and *messages*, one a line, each naming its `parent_id`. Both give the same trees.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guildgpt.chat import Role
from guildgpt.data.lines import read_json_lines
from guildgpt.data.rows import role_of, text_of, type_name
from guildgpt.errors import DataError


@dataclass(slots=True)
class Node:
    """One message of a tree, its replies in file order."""

    row: dict[str, Any]  # the message as the file has it
    tree: dict[str, Any]  # what its line says of the tree
    line: int
    where: str  # file and line
    role: Role
    text: str
    rank: float  # 0 is the best reply; infinity if nobody ranked it
    orphan: bool = False  # it replies to a message that is not in the file
    replies: list[Node] = field(default_factory=list)

    def below(self) -> list[Node]:
        """Every message below this one."""
        found = list(self.replies)
        for reply in found:  # grows while it is walked
            found += reply.replies
        return found

    def count_cut(self, counts: Counter[str], reason: str, reply_reason: str) -> None:
        """Count it under the reason for which it is cut off, and all its replies under theirs."""
        counts[reason] += 1
        if below := len(self.below()):
            counts[reply_reason] += below


def read_trees(path: str | Path) -> Iterator[Node]:
    """The first message of every tree in the file; then each that has lost its parent.

    DataError with file and line for a row that is neither a tree nor a message, a role, text or
    rank that is none, an id that stands twice, and replies that go round in a circle.
    """
    flat: dict[str, tuple[Node, str]] = {}  # id: the message and its parent's id, if any
    for number, row in read_json_lines(path):
        where = f"{path}:{number}"
        if isinstance(row.get("prompt"), dict):
            yield _nested(row, number, where)
            continue
        require_message(row, where)
        identity, parent = text_of(row, "message_id", where), text_of(row, "parent_id", where)
        if identity in flat:
            raise DataError(
                f"message {identity} stands in line {flat[identity][0].line} already",
                where=where,
                remedy="Delete one of the two lines.",
            )
        tree: dict[str, Any] = {
            key: row[key] for key in ("message_tree_id", "tree_state") if key in row
        }
        flat[identity] = (_node(row, tree, number, where), parent)
    for node, parent in flat.values():
        if parent in flat:
            flat[parent][0].replies.append(node)
        node.orphan = bool(parent) and parent not in flat
    roots = [node for node, parent in flat.values() if not parent]
    orphans = [node for node, _ in flat.values() if node.orphan]
    if sum(1 + len(node.below()) for node in roots + orphans) < len(flat):
        raise DataError(
            "some messages reply to each other in a circle",
            where=path,
            remedy="Their `parent_id`s are wrong; download the file again.",
        )
    yield from roots + orphans


def require_message(row: dict[str, Any], where: str) -> None:
    """DataError for a row that is no message, or one without an id."""
    if "message_id" not in row or "text" not in row:
        raise DataError(
            f"the row is neither a tree nor a message; it has {', '.join(row) or 'no key'}",
            where=where,
            remedy="Trees have `prompt`, messages `message_id`, `parent_id`, `role` and `text`; "
            "is this a `jsonl:` source?",
        )
    id = row["message_id"]
    if not isinstance(id, str) or not id.strip():
        raise DataError(
            f"`message_id` is {'empty' if isinstance(id, str) else f'{type_name(id)}, not text'}",
            where=where,
            remedy='Write it as a string: "message_id": "…".',
        )


def not_a_rank(value: object, where: str) -> DataError:
    """The error for a rank that is none."""
    return DataError(
        f"`rank` is {type_name(value)}: {value!r}",
        where=where,
        remedy="A rank is a whole number, 0 for the best answer, or null.",
    )


def _nested(line: dict[str, Any], number: int, where: str) -> Node:
    """The tree of a line; a stack instead of recursion, for threads may be long."""
    tree = {key: value for key, value in line.items() if key != "prompt"}
    root = _node(line["prompt"], tree, number, where)
    stack = [root]
    while stack:
        node = stack.pop()
        replies = node.row.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise DataError(
                "`replies` is not a list of messages",
                where=where,
                remedy="The file is damaged; download it again.",
            )
        node.replies = [_node(reply, tree, number, where) for reply in replies]
        stack += node.replies
    return root


def _node(row: dict[str, Any], tree: dict[str, Any], number: int, where: str) -> Node:
    role, text = role_of(row.get("role"), where), text_of(row, "text", where)
    return Node(row, tree, number, where, role, text, _rank(row.get("rank"), where))


def _rank(value: object, where: str) -> float:
    """The rank; null and NaN (which tables write where a number is missing) count as none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise not_a_rank(value, where)
    return value
