"""What a session comes to: the verdicts, whose answers they were, and where a decision stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from guildgpt.feedback.records import Decision
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.betting import Standing
from guildgpt.feedback.versions.deciding import WHY, look
from guildgpt.terminal import visible
from guildgpt.vote.play import Ended
from guildgpt.vote.screen import Screen
from guildgpt.vote.session import Played, Session

KINDS = {"ranked": "preferred", "tie": "tied", "both_bad": "both bad", "skip": "skipped"}


@dataclass(frozen=True, slots=True)
class Summary:
    """A session that is over. Whose answers were whose is `hidden` while a decision on the two is
    open."""

    played: Sequence[Played]
    versions: tuple[str, str]
    ended: str
    decision: Decision | None
    standing: Standing | None
    hidden: bool

    @property
    def verdicts(self) -> dict[str, int]:
        """How often each was given."""
        counts = Counter(one.verdict for one in self.played)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}  # type: ignore[index]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        shown: dict[str, Any] = {
            "rounds": len(self.played),
            "verdicts": self.verdicts,
            "corrections": sum(bool(one.corrected) for one in self.played),
            "versions": list(dict.fromkeys(self.versions)),
            "ended": self.ended,
        }
        if self.decision and self.standing:
            shown["decision"] = {
                "id": self.decision.id,
                "candidate": self.decision.candidate_id,
                "state": self.decision.state,
                "observations": self.standing.rounds,
                "likely_needed": self.standing.likely_needed,
                "operator_decides": self.standing.operator_decides,
            }
        if not self.hidden:
            shown["played"] = [
                {
                    "prompt": one.prompt.text,
                    "versions": [answer.version_id for answer in one.answers],
                    "verdict": one.verdict,
                    "better": one.ranking[0] if one.ranking else None,
                }
                for one in self.played
            ]
        return shown


async def summarise(store: Store, session: Session, ended: Ended | str) -> Summary:
    """Look at a session after its end, and at the decision that its rounds help."""
    decision = session.decision
    standing = None
    if decision and (now := await store.decisions.by_id(decision.id)):
        decision, standing = await look(store, now)
    current = decision or await store.decisions.current()
    hidden = (
        current is not None
        and current.state == "canary"
        and _files(current.baseline_id, current.candidate_id) == _files(*session.versions)
    )
    return Summary(session.played, session.versions, ended, decision, standing, hidden)


def _files(*ids: str | None) -> set[str]:
    """What stands for the versions' files: one file may have been registered by two names."""
    return {(id or "").rpartition("@")[2] for id in ids}


def show(summary: Summary, screen: Screen) -> None:
    """Tell the person."""
    counts = [f"{count:,} {KINDS[kind]}" for kind, count in summary.verdicts.items()]
    rounds = len(summary.played)
    told = f"{rounds:,} round{'s' * (rounds != 1)}"
    if corrected := sum(bool(one.corrected) for one in summary.played):
        counts.append(f"{corrected:,} written better")
    screen.say("", f"{told}: {', '.join(counts)}." if counts else "No round was voted on.")
    if not summary.hidden and len(set(summary.versions)) == 2 and rounds:
        screen.console.print("", _wins(summary), "", _rounds(summary), sep="\n")
    if summary.decision and summary.standing:
        screen.say(*_standing(summary.decision, summary.standing))


def _wins(summary: Summary) -> Table:
    """How often each version was the better one."""
    table = Table(box=None, pad_edge=False)
    table.add_column("version")
    table.add_column("better", justify="right")
    for version in summary.versions:
        better = [one.answers[one.ranking[0]].version_id for one in summary.played if one.ranking]
        table.add_row(visible(version), f"{better.count(version):,}")
    return table


def _rounds(summary: Summary) -> Table:
    """Whose answers were whose."""
    table = Table(box=None, pad_edge=False)
    for column in ("round", "A", "B", "verdict"):
        table.add_column(column, overflow="fold")
    for number, one in enumerate(summary.played, start=1):
        verdict = "AB"[one.ranking[0]] if one.ranking else KINDS[one.verdict or "skip"]
        names = [visible(answer.version_id) for answer in one.answers]
        table.add_row(str(number), *names, verdict)
    return table


def _standing(decision: Decision, standing: Standing) -> list[str]:
    """The decision's state, and whose it is."""
    if decision.state == "canary":
        more = f", likely {needed:,} more to go" if (needed := standing.likely_needed) else ""
        head = f"nothing is decided yet ({standing.rounds:,} observations{more})."
    else:
        head = f"{WHY.get(decision.state, decision.state)}."
    lines = [f"The decision on {decision.candidate_id}: {head}"]
    if standing.operator_decides:
        lines.append(
            "One person's day at a terminal is one observation, once the day is over, and advice: "
            "`guildgpt versions promote` or `guildgpt versions drop` is the operator's to say."
        )
    return lines
