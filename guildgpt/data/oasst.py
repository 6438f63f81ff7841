"""Open-Assistant's conversation trees: threads to imitate, ranked answers to compare.

Two forms of file, told apart by their rows: *trees*, one a line, replies nested in their message;
and *messages*, one a line, each naming its `parent_id`. Both give the same trees, which the
feedback store reads as well.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from guildgpt.chat import Comparison, Conversation, Message, Role, Source
from guildgpt.data.files import read_records
from guildgpt.data.origin import KEY, events_of, messages_of
from guildgpt.data.rows import role_of, text_of, type_name
from guildgpt.errors import DataError

READY = "ready_for_export"  # the state of a tree that Open-Assistant has finished
_BELOW = "reply to a skipped message"


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


@dataclass(frozen=True, slots=True)
class Keep:
    """Which messages and threads to take."""

    lang: tuple[str, ...]  # empty: every language
    threads: Literal["best", "all"]
    unreviewed: bool  # also what reviewers refused or never saw, and unfinished trees
    synthetic: bool  # also what a model wrote
    deleted: bool = False  # also what was taken back; no recipe can ask for it


def read(
    path: str | Path,
    *,
    name: str,
    keep: Keep,
    skipped: Counter[str],
    notices: list[str] | None = None,
) -> Iterator[Conversation | Comparison]:
    """For each tree its threads, then a comparison for each prompt with two or more ranked answers.

    Every message left out is counted in `skipped` by reason: its own, or that of the message it
    replies to.
    """
    file = Path(path).name
    for root in read_trees(path, notices):
        origin = _origin(root)
        if not _prune(root, keep, skipped):
            continue
        source = Source(name, file, root.line, origin=origin)
        threads = [_best_thread(root)] if keep.threads == "best" else _all_threads(root)
        threads = [thread for thread in threads if thread]
        if not threads:
            skipped["no assistant turn"] += 1
        for thread in threads:
            yield Conversation(_turns(thread), source)
        yield from _comparisons(root, source)


def _origin(root: Node) -> frozenset[tuple[str, str]]:
    """What a tree of a feedback export rests on; the ids of others' messages are no events."""
    if KEY not in root.tree:
        return frozenset()
    return frozenset(events_of(root.tree, root.where) | messages_of(root.row))


def _turns(nodes: Iterable[Node]) -> tuple[Message, ...]:
    return tuple(Message(node.role, node.text) for node in nodes)


def _prune(root: Node, keep: Keep, skipped: Counter[str]) -> bool:
    """Cut off what `keep` leaves out, with all replies to it; False if that leaves nothing."""
    reason = "its parent is not in the file" if root.orphan else _fault(root, keep)
    if not reason and root.role != "user":
        reason = "begins with an answer"
    if reason:
        root.count_cut(skipped, reason, _BELOW)
        return False
    stack = [root]
    while stack:
        node = stack.pop()
        kept = []
        for reply in node.replies:
            reason = _fault(reply, keep)
            if not reason and reply.role == node.role:
                reason = "the same role twice in a row"
            if reason:
                reply.count_cut(skipped, reason, _BELOW)
            else:
                kept.append(reply)
        node.replies = kept
        stack += kept
    return True


def _best_thread(root: Node) -> list[Node]:
    """From the root the best answer, its first reply, the best answer to that, and so on."""
    thread = [root]
    while thread[-1].replies:
        thread.append(_best_first(thread[-1])[0])
    return thread if thread[-1].role == "assistant" else thread[:-1]


def _all_threads(root: Node) -> list[list[Node]]:
    """Every longest path that ends with an answer, best answers first.

    A path whose last turn is an unanswered question ends before it, unless the answer it follows
    is continued elsewhere.
    """
    threads: list[list[Node]] = []
    stack = [[root]]
    while stack:
        path = stack.pop()
        onward = [
            reply for reply in _best_first(path[-1]) if reply.role == "assistant" or reply.replies
        ]
        stack += [[*path, reply] for reply in reversed(onward)]
        if not onward and path[-1].role == "assistant":
            threads.append(path)
    return threads


def _comparisons(root: Node, source: Source) -> Iterator[Comparison]:
    """The ranked answers to every prompt that has two or more of them and not all of one rank."""
    stack: list[list[Node]] = [[root]]
    while stack:
        path = stack.pop()
        stack += [[*path, reply] for reply in reversed(path[-1].replies)]
        ranked = [node for node in _best_first(path[-1]) if node.rank < math.inf]
        if path[-1].role == "user" and len({node.rank for node in ranked}) > 1:
            yield Comparison(
                prompt=_turns(path),
                answers=_turns(ranked),
                ranks=tuple(int(node.rank) for node in ranked),
                source=source,
            )


def _best_first(node: Node) -> list[Node]:
    """The replies by rank; unranked ones last, in file order (the sort is stable)."""
    return sorted(node.replies, key=lambda reply: reply.rank)


def _fault(node: Node, keep: Keep) -> str | None:
    """Why a message is left out, if it is. Fields that older exports lack count as harmless."""
    row, state = node.row, node.tree.get("tree_state")
    lang = row.get("lang")
    faults = {
        "deleted": row.get("deleted") and not keep.deleted,
        "unfinished tree": state not in (None, READY) and not keep.unreviewed,
        "other language": keep.lang and lang is not None and lang not in keep.lang,
        "not passed in review": not row.get("review_result", True) and not keep.unreviewed,
        "synthetic": row.get("synthetic") and not keep.synthetic,
        "empty answer": not node.text and row["role"] == "assistant",
        "empty prompt": not node.text,
    }
    return next((fault for fault, holds in faults.items() if holds), None)


def read_trees(path: str | Path, notices: list[str] | None = None) -> Iterator[Node]:
    """The first message of every tree in the file; then each that has lost its parent.

    DataError with file and line for a row that is neither a tree nor a message, a role, text or
    rank that is none, an id that stands twice, and replies that go round in a circle.
    """
    flat: dict[str, tuple[Node, str]] = {}  # id: the message and its parent's id, if any
    for number, row in read_records(path, notices):
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
            "is it another form? Then name the file without `oasst:`.",
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
