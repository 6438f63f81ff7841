"""What may be released, and what each release makes of the candidate that is being tried.

Whoever releases, an operator at the command line or the circle itself, does it by way of this file.
Every refusal is a GuildError with what to do instead, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from guildgpt.errors import GuildError
from guildgpt.feedback.records import Decision, DecisionState, Release, ReleaseKind
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.betting import DecisionSettings
from guildgpt.feedback.versions.deciding import in_words, look
from guildgpt.feedback.versions.registering import LIST, flaw, known, refuse_flawed
from guildgpt.feedback.versions.releases import Settled
from guildgpt.feedback.versions.versions import KnownVersion

# What becomes of a candidate, by its state, before any member sees it.
UNSEEN: dict[DecisionState, str] = {"training": "trained", "gate": "measured"}


def served(history: Sequence[Sequence[Release]]) -> list[str]:
    """The versions that served one after the other, without those that were only tried or were
    rolled back; the last one serves now. `history` has the newest release first."""
    line: list[str] = []
    for release in reversed(history):
        id, kind = release[0].version_id, release[0].kind
        if kind == "canary" or line[-1:] == [id]:
            continue
        if kind == "rollback" and id in line:
            while line[-1] != id:
                line.pop()
        else:
            line.append(id)
    return line


def share_since(history: Sequence[Sequence[Release]], id: str) -> tuple[float, datetime | None]:
    """The share that a version answers, and since when without a change; 0 and None for none."""
    shares = [{one.version_id: one.share for one in release} for release in history]
    share, since = (shares[0].get(id, 0.0) if shares else 0.0), None
    for release, of in zip(history, shares, strict=True):
        if not share or of.get(id) != share:
            break
        since = release[0].created_at
    return share, since


async def serve(store: Store, version: KnownVersion, why: str = "") -> list[Release]:
    """From now on the version answers everything. Nothing new is released if it does already."""
    refuse_flawed(version)
    if trial := await _trial(store):
        raise GuildError(
            f"{trial.candidate_id} is being tried ({trial.state})",
            remedy="First `guildgpt versions promote` or `guildgpt versions drop`.",
        )
    now = await store.releases.current()
    if [release.version_id for release in now] == [version.id]:
        return now
    return await store.releases.add({version.id: 1.0}, "serve", why)


async def begin_canary(
    store: Store,
    version: KnownVersion,
    share: float,
    settings: DecisionSettings | None = None,
    *,
    decision: Decision | None = None,
    why: str = "",
) -> Decision:
    """Let the version answer a share of the conversations, and open the decision on it; or go on
    with a `decision` whose candidate was being trained."""
    if not 0 < share < 1:
        raise GuildError(
            f"a share of {share:g} is no canary",
            where="--share",
            remedy="Give a number between 0 and 1, such as 0.2 for a fifth of the conversations.",
        )
    refuse_flawed(version)
    line = served(await store.releases.history())
    if not line:
        raise GuildError(
            "no version serves yet that the candidate could be compared with",
            remedy="First `guildgpt versions serve MODEL`, with the model that answers now.",
        )
    baseline = line[-1]
    if baseline == version.id:
        raise GuildError(
            f"{version.id} serves already", where="MODEL", remedy="A candidate is another version."
        )
    current = await store.decisions.current()
    if current and not decision and not _is_half_begun(current, version):
        raise GuildError(
            f"there is a candidate already: {current.candidate_id or 'one that is being trained'} "
            f"({current.state})",
            remedy="One at a time: `guildgpt versions promote` or `drop` ends its trial, `guildgpt "
            "learn --drop` its training.",
        )
    decision = decision or current
    chosen = DecisionSettings().model_dump() | (decision.settings if decision else {})
    chosen |= (settings.model_dump() if settings else {}) | {"share": share}
    about: dict[str, Any] = {
        "candidate_id": version.id,
        "baseline_id": baseline,
        "settings": chosen,
    }
    if decision is None:
        decision = await store.decisions.begin(**about)
    else:
        decision = await store.decisions.change(decision.id, **about)
    await store.releases.add(
        {baseline: 1 - share, version.id: share},
        "canary",
        why,
        settles=Settled(decision.id, ["training", "gate"], "canary"),
    )
    return replace(decision, state="canary")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that was tried, the decision on it, and what that stands at, in words; `against`
    the decision it would be promoted."""

    version: KnownVersion
    decision: Decision
    says: str
    against: bool


async def candidate(store: Store, id: str | None = None, *, force: bool = False) -> Candidate:
    """Who is to be promoted: a version by its id, or the one that is being or was tried last.
    Refuses who may not be, and who members are not known to prefer, unless that is forced."""
    trial = await _trial(store)
    decision = trial or await _last(store)
    if id is not None and (decision is None or decision.candidate_id != id):
        if trial:
            raise GuildError(
                f"{trial.candidate_id} is being tried ({trial.state})",
                remedy="First `guildgpt versions promote` without a MODEL, or `guildgpt versions "
                "drop`.",
            )
        decision = await _last(store, id)
    if (
        decision is None
        or decision.candidate_id is None
        or (not id and decision.state == "dropped")
    ):
        raise GuildError(
            f"{id} was never tried" if id else "there is no candidate",
            remedy="`guildgpt versions canary MODEL` tries one; `guildgpt versions serve MODEL` "
            "releases a version without asking the members.",
        )
    version = await known(store, decision.candidate_id)
    if decision.erased_at is not None:
        version = replace(version, erased_at=decision.erased_at)
    if decision.state == "promoted":
        raise GuildError(
            f"{version.id} was promoted already",
            remedy=f"If it was rolled back since: `guildgpt versions serve {version.id}`.",
        )
    if decision.state in UNSEEN:
        raise GuildError(
            f"{version.id} is still being {UNSEEN[decision.state]}",
            remedy="Wait until it is tried.",
        )
    refuse_flawed(version)
    decision, standing = await look(store, decision)
    says = f"{version.id} was put to the vote ({decision.state}). {in_words(standing)}"
    advised = standing.operator_decides and standing.state == "preferred"
    against = decision.state != "preferred" and not advised
    if against and not force:
        raise GuildError(
            "the decision does not say that members prefer it",
            remedy=f"{says} Wait for more rounds, or use --force: the release then notes that you "
            "did.",
        )
    return Candidate(version, decision, says, against)


async def promote(store: Store, who: Candidate, why: str = "") -> list[Release]:
    """The candidate answers everything from now on. Raises StoreError if it was decided otherwise
    since it was looked at."""
    state = who.decision.state
    if who.against:
        why = f"promoted against the decision ({state})" + (f": {why}" if why else "")
    elif state != "preferred":
        why = why or "the rounds advise it, and the operator agrees"
    settled = Settled(who.decision.id, [state], "promoted")
    return await store.releases.add({who.version.id: 1.0}, "promote", why, settles=settled)


async def drop(store: Store, why: str = "") -> tuple[str | None, list[Release]]:
    """End the trial: who served before has everything again. Returns the candidate, too."""
    now, trial = await store.releases.current(), await _trial(store)
    if trial is None and not (now and now[0].kind == "canary"):
        current = await store.decisions.current()
        raise GuildError(
            f"the candidate is still being {UNSEEN[current.state]}"
            if current
            else "no candidate is being tried",
            remedy="`guildgpt learn --drop` gives it up." if current else LIST,
        )
    return await _end_trial(store, trial, "drop", why)


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Who answers again, in whose place, and who was passed over for which reason."""

    to: str
    instead_of: str
    passed_over: tuple[tuple[str, str], ...] = ()
    ended_trial: bool = False


async def rollback(store: Store, why: str = "") -> RolledBack:
    """Back to who served before the newest version that was served or promoted; while a candidate
    is being tried, back to who served before that."""
    history = await store.releases.history()
    line = served(history)
    trial = await _trial(store)
    if trial or (history and history[0][0].kind == "canary"):
        name, [release] = await _end_trial(store, trial, "rollback", why or "rolled back")
        return RolledBack(release.version_id, name or "the candidate", ended_trial=True)
    versions = {one.id: one for one in await store.versions.all()}
    passed_over: dict[str, str] = {}
    for id in reversed(line[:-1]):
        reason = flaw(versions[id]) if id in versions else "it is not in the store"
        if reason is None and id != line[-1]:
            await store.releases.add({id: 1.0}, "rollback", why)
            return RolledBack(id, line[-1], tuple(passed_over.items()))
        if reason:
            passed_over[id] = reason
    told = "; ".join(f"{id}: {reason}" for id, reason in passed_over.items())
    raise GuildError(
        "there is nothing to go back to" + (f" ({told})" if told else ""),
        remedy=f"{line[-1]} goes on. `guildgpt versions serve MODEL` releases another one."
        if line
        else "Nothing was released yet: the bot answers with the model of its settings.",
    )


async def _trial(store: Store) -> Decision | None:
    """The decision on a candidate that is being tried."""
    current = await store.decisions.current()
    return current if current and current.state not in UNSEEN else None


async def _last(store: Store, id: str | None = None) -> Decision | None:
    """The newest decision on a version, or the newest at all."""
    all = await store.decisions.all()
    return next((one for one in all if one.candidate_id and id in (None, one.candidate_id)), None)


def _is_half_begun(decision: Decision, version: KnownVersion) -> bool:
    """Whether it was begun for this very version, by a command that came to no release."""
    return decision.state == "training" and decision.candidate_id == version.id


async def _end_trial(
    store: Store, trial: Decision | None, kind: ReleaseKind, why: str
) -> tuple[str | None, list[Release]]:
    """Give who serves everything again."""
    line = served(await store.releases.history())
    settled = Settled(trial.id, ["canary", "preferred"], "dropped") if trial else None
    released = await store.releases.add({line[-1]: 1.0}, kind, why, settles=settled)
    return trial.candidate_id if trial else None, released
