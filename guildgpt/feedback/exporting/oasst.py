"""Open-Assistant's trees, out of the store: one conversation tree a line.

A line is `{message_tree_id, tree_state, prompt}`, the prompt a message with its `replies` nested.
Our own messages are written thus:

- answers of a model are `synthetic: true`, `model_name` their version. Open-Assistant's own loader
  leaves such threads out; ours takes them with `synthetic` switched on;
- `rank`: the members' votes on the answers that all of them saw, by ranked pairs, ratings deciding
  between equals; 0 is the best, equal answers share a rank, answers without votes have none;
- `emojis` counts ratings as Open-Assistant does: `+1`, `-1`; `review_count` is 0;
- a system turn is no message of these trees, in which prompter and assistant alternate: its text
  stands as `system` in the message that follows it. Both loaders pass over that key; our
  import makes a turn of it again;
- every tree has an `origin`, the ids of members' votes and ratings on it, often none: by that key
  it is known that its messages are the store's; an imported tree has one if members judged it;
- `user_id` is null and no name is written. Trees are cut below 200 turns, for readers of nested
  JSON give up at about twice that.

A message that was imported leaves as it came, key by key, with the text, the ranks and the ratings
that members' votes have added: what is exported, imported and exported again is the same byte for
byte.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from typing import Any

from guildgpt.data import origin
from guildgpt.data.oasst import READY
from guildgpt.data.origin import Events
from guildgpt.feedback.exporting.view import Cast, Export, View
from guildgpt.feedback.messages.turns import carried, is_imported
from guildgpt.feedback.records import StoredMessage
from guildgpt.feedback.voting.rankings import Ballot, common, ranked_pairs

TURNS = 200
# In this order, whatever order a database gives them.
_KEYS = (
    "message_id",
    "parent_id",
    "user_id",
    "created_date",
    "text",
    "role",
    "lang",
    "review_count",
    "review_result",
    "deleted",
    "rank",
    "synthetic",
    "model_name",
    "detoxify",
    "message_tree_id",
    "tree_state",
    "emojis",
    "labels",
    "system",
)


def trees(view: View) -> Export:
    """Every tree that may leave, imported ones first, in the order of their file."""
    export = Export(left_out=view.uncounted_votes + view.uncounted_ratings)
    judged: list[Events] = []  # what members said of each tree
    stack: list[_Task] = [(root, None, (), 0, {}) for root in reversed(view.replies(None))]
    while stack:
        message, above, system, depth, ranks = stack.pop()
        reason = view.refusal(message)
        if reason or depth == TURNS:
            view.leave_out(export, message, reason or f"deeper than {TURNS} turns")
            continue
        replies = view.replies(message.id)
        if message.role == "system":
            system = (*system, view.text(message))
            stack += [(reply, above, system, depth, ranks) for reply in reversed(replies)]
            continue
        node = _node(view, message, above, system, ranks)
        if above is not None:
            above["replies"].append(node)
        else:  # a new tree; whatever comes next off the stack belongs to it
            export.rows.append(_tree(node, message))
            judged.append(set())
        export.events.add(("message", message.id))
        judged[-1] |= {("rating", rating.id) for rating in view.ratings.get(message.id, [])}
        ranks, cast = _ranks(view, message, export)
        judged[-1] |= cast
        stack += [(reply, node, (), depth + 1, ranks) for reply in reversed(replies)]
    for tree, events in zip(export.rows, judged, strict=True):
        if events:
            before = tree.get(origin.KEY)  # of votes in the store that it was imported from
            earlier = before if isinstance(before, list) else []
            tree[origin.KEY] = sorted({*map(str, earlier), *origin.written(events)})
            export.events |= events
    return export


# A message to write, the node above it, the system texts since then, its depth, its siblings' ranks
_Task = tuple[StoredMessage, dict[str, Any] | None, tuple[str, ...], int, dict[str, int]]


def _tree(prompt: dict[str, Any], message: StoredMessage) -> dict[str, Any]:
    """The tree that begins with a message, `prompt` as a row."""
    id = prompt["message_id"]
    if not is_imported(message):
        return {"message_tree_id": id, "tree_state": READY, "prompt": prompt, origin.KEY: []}
    kept = {"message_tree_id": id, **message.extra.get("tree", {})}
    head = {key: kept.pop(key) for key in ("message_tree_id", "tree_state") if key in kept}
    return {**head, "prompt": prompt, **dict(sorted(kept.items()))}


def _node(
    view: View,
    message: StoredMessage,
    above: dict[str, Any] | None,
    system: tuple[str, ...],
    ranks: dict[str, int],
) -> dict[str, Any]:
    """The message as a row, without its replies yet."""
    row = carried(message) if is_imported(message) else _own(view, message)
    row |= {"message_id": row.get("message_id", message.id), "text": view.text(message)}
    if above or "parent_id" in row:
        row["parent_id"] = above["message_id"] if above else None
    if ranks:
        row["rank"] = ranks.get(message.id)
    ups, downs = view.ups_and_downs(message.id)
    if ups or downs:
        row["emojis"] = _with_ratings(row.get("emojis"), ups, downs)
    if system:
        row["system"] = "\n\n".join(system)
    unknown = sorted(row.keys() - set(_KEYS))
    return {key: row[key] for key in (*_KEYS, *unknown) if key in row} | {"replies": []}


def _own(view: View, message: StoredMessage) -> dict[str, Any]:
    """What our own messages say besides their text."""
    return {
        "parent_id": None,
        "user_id": None,
        "created_date": message.created_at.astimezone(UTC).isoformat(),
        "role": "assistant" if message.role == "assistant" else "prompter",
        "lang": view.conversations[message.conversation_id].lang or None,
        "review_count": 0,
        "review_result": True,
        "deleted": False,
        "rank": None,
        "synthetic": message.synthetic or message.version_id is not None,
        "model_name": message.version_id,
        "emojis": {},
        "labels": None,
    }


def _with_ratings(emojis: object, ups: int, downs: int) -> dict[str, int]:
    """Counts by name, plus the ratings. The Hub's tables keep names and counts in two lists."""
    counts: Counter[str] = Counter()
    if isinstance(emojis, dict):
        if isinstance(emojis.get("name"), list) and isinstance(emojis.get("count"), list):
            emojis = dict(zip(emojis["name"], emojis["count"], strict=False))
        counts.update({str(k): v for k, v in emojis.items() if isinstance(v, int)})
    counts.update({"+1": ups, "-1": downs})
    return {name: count for name, count in sorted(counts.items()) if count}


def _ranks(view: View, question: StoredMessage, export: Export) -> tuple[dict[str, int], Events]:
    """The ranks that members' votes give the answers, and the votes; empty if nobody voted.

    The comparison with the most votes is taken first, then every other one that shares at least
    two answers with all taken before. A ranking that was imported counts as one vote.
    """
    by_comparison: dict[str, list[Cast]] = {}
    for cast in view.casts(question.id):
        by_comparison.setdefault(cast.vote.comparison_id, []).append(cast)
    ballots: list[Ballot] = []
    events: Events = set()
    for id, casts in sorted(by_comparison.items(), key=lambda item: (-len(item[1]), item[0])):
        both = [*ballots, *(cast.ballot for cast in casts)]
        if len(common(both)) < 2:
            export.left_out["vote on answers that other voters did not see"] += len(casts)
            continue
        ballots = both
        events |= {("comparison", id), *(("vote", cast.vote.id) for cast in casts)}
    ranking = view.imported_ranking(question.id)
    if ballots and ranking and len(common([*ballots, ranking])) > 1:
        ballots.append(ranking)
    scores = {answer: view.score(answer) for answer in common(ballots)}
    places = ranked_pairs(ballots, scores)
    return {answer: place for place, answers in enumerate(places) for answer in answers}, events
