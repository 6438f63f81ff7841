"""Open-Assistant's conversation trees: threads to imitate, ranked answers to compare."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guildgpt.chat import Comparison, Conversation, Message, Source
from guildgpt.data.origin import KEY, events_of, messages_of
from guildgpt.data.trees import Node, read_trees

READY = "ready_for_export"  # the state of a tree that Open-Assistant has finished
_BELOW = "reply to a skipped message"


@dataclass(frozen=True, slots=True)
class Keep:
    """Which messages and threads to take."""

    lang: tuple[str, ...] = ("en",)  # empty: every language
    threads: Literal["best", "all"] = "best"
    unreviewed: bool = False  # also what reviewers refused or never saw, and unfinished trees
    synthetic: bool = False  # also what a model wrote
    deleted: bool = False  # also what was taken back; no recipe can ask for it


def read(
    path: str | Path, *, name: str, keep: Keep, skipped: Counter[str]
) -> Iterator[Conversation | Comparison]:
    """For each tree its threads, then a comparison for each prompt with two or more ranked answers.

    Every message left out is counted in `skipped` by reason: its own, or that of the message it
    replies to.
    """
    file = Path(path).name
    for root in read_trees(path):
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
        onward = [reply for reply in _best_first(path[-1]) if _answered(reply)]
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


def _answered(node: Node) -> bool:
    return node.role == "assistant" or bool(node.replies)


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
