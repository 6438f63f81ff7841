"""One stage of a run: what kind it is, what it starts from, what it reads and what it leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from rich.console import Console

from guildgpt.bases.base import Base
from guildgpt.bases.config import BaseConfig
from guildgpt.chat import Conversation
from guildgpt.data import Dataset, Document, Provenance, SourceReport
from guildgpt.data.examples import Example, Ranking
from guildgpt.data.rated import RatedExample
from guildgpt.errors import GuildError
from guildgpt.network.world import World
from guildgpt.pipeline.folder import Clock, is_disk_full
from guildgpt.pipeline.trackers import TrackerName
from guildgpt.recipe import Recipe, Stage
from guildgpt.terminal import visible
from guildgpt.train.config import TrainConfig
from guildgpt.train.loop import Job, Outcome
from guildgpt.train.progress import Watcher
from guildgpt.train.rollout import Prompt

T = TypeVar("T")


@dataclass(frozen=True)
class Gathered:
    """What some stages of a recipe learn from, as text, and what the policy says of it."""

    dataset: Dataset
    documents: list[Document]
    provenance: list[Provenance]  # base first, then every source, the documents last
    warnings: list[str]
    bad_rows: list[str] = field(default_factory=list)  # what `on_bad_row` passed over: where, what


@dataclass(frozen=True)
class Compared:
    """Comparisons as token ids."""

    train: list[Ranking] = field(default_factory=list)
    held_out: dict[str, list[Ranking]] = field(default_factory=dict)  # by source
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class RatedRows:
    """Answers that somebody called good or bad, as token ids."""

    train: list[RatedExample] = field(default_factory=list)
    held_out: dict[str, list[RatedExample]] = field(default_factory=dict)  # by source
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Prepared:
    """One stage's rows as token ids, and the sources that it learns from.

    Stages that learn from feedback may measure or read conversations, too; none need be there.
    """

    conversations: list[Conversation]
    train: list[Example]
    held_out: dict[str, list[Example]]
    dropped: Counter[str]
    sources: list[tuple[Provenance, SourceReport]]
    compared: Compared = field(default_factory=Compared)  # of stages that learn from comparisons
    rated: RatedRows = field(default_factory=RatedRows)  # of those that learn from ratings
    prompts: list[Prompt] = field(default_factory=list)  # of stages that write their own answers
    too_long: int = 0  # prompts that were left out
    demonstrations: list[Example] = field(default_factory=list)  # that such stages learn from, too

    @property
    def trained_on(self) -> Sequence[Example | Ranking | RatedExample | Prompt]:
        """The rows that the stage learns from."""
        kinds = (self.prompts, self.compared.train, self.rated.train, self.demonstrations)
        return [row for rows in kinds for row in rows] or self.train


@dataclass(frozen=True)
class Trained:
    """What a trainer leaves."""

    model: Any  # plain transformers, float32, on the CPU
    outcome: Outcome
    files: Mapping[str, bytes] = field(default_factory=dict)  # more of the model folder's files
    notes: Sequence[str] = ()  # more lines of the model card
    adapter: bytes | None = None  # a policy's, until it is held against what it came from


Trainer = Callable[["StageRun", Base, Prepared, Job], Trained]


@dataclass(frozen=True)
class StageKind:
    """What sets a stage apart from the others: a row of the table in `stages.py`."""

    reads: Literal["documents", "conversations", "comparisons", "ratings", "prompts"]
    train: Trainer
    scores: bool = False  # it leaves a model that scores answers, in place of one that writes them
    changes_answers: bool = False  # it teaches a model that answers already, and is held against it
    judges: bool = False  # what the others are trained on, it never meets: other rows, another seed


@dataclass(frozen=True)
class Start:
    """The models that a stage starts from."""

    base: BaseConfig
    earlier: Stage | None  # the stage of this run that left the base
    reward: Path | None  # what the answers of a policy are rewarded by, in training
    judge: Path | None  # what they are judged by, afterwards


@dataclass(frozen=True)
class StageRun:
    """A stage of the run in `folder`, about to happen."""

    stage: Stage
    kind: StageKind
    recipe: Recipe
    recipe_text: str
    folder: Path
    start: Start
    data: Gathered
    clock: Clock
    console: Console
    world: World
    later: Sequence[Stage] = ()  # the stages that come after the run's first, told to that one
    track: TrackerName | None = None  # who is told the figures besides the report
    warnings: list[str] = field(default_factory=list)  # what went wrong, for the report

    @property
    def place(self) -> Path:
        """The stage's own folder."""
        return self.folder / self.stage

    @property
    def settings(self) -> TrainConfig:
        """The section of the recipe that the stage is trained by."""
        return self.recipe.settings(self.stage)

    def job(self, watcher: Watcher) -> Job:
        """Where it is trained, with which seed, who watches, on which devices."""
        return Job(self.place, self.recipe.seed + self.kind.judges, watcher, self.world)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Count what happens inside towards this part of the stage."""
        several = len(self.recipe.stages) > 1
        return self.clock(f"{self.stage}: {name}" if several else name)

    def say(self, line: str, style: str | None = None) -> None:
        """A line of plain text on the console."""
        self.console.print(visible(line), style=style or "", highlight=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """The same for what went wrong and stops nothing; the report has it, too."""
        self.warnings.append(line)
        self.say(line, style="yellow")

    def measured(self, what: str, measure: Callable[[], T]) -> T | None:
        """A figure of what is trained and saved; None, and a line in the report, where it cannot be
        had. Trained weights are never lost to a measurement; only a full disk stops the run, for
        the same command measures again once there is room."""
        try:
            return measure()
        except Exception as error:  # whatever it is, the model is worth more
            if is_disk_full(error):
                raise
            self.warn(f"{what} could not be measured ({in_short(error)}); it is saved all the same")
            return None


def in_short(error: Exception) -> str:
    """What an error says, in a line."""
    return error.what if isinstance(error, GuildError) else f"{type(error).__name__}: {error}"
