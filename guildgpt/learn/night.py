"""One night: the circle goes as far as it goes, and says what it did or why it did nothing.

    a candidate that learned from what was erased since is dropped
    what is under way goes on; a candidate that people have not decided on yet is waited for
    with nothing under way a turn begins, if there is enough, and enough of it is new

Whatever goes wrong is told, never raised: the next night goes on from where this one ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from guildgpt.data.origin import events_of
from guildgpt.errors import CircleBusy, GuildError, StoreError
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.exporting.learnable import learnable
from guildgpt.feedback.records import Decision, DecisionState, LogKind
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.deciding import in_words, look
from guildgpt.feedback.versions.releasing import drop, served
from guildgpt.learn.methods import counted, in_number, reads_ratings
from guildgpt.learn.turn import Options, take_turn, what_is_learned
from guildgpt.unforeseen import unforeseen

GIVE_UP = 3  # nights that end in an error, and a turn that is being trained is given up
ERASED = "something that it learned from was erased"
OPINIONS = ("vote", "rating", "correction")
AT_WORK: tuple[DecisionState, ...] = ("training", "gate")
IN_TRIAL: tuple[DecisionState, ...] = ("canary", "preferred")


@dataclass(frozen=True, slots=True)
class Happened:
    """What came of a night, as the circle's log has it: its kind, a sentence for people, figures.
    What `may_pass` by itself is worth another try the same night."""

    kind: LogKind
    night: date
    words: str
    decision_id: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    may_pass: bool = False

    def logged(self) -> dict[str, Any]:
        """The entry's detail."""
        passing = {"may_pass": True} if self.may_pass else {}
        return {"night": self.night.isoformat(), "words": self.words} | passing | self.detail


def take_night(options: Options, night: date) -> Happened:
    """Take the circle as far as it goes tonight. Raises nothing but KeyboardInterrupt and
    SystemExit."""
    try:
        return _taken(options, night)
    except GuildError as error:
        return _failed(options, night, error.what, error.remedy, may_pass(error))
    except Exception as error:  # whatever it is, there is another night
        told = unforeseen(error)
        return _failed(options, night, told.what, told.remedy, may_pass(error))


def may_pass(error: BaseException) -> bool:
    """Whether what went wrong may be over in an hour: the store is away, a disk is full, another
    process is at work."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (StoreError, CircleBusy)):
            return True
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _taken(options: Options, night: date) -> Happened:
    with_store(options.store, _drop_erased)
    decision = with_store(options.store, lambda store: store.decisions.current())
    ended = None
    if decision is not None:
        was = decision.state
        decision = take_turn(options)
        if decision.state in IN_TRIAL and was in IN_TRIAL:
            return with_store(options.store, lambda store: _waits(store, decision, night))
        if decision.state in IN_TRIAL or was in AT_WORK:
            return _stepped(decision, night)
        ended = _stepped(decision, night)  # and the next turn may begin
    reason = with_store(options.store, lambda store: _not_now(store, options, night))
    if reason is None:
        return _stepped(take_turn(options), night, ended)
    if ended is None:
        return reason
    words = f"{ended.words}; no further turn begins: {reason.words}"
    return Happened("night", night, words, ended.decision_id, ended.detail)


async def _drop_erased(store: Store) -> None:
    """A candidate that may not be promoted any more makes way for a clean one."""
    decision = await store.decisions.current()
    if decision is None or decision.state not in IN_TRIAL:
        return
    version = await store.versions.by_id(decision.candidate_id or "")
    if decision.erased_at or (version is not None and version.erased_at):
        await drop(store, ERASED)


def _stepped(decision: Decision, night: date, ended: Happened | None = None) -> Happened:
    name = decision.candidate_id or "the candidate"
    said = {
        "canary": f"{name} was trained, and answers a share of the conversations: rounds decide",
        "preferred": f"members prefer {name}: it waits for your yes",
        "not_preferred": f"{name} was dropped: members do not prefer it",
        "undecided": f"{name} was dropped: it stayed undecided",
        "promoted": f"members prefer {name}, and it answers from now on",
        "dropped": f"{name} was dropped: {decision.why or 'no reason was given'}",
    }
    words = said.get(decision.state, f"{name}: {decision.state}")
    words = f"{ended.words}; then {words}" if ended else words
    detail = {"state": decision.state, "candidate": decision.candidate_id}
    return Happened("night", night, words, decision.id, detail)


async def _waits(store: Store, decision: Decision, night: date) -> Happened:
    decision, standing = await look(store, decision)
    yes = " It waits for your yes." if decision.state == "preferred" else ""
    words = f"{decision.candidate_id} is being tried. {in_words(standing)}{yes}"
    detail = {"state": decision.state, "rounds": standing.rounds, "mean": standing.mean}
    return Happened("waited", night, words, decision.id, detail)


async def _not_now(store: Store, options: Options, night: date) -> Happened | None:
    """Why no turn begins; None if one does."""
    learn = options.settled()
    taken, how, teachers = await what_is_learned(store, options)
    there = counted(how.recipe, taken)
    rated = reads_ratings(how.recipe)
    export, _ = learnable(await store.snapshot(), teachers, ratings=rated, members=options.members)
    detail: dict[str, Any] = {
        "comparisons": taken.comparisons,
        "ratings": taken.ratings,
        "left_out": taken.left_out,
    }
    if there < learn.least:
        words = (
            f"too little to learn from: {in_number(there, 'row')} of the "
            f"{learn.least:,} that a turn takes"
        )
        return Happened("too_little", night, words, detail=detail)
    last = next((one for one in await store.decisions.all() if one.folder), None)
    if last is None or await _is_to_be_clean(store, last):
        return None
    known = await store.versions.events_of(last.id)
    if last.candidate_id:
        known |= await store.versions.events_of(last.candidate_id)
    new = 0
    for row in export.rows:
        said = {event for event in events_of(row, "") if event[0] in OPINIONS}
        new += not said <= known
    if new >= min(learn.new, learn.least):
        return None
    words = f"nothing new: the last turn learned from all but {new:,}" if new else "nothing new"
    words += f" of {in_number(there, 'row')}; a turn takes {learn.new:,} new ones"
    return Happened("nothing_new", night, words, detail=detail | {"new": new})


async def _is_to_be_clean(store: Store, last: Decision) -> bool:
    """Whether the last candidate was dropped for what was erased, or who serves learned from it and
    no turn began since."""
    if last.state == "dropped" and last.why == ERASED:
        return True
    line = served(await store.releases.history())
    version = await store.versions.by_id(line[-1]) if line else None
    return bool(version and version.erased_at and version.erased_at > last.created_at)


def _failed(
    options: Options, night: date, what: str, remedy: str | None, passing: bool
) -> Happened:
    """The error in words; a turn that ends in one night after night is given up."""
    decision, words = None, what
    detail = {"remedy": remedy} if remedy else {}
    try:
        decision = with_store(options.store, lambda store: store.decisions.current())
        if decision is not None and decision.state in AT_WORK and not passing:
            given_up = with_store(
                options.store, lambda store: _give_up(store, decision, night, what)
            )
            words += "; the turn is given up, after so many nights" * given_up
    except GuildError:  # the store is away: the next night knows more
        pass
    id = decision.id if decision else None
    return Happened("failed", night, words, id, detail, passing)


async def _give_up(store: Store, decision: Decision, night: date, what: str) -> bool:
    entries = await store.log.entries(decision_id=decision.id)
    nights = {night.isoformat()} | {
        one.detail.get("night")
        for one in entries
        if one.kind == "failed" and not one.detail.get("may_pass")
    }
    if len(nights) < GIVE_UP:
        return False
    why = f"given up: {len(nights)} nights ended in an error ({what})"
    await store.decisions.change(decision.id, expected=AT_WORK, state="dropped", why=why)
    return True
