"""Open-Assistant's conversation trees: threads to imitate, ranked answers to compare.

Two forms of file, told apart by their rows: *trees*, one a line, replies nested in their message;
and *messages*, one a line, each naming its `parent_id`. Both give the same conversations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from guildgpt.chat import Comparison, Conversation, Message, Role, Source
from guildgpt.data.lines import read_json_lines
from guildgpt.data.origin import KEY, events_of, messages_of
from guildgpt.data.rows import role_of, text_of, type_name
from guildgpt.errors import DataError

READY = "ready_for_export"  # the state of a tree that Open-Assistant has finished
_DOWNLOAD = "The file is damaged; download it again."


@dataclass(frozen=True, slots=True)
class Keep:
    """Which messages and threads to take."""

    lang: tuple[str, ...] = ("en",)  # empty: every language
    threads: Literal["best", "all"] = "best"
    unreviewed: bool = False  # also what reviewers refused or never saw, and unfinished trees
    synthetic: bool = False  # also what a model wrote
    deleted: bool = False  # also what was taken back; no recipe can ask for it


@dataclass(slots=True)
class Node:
    """One message of a tree, its replies in file order."""

    role: Role
    text: str
    rank: float  # 0 is the best reply; infinity if nobody ranked it
    fault: str | None  # why it is left out, with everything below it
    line: int
    replies: list[Node] = field(default_factory=list)
    origin: frozenset[tuple[str, str]] = frozenset()  # of a root: what its whole tree rests on

    @property
    def message(self) -> Message:
        """The turn it becomes."""
        return Message(self.role, self.text)


def read(
    path: str | Path, *, name: str, keep: Keep, skipped: Counter[str]
) -> Iterator[Conversation | Comparison]:
    """For each tree its threads, then a comparison for each prompt with two or more ranked answers.

    Every message left out is counted in `skipped` by reason: its own, or that of the message it
    replies to.
    """
    file = Path(path).name
    for root in read_trees(path, keep=keep, skipped=skipped):
        if not prune(root, skipped):
            continue
        source = Source(name, file, root.line, origin=root.origin)
        threads = [best_thread(root)] if keep.threads == "best" else all_threads(root)
        threads = [thread for thread in threads if thread]
        if not threads:
            skipped["no assistant turn"] += 1
        for thread in threads:
            yield Conversation(tuple(node.message for node in thread), source)
        yield from comparisons(root, source)


def read_trees(path: str | Path, *, keep: Keep, skipped: Counter[str]) -> Iterator[Node]:
    """The root of every tree in the file, flat or nested, faulty messages marked."""
    flat: dict[str, tuple[Node, str]] = {}  # id: the message and its parent's id, if any
    for number, row in read_json_lines(path):
        where = f"{path}:{number}"
        if isinstance(row.get("prompt"), dict):
            root = _nested(row, keep, number, where)
            if KEY in row:  # of a feedback export: the ids of others' messages are no events
                root.origin = frozenset(events_of(row, where) | messages_of(row["prompt"]))
            yield root
        elif "message_id" in row and "text" in row:
            identity, parent = text_of(row, "message_id", where), text_of(row, "parent_id", where)
            if identity in flat:
                raise DataError(
                    f"message {identity} stands in line {flat[identity][0].line} already",
                    where=where,
                    remedy="Delete one of the two lines.",
                )
            flat[identity] = (_node(row, row.get("tree_state"), keep, number, where), parent)
        else:
            raise DataError(
                f"the row is neither a tree nor a message; it has {', '.join(row) or 'no key'}",
                where=where,
                remedy="Trees have `prompt`, messages `message_id`, `parent_id`, `role` and "
                "`text`; is this a `jsonl:` source?",
            )
    for node, parent in flat.values():
        if parent in flat:
            flat[parent][0].replies.append(node)
    roots = [node for node, parent in flat.values() if not parent]
    orphans = [node for node, parent in flat.values() if parent and parent not in flat]
    for orphan in orphans:
        orphan.fault = "its parent is not in the file"
    if sum(1 + len(below(node)) for node in roots + orphans) < len(flat):
        raise DataError(
            "some messages reply to each other in a circle",
            where=path,
            remedy="Their `parent_id`s are wrong; download the file again.",
        )
    yield from roots + orphans


def prune(root: Node, skipped: Counter[str]) -> bool:
    """Cut every faulty message off with all its replies; False if that leaves nothing."""
    if root.role != "user":
        root.fault = root.fault or "begins with an answer"
    if root.fault:
        _count(root, skipped)
        return False
    stack = [root]
    while stack:
        node = stack.pop()
        for reply in node.replies:
            if reply.role == node.role:
                reply.fault = reply.fault or "the same role twice in a row"
        for cut in (reply for reply in node.replies if reply.fault):
            _count(cut, skipped)
        node.replies = [reply for reply in node.replies if not reply.fault]
        stack += node.replies
    return True


def best_thread(root: Node) -> list[Node]:
    """From the root the best answer, its first reply, the best answer to that, and so on."""
    thread = [root]
    while thread[-1].replies:
        thread.append(_best_first(thread[-1])[0])
    return thread if thread[-1].role == "assistant" else thread[:-1]


def all_threads(root: Node) -> list[list[Node]]:
    """Every longest path that ends with an answer, best answers first.

    A path whose last turn is an unanswered question ends before it, unless the answer it follows
    is continued elsewhere.
    """
    threads: list[list[Node]] = []
    stack = [[root]]
    while stack:
        path = stack.pop()
        onward = [reply for reply in _best_first(path[-1]) if _answered(reply)]
        stack += [[*path, reply] for reply in reversed(onward)]
        if not onward and path[-1].role == "assistant":
            threads.append(path)
    return threads


def comparisons(root: Node, source: Source) -> Iterator[Comparison]:
    """The ranked answers to every prompt that has two or more of them and not all of one rank."""
    stack: list[list[Node]] = [[root]]
    while stack:
        path = stack.pop()
        stack += [[*path, reply] for reply in reversed(path[-1].replies)]
        ranked = [node for node in _best_first(path[-1]) if node.rank < math.inf]
        if path[-1].role == "user" and len({node.rank for node in ranked}) > 1:
            yield Comparison(
                prompt=tuple(node.message for node in path),
                answers=tuple(node.message for node in ranked),
                ranks=tuple(int(node.rank) for node in ranked),
                source=source,
            )


def below(node: Node) -> list[Node]:
    """Every message below this one."""
    found = list(node.replies)
    for reply in found:  # grows while it is walked
        found += reply.replies
    return found


def _best_first(node: Node) -> list[Node]:
    """The replies by rank; unranked ones last, in file order (the sort is stable)."""
    return sorted(node.replies, key=lambda reply: reply.rank)


def _answered(node: Node) -> bool:
    return node.role == "assistant" or bool(node.replies)


def _nested(tree: dict[str, Any], keep: Keep, number: int, where: str) -> Node:
    """The tree of a line; a stack instead of recursion, for threads may be long."""
    state = tree.get("tree_state")
    root = _node(tree["prompt"], state, keep, number, where)
    stack = [(tree["prompt"], root)]
    while stack:
        row, node = stack.pop()
        replies = row.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise DataError("`replies` is not a list of messages", where=where, remedy=_DOWNLOAD)
        node.replies = [_node(reply, state, keep, number, where) for reply in replies]
        stack += zip(replies, node.replies, strict=True)
    return root


def _node(row: dict[str, Any], state: object, keep: Keep, number: int, where: str) -> Node:
    """A message, marked with its fault. Fields that older exports lack count as harmless."""
    text = text_of(row, "text", where)
    return Node(
        role=role_of(row.get("role"), where),
        text=text,
        rank=_rank(row.get("rank"), where),
        fault=_fault(row, text, state, keep),
        line=number,
    )


def _rank(value: object, where: str) -> float:
    """The rank; null and NaN (which tables write where a number is missing) count as none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise DataError(
            f"`rank` is {type_name(value)}: {value!r}",
            where=where,
            remedy="A rank is a whole number, 0 for the best answer, or null.",
        )
    return value


def _fault(row: dict[str, Any], text: str, state: object, keep: Keep) -> str | None:
    if row.get("deleted") and not keep.deleted:
        return "deleted"
    if state is not None and state != READY and not keep.unreviewed:
        return "unfinished tree"
    if keep.lang and row.get("lang") is not None and row["lang"] not in keep.lang:
        return "other language"
    if not row.get("review_result", True) and not keep.unreviewed:
        return "not passed in review"
    if row.get("synthetic") and not keep.synthetic:
        return "synthetic"
    if not text:
        return "empty answer" if row.get("role") == "assistant" else "empty prompt"
    return None


def _count(cut: Node, skipped: Counter[str]) -> None:
    skipped[cut.fault or "left out"] += 1
    skipped.update(["reply to a skipped message"] * len(below(cut)))
