"""The feedback in the forms that others read: preference, KTO, SFT and arena rows.

preference  {prompt, chosen, rejected[, margin]}: TRL's conversational preference format
kto         {prompt, completion, label[, reasons]}: TRL's unpaired preference format; the reasons of
            👎 are members' own text, and leave only as that does
sft         {messages[, licence]}: conversations to imitate; people's own wordings with the licence
            that they gave them under
arena       {question_id, model_a, model_b, winner, judge, conversation_a, conversation_b, …}:
            battles as Chatbot Arena publishes them
oasst       trees; see `guildgpt.feedback.exporting.oasst`

The first three also have `group`, the tree's id: our own loader keeps a group on one side of the
split, TRL passes over it. All have `origin`, the ids of what the row rests on, for
`guildgpt feedback learned`; see `guildgpt.data.origin`. What may leave at all,
`guildgpt.feedback.exporting.view` decides; every row left out is counted by reason.
"""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from guildgpt.data.origin import Events
from guildgpt.feedback.exporting import oasst
from guildgpt.feedback.exporting.demonstrations import Order, add_demonstrations, add_pairs
from guildgpt.feedback.exporting.view import Export, Switches, View, unfit
from guildgpt.feedback.messages.turns import model_of
from guildgpt.feedback.records import Snapshot, StoredMessage, Vote
from guildgpt.feedback.storage.rows import write_whole
from guildgpt.feedback.voting.rankings import Ballot, lock, margins, seen

Form = Literal["oasst", "preference", "kto", "sft", "arena"]
FORMS: tuple[Form, ...] = get_args(Form)


def export(
    snapshot: Snapshot, form: Form, *, switches: Switches | None = None, margin: bool = False
) -> Export:
    """The rows of one form. `switches` says which text of members may leave: by default none."""
    rows_of: dict[Form, Callable[[View], Export]] = {
        "oasst": oasst.trees,
        "preference": partial(preference, margin=margin),
        "kto": kto,
        "sft": sft,
        "arena": arena,
    }
    return rows_of[form](View(snapshot, switches))


def write_lines(out: Path, rows: list[dict[str, Any]]) -> None:
    """All rows or no file: they are written beside it, then take its name; GuildError if not.

    Gzipped if the name ends in .gz, without a time in it: equal rows give equal files.
    """
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if out.suffix == ".gz":
        zipped = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=zipped, mtime=0) as stream:
            stream.write(content)
        content = zipped.getvalue()
    write_whole(out, content)


def preference(view: View, *, margin: bool = False) -> Export:
    """A row for each pair of answers of which voters prefer one.

    All votes on a question count together, each on the answers it saw, and a ranking that was
    imported as one vote. A pair gives a row if more voters who saw both prefer the one than the
    other, and if ranked pairs upholds it against stronger pairs, so that rows never contradict
    each other. `margin` adds the lead in votes by all votes on that pair, above 0 and at most 1,
    which TRL's reward trainer takes off the difference of the rewards. Each correction gives a row,
    too.
    """
    export, order = Export(left_out=Counter(view.uncounted_votes)), Order()
    for question in view.questions():
        casts = view.casts(question.id)
        ranking = view.imported_ranking(question.id)
        ballots = [cast.ballot for cast in casts] + ([ranking] if ranking else [])
        leads = margins(ballots)
        answers = sorted(frozenset().union(*map(seen, ballots)))
        held = lock(leads, sorted(answers, key=lambda answer: (-view.score(answer), answer)))
        path = view.path(question.id)
        for better, worse in sorted(_pairs_seen(ballots)):
            if (better, worse) not in leads:
                if better < worse and (worse, better) not in leads:  # each is seen both ways round
                    export.left_out["as many votes for the one as for the other"] += 1
                continue
            chosen, rejected = view.messages[better], view.messages[worse]
            reason = unfit(view, path, chosen, rejected)
            if (better, worse) not in held:
                reason = "outvoted by stronger pairs (the votes go in a circle)"
            elif reason is None and view.text(chosen).strip() == view.text(rejected).strip():
                reason = "both answers are the same"
            texts = (view.text(chosen).strip(), view.text(rejected).strip())
            if reason is None and not order.takes(question.id, *texts):
                reason = "says the opposite of stronger rows"  # an answer was given twice
            if reason:
                export.left_out[reason] += 1
                continue
            row: dict[str, Any] = {
                "prompt": [view.turn(turn) for turn in path],
                "chosen": [view.turn(chosen)],
                "rejected": [view.turn(rejected)],
                "group": view.group(path),
            }
            if margin:
                both = [tiers for tiers in ballots if {better, worse} <= seen(tiers)]
                row["margin"] = leads[better, worse] / len(both)
            votes = [cast.vote for cast in casts if {better, worse} <= seen(cast.ballot)]
            export.add(row, _said(*path, chosen, rejected) | _cast(*votes))
    add_pairs(view, export, order, margin=margin)
    return export


def kto(view: View) -> Export:
    """A row for each rated answer; it is good if more members rate it up than down."""
    export = Export(left_out=Counter(view.uncounted_ratings))
    for answer, path in _rated(view, export):
        ups, downs = view.ups_and_downs(answer.id)
        if ups == downs:
            export.left_out["rated up as often as down"] += 1
            continue
        row = {
            "prompt": [view.turn(turn) for turn in path],
            "completion": [view.turn(answer)],
            "label": ups > downs,
            "group": view.group(path),
        }
        if reasons := view.reasons(answer.id):
            row["reasons"] = reasons
        export.add(row, _said(*path, answer) | _rated_by(view, answer))
    return export


def sft(view: View) -> Export:
    """Conversations that end with an answer rated up at least once and down never, and those that
    end with a person's own wording.

    Training imitates every answer of a row, so none before the last may be rated down either, and
    the last must not be cut off; nor may any be one that somebody worded better. A conversation
    that goes on in a longer row has none of its own.
    """
    export = Export(left_out=Counter(view.uncounted_ratings))
    corrected = {one.message_id for one in view.corrections()}
    fit: dict[str, list[StoredMessage]] = {}
    for answer, path in _rated(view, export):
        ups, downs = view.ups_and_downs(answer.id)
        if downs or not ups:
            export.left_out["rated down"] += 1
        elif any(view.ups_and_downs(turn.id)[1] for turn in path):
            export.left_out["an earlier answer was rated down"] += 1
        elif corrected & {answer.id, *(turn.id for turn in path)}:
            export.left_out["somebody worded it better"] += 1
        elif answer.stop in ("length", "cancelled"):
            export.left_out["the answer was cut off"] += 1
        else:
            fit[answer.id] = [*path, answer]
    begun = {turn.id for row in fit.values() for turn in row[:-1]}
    for answer_id, turns in fit.items():
        if answer_id in begun:
            export.left_out["goes on in a longer row"] += 1
            continue
        row = {"messages": [view.turn(turn) for turn in turns], "group": turns[0].id}
        export.add(row, _said(*turns) | _rated_by(view, *turns))
    add_demonstrations(view, export)
    return export


def arena(view: View) -> Export:
    """A row for each vote between two answers, as in Chatbot Arena's published battles.

    `model_a` was shown first. `judge` numbers the voters of this export, no more.
    """
    export = Export(left_out=Counter(view.uncounted_votes))
    judges: dict[str, str] = {}
    for cast in view.cast:
        vote, comparison = cast.vote, view.comparisons[cast.vote.comparison_id]
        if len(comparison.candidates) != 2:
            export.left_out["vote between more than two answers"] += 1
            continue
        first, second = (view.messages[answer] for answer in comparison.candidates)
        path = view.path(comparison.question_id)
        if reason := unfit(view, path, first, second):
            export.left_out[reason] += 1
            continue
        winner = "tie (bothbad)" if vote.verdict == "both_bad" else "tie"
        if vote.verdict == "ranked":
            winner = "model_a" if first.id in cast.ballot[0] else "model_b"
        judge = judges.setdefault(vote.member_id or "", f"member_{len(judges) + 1}")
        prompt = [view.turn(turn) for turn in path]
        row = {
            "question_id": comparison.question_id,
            "model_a": model_of(first),
            "model_b": model_of(second),
            "winner": winner,
            "judge": judge,
            "conversation_a": [*prompt, view.turn(first)],
            "conversation_b": [*prompt, view.turn(second)],
            "turn": sum(turn.role == "user" for turn in path),
            "anony": True,
            "language": view.conversations[first.conversation_id].lang or "unknown",
            "tstamp": vote.created_at.timestamp(),
        }
        export.add(row, _said(*path, first, second) | _cast(vote))
    return export


def _rated(view: View, export: Export) -> list[tuple[StoredMessage, list[StoredMessage]]]:
    """Rated answers that may leave, oldest first, each with the turns before it."""
    found = []
    rated = [message for message in view.messages.values() if message.id in view.ratings]
    for message in sorted(rated, key=lambda m: (m.created_at, m.id)):
        path = view.path(message.id)[:-1]
        if message.role != "assistant":
            export.left_out["rated, but not an answer"] += 1
        elif reason := view.refusal(message) or unfit(view, path, message):
            export.left_out[reason] += 1
        else:
            found.append((message, path))
    return found


def _pairs_seen(ballots: list[Ballot]) -> set[tuple[str, str]]:
    """Every ordered pair of answers that somebody saw together."""
    return {(a, b) for tiers in ballots for a in seen(tiers) for b in seen(tiers) if a != b}


def _said(*messages: StoredMessage) -> Events:
    return {("message", message.id) for message in messages}


def _cast(*votes: Vote) -> Events:
    cast = {("vote", vote.id) for vote in votes}
    return cast | {("comparison", vote.comparison_id) for vote in votes}


def _rated_by(view: View, *turns: StoredMessage) -> Events:
    answers = [turn.id for turn in turns if turn.role == "assistant"]
    return {("rating", rating.id) for id in answers for rating in view.ratings.get(id, ())}
