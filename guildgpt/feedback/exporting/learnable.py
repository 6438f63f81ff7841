"""What a run learns from the store: its comparisons and corrections, taken once, with their origin.

feedback.jsonl   the rows, as `guildgpt feedback export preference` writes them
feedback.json    how many, what was left out, and whom the prompts' licences want named
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from guildgpt.data.origin import Events
from guildgpt.data.spec import SourceSpec
from guildgpt.feedback.exporting.exports import preference, write_lines
from guildgpt.feedback.exporting.view import Export, View
from guildgpt.feedback.records import Snapshot
from guildgpt.feedback.storage.rows import write_whole
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.teaching import EVERYBODY, Teaching, taught

ROWS, RECORD = "feedback.jsonl", "feedback.json"


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken: `comparisons` and, of these, `corrections`; what was left out, by reason."""

    comparisons: int
    corrections: int
    left_out: dict[str, int]
    attribution: str


def learnable(snapshot: Snapshot, teaching: Teaching = EVERYBODY) -> tuple[Export, Taken]:
    """The rows of a snapshot that a run may learn from: of guilds that teach, no text of members
    but what they wrote into the forms that are made for it, and nothing that was asked to
    decide."""
    snapshot, of_others = taught(snapshot, teaching)
    export = preference(View(snapshot))
    export.left_out += of_others
    kinds = Counter(kind for kind, _ in export.events)
    taken = Taken(
        comparisons=len(export.rows),
        corrections=kinds["correction"],
        left_out=dict(export.left_out.most_common()),
        attribution=_credits(snapshot, export.events),
    )
    return export, taken


async def take(
    store: Store, folder: Path, *, learner: str | None = None, teaching: Teaching = EVERYBODY
) -> Taken:
    """Write the rows into a run's folder, unless they are there: a run goes on with what it began
    with. Before they are, the store knows that `learner` (a decision's id) learns from them.

    Raises GuildError if they cannot be written.
    """
    if earlier := taken_before(folder):
        return earlier
    export, taken = learnable(await store.snapshot(), teaching)
    while learner and await store.versions.learned(learner, export.events):
        export, taken = learnable(
            await store.snapshot(), teaching
        )  # something was erased meanwhile
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
    return spec.model_copy(update={**known, **given, "source": f"jsonl:{folder / ROWS}"})


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
