"""What a run learns from the store, every kind of it taken once, with its origin.

feedback.jsonl   the rows: comparisons, of votes and of corrections over the answers that they
                 correct; corrections as conversations to imitate; and rated answers, where the run
                 has a stage that reads them. Each stage finds the rows of its kind among them.
feedback.json    how many, what was left out, and whom the prompts' licences want named
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from guildgpt.data.origin import Events
from guildgpt.data.spec import FEEDBACK, SourceSpec
from guildgpt.feedback.exporting.demonstrations import add_demonstrations
from guildgpt.feedback.exporting.exports import kto, preference, write_lines
from guildgpt.feedback.exporting.view import Export, Switches, View
from guildgpt.feedback.records import Snapshot
from guildgpt.feedback.storage.rows import write_whole
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.teaching import EVERYBODY, Teaching, taught

ROWS, RECORD = "feedback.jsonl", "feedback.json"


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken: `comparisons` and, of these, `corrections`; rated answers (`ratings`); what
    was left out, by reason."""

    comparisons: int
    corrections: int
    left_out: dict[str, int]
    attribution: str
    ratings: int = 0


def learnable(
    snapshot: Snapshot,
    teaching: Teaching = EVERYBODY,
    *,
    ratings: bool = True,
    members: bool = False,
) -> tuple[Export, Taken]:
    """The rows of a snapshot that a run may learn from: of guilds that teach, nothing that was
    asked to decide, and no text of members but what they wrote into the forms that are made for it.
    `ratings` says whether rated answers are among them; `members`, the operator's switch, also
    takes what members wrote to the bot, of those who opted in (see `people.policy.RULE_21`)."""
    snapshot, of_others = taught(snapshot, teaching)
    view = View(snapshot, Switches(members=members))
    export = preference(view)
    comparisons = len(export.rows)
    worded = Export()
    add_demonstrations(view, worded)  # what it leaves out the comparisons have left out already
    rated = kto(view) if ratings else Export()
    for row in rated.rows:
        row.pop("reasons", None)  # no stage reads them
    export.rows += worded.rows + rated.rows
    export.events |= worded.events | rated.events
    export.left_out += rated.left_out + of_others
    kinds = Counter(kind for kind, _ in export.events)
    taken = Taken(
        comparisons=comparisons,
        corrections=kinds["correction"],
        left_out=dict(export.left_out.most_common()),
        attribution=_credits(snapshot, export.events),
        ratings=len(rated.rows),
    )
    return export, taken


async def take(
    store: Store,
    folder: Path,
    *,
    learner: str | None = None,
    teaching: Teaching = EVERYBODY,
    ratings: bool = True,
    members: bool = False,
) -> Taken:
    """Write the rows (see `learnable`) into a run's folder, unless they are there: a run goes on
    with what it began with. Before they are, the store knows that `learner` (a decision's id)
    learns from them.

    Raises GuildError if they cannot be written.
    """
    if earlier := taken_before(folder):
        return earlier

    async def now() -> tuple[Export, Taken]:
        return learnable(await store.snapshot(), teaching, ratings=ratings, members=members)

    export, taken = await now()
    while learner and await store.versions.learned(learner, export.events):
        export, taken = await now()  # something was erased meanwhile
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / ROWS, export.rows)
    write_whole(folder / RECORD, json.dumps(asdict(taken), indent=1, ensure_ascii=False).encode())
    return taken


def taken_before(folder: Path) -> Taken | None:
    """What `take` has written into a run's folder, if it has."""
    record = folder / RECORD
    if not record.is_file():
        return None
    return Taken(**json.loads(record.read_text(encoding="utf-8")))


def as_source(spec: SourceSpec, folder: Path, taken: Taken) -> SourceSpec:
    """The source of a recipe that reads what was taken."""
    known = {"licence": "own", "written_by": "own model", "attribution": taken.attribution or None}
    given = {key: value for key in known if (value := getattr(spec, key)) is not None}
    read = {"source": f"jsonl:{folder / ROWS}", "train_on_members": False}
    return spec.model_copy(update={**known, **given, **read})


def trained_on_members(spec: SourceSpec) -> SourceSpec:
    """The source with the operator's switch on, if it is a feedback store."""
    return spec.model_copy(update={"train_on_members": True}) if spec.kind == FEEDBACK else spec


def _credits(snapshot: Snapshot, learned: Events) -> str:
    """Whom the prompts that were asked are by, and under which licences people worded answers."""
    asked = {round.prompt_id for round in snapshot.rounds}
    named = {
        f"{one.credit} ({one.licence})"
        for one in snapshot.prompts
        if one.id in asked and one.credit and one.member_id is None
    }
    given = {
        one.licence
        for one in snapshot.corrections
        if one.licence and ("correction", one.id) in learned
    }
    credits = [f"prompts by {name}" for name in sorted(named)]
    return "; ".join(credits + [f"answers by members ({one})" for one in sorted(given)])
