"""One turn of the circle: members' votes become a candidate, which members prefer or not.

    begin     the votes that stand are enough for a turn
    train     the recipe's ancestor, which saw no vote, learns from all of them
    gate      it is measured against who serves, before any member sees it
    try out   the candidate answers a share of the conversations, and meets who serves in rounds
    decide    the rounds say whether members prefer it, and the operator says yes

Whatever is killed, the same command goes on: where a turn stands, the store knows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from guildgpt.data.spec import FEEDBACK
from guildgpt.errors import GuildError, ModelError, StoreError
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.erasing.purging import purge
from guildgpt.feedback.exporting.learnable import Taken, learnable, take
from guildgpt.feedback.records import Decision
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.betting import DecisionSettings, Standing
from guildgpt.feedback.versions.deciding import in_words, look
from guildgpt.feedback.versions.registering import register
from guildgpt.feedback.versions.releasing import candidate, promote, served
from guildgpt.feedback.versions.story import NIGHTS
from guildgpt.feedback.voting.teaching import Teaching, teaching
from guildgpt.feedback.voting.voters import Electorate
from guildgpt.learn.accounting import note_began, note_trained
from guildgpt.learn.aside import set_aside
from guildgpt.learn.gate import check_base, pass_gate
from guildgpt.learn.methods import (
    AUTO,
    MethodName,
    Plan,
    check_enough,
    in_number,
    plan,
    reads_ratings,
    with_members,
)
from guildgpt.learn.watch import Watch
from guildgpt.model.locate import locate
from guildgpt.model.version import Version, version_of
from guildgpt.recipe import LearnConfig, Recipe, find_recipe, load_recipe
from guildgpt.terminal import say

WORK = Path("runs") / "learn"
UNSURE = "unsure"  # where in it a reward model learns what to ask, and is gone afterwards
ENDED = ("promoted", "dropped", "not_preferred", "undecided")


@dataclass(frozen=True, slots=True)
class Options:
    """How a turn is taken. `agree` is asked with a question, for the operator's yes. What is None
    is as the recipe's section `[learn]` has it."""

    store: str
    recipe: str
    overrides: Sequence[str]
    work: Path
    share: float | None
    least: int | None
    console: Console
    agree: Callable[[str], bool]
    gate: bool = True  # else the candidate meets members unmeasured
    promote: Literal["ask", "by_itself"] | None = None
    guilds: Literal["served"] | list[int] | None = None
    new: int | None = None
    method: MethodName = AUTO
    members: bool = False  # the operator's switch for members' own text

    def settled(self) -> LearnConfig:
        """How the circle is turned: as the recipe says, and as these say before it."""
        config = load_recipe(find_recipe(self.recipe), self.overrides).learn
        said = {key: getattr(self, key) for key in LearnConfig.model_fields}
        return config.model_copy(
            update={key: value for key, value in said.items() if value is not None}
        )


def take_turn(options: Options) -> Decision:
    """Begin a turn, or go on with the one that is under way, as far as it goes now."""
    with Watch(options.store) as watch:
        try:
            decision = _as_far_as_it_goes(options, watch)
            if decision.state in ENDED:
                propose_pairs(options)
            return decision
        except KeyboardInterrupt as error:
            if not watch.lost:
                raise
            raise StoreError(
                "the store was away for too long, and another process may turn the circle",
                remedy="Once the store is back, the same command goes on.",
            ) from error


def propose_pairs(options: Options) -> int:
    """Put down pairs of which the votes do not yet say which answer is the better one, for rounds
    to come; how many wait. None where there are too few votes to tell, or where that fails: rounds
    are drawn at random then."""
    from guildgpt.learn.unsure import LEAST as FEWEST
    from guildgpt.learn.unsure import propose

    taken, how, teachers = with_store(options.store, lambda store: what_is_learned(store, options))
    if taken.comparisons < FEWEST:
        return 0
    console, work = options.console, options.work / UNSURE
    told = partial(say, console)
    try:
        count = propose(
            options.store,
            options.recipe,
            how.overrides,
            work,
            console,
            told,
            teaching=teachers,
            members=options.members,
        )
    except (GuildError, OSError) as error:
        told(f"No pairs are proposed for rounds: {error}")
        return 0
    told(f"{count:,} pairs of which it is unsure wait for rounds to learn from.")
    return count


def _as_far_as_it_goes(options: Options, watch: Watch) -> Decision:
    with_store(options.store, purge)  # what another machine erased
    shutil.rmtree(options.work / UNSURE, ignore_errors=True)  # of one that was killed: has votes
    decision = with_store(options.store, lambda store: store.decisions.current())
    if decision is None:
        decision = begin(options)
    while decision.state in ("training", "gate"):
        if decision.state == "training":
            decision = train(options, decision, watch)
        else:
            decision = gate(options, decision, watch)
    if decision.state in ("canary", "preferred"):
        decision = decide(options, decision)
    return decision


def begin(options: Options) -> Decision:
    """Open a decision. GuildError where there is too little to learn from, or nobody serves."""
    check_ancestor(load_recipe(find_recipe(options.recipe), options.overrides))
    learn = options.settled()

    async def work(store: Store) -> Decision:
        taken, how, teachers = await what_is_learned(store, options)
        check_enough(how.recipe, taken, learn.least)
        if not await store.releases.current():
            raise GuildError(
                "no version serves yet, so a candidate has nothing to be better than",
                remedy="Put the one that people talk to into service: "
                "guildgpt versions serve MODEL",
            )
        settings = {
            **DecisionSettings().model_dump(),
            "share": learn.share,
            "least": learn.least,
            "guilds": teachers.as_settings(),
            "recipe": options.recipe,
            "overrides": how.overrides,
            "method": how.method,
            "members": options.members,
        }
        folder = str(_new_folder(options.work))
        return await store.decisions.begin(folder=folder, settings=settings)

    return with_store(options.store, work)


def _new_folder(work: Path) -> Path:
    """The first of WORK/001, WORK/002, … that is not there: in one that is, a version may lie that
    answers, of this store or of another."""
    return next(
        folder for number in count(1) if not (folder := (work / f"{number:03}").resolve()).exists()
    )


def check_ancestor(recipe: Recipe) -> None:
    """GuildError where what every turn starts from is not there, or the recipe reads no votes."""
    if all(spec.kind != FEEDBACK for spec in recipe.data.sources):
        raise GuildError(
            "this recipe does not learn from votes",
            where="data.sources",
            remedy="Add the source `feedback`.",
        )
    check_base(recipe)


async def what_is_learned(store: Store, options: Options) -> tuple[Taken, Plan, Teaching]:
    """What is there to learn from, how a turn that begins now would, and who teaches it."""
    recipe, learn = load_recipe(find_recipe(options.recipe), options.overrides), options.settled()
    members = options.members or any(spec.train_on_members for spec in recipe.data.sources)
    teachers = teaching(learn.guilds, await store.places.left())
    rows, taken = learnable(await store.snapshot(), teachers, members=members)
    how = plan(options.recipe, options.method, options.overrides, rows, taken, learn.least)
    return taken, how, teachers


def train(options: Options, decision: Decision, watch: Watch) -> Decision:
    """The ancestor learns from all that stands; what is erased meanwhile makes it begin anew."""
    recipe, text = recipe_of(decision)
    folder = Path(decision.folder or options.work)
    least = decision.settings.get("least") or options.settled().least
    read: dict[str, Any] = {
        "learner": decision.id,
        "teaching": Teaching.of(decision.settings),
        "ratings": reads_ratings(recipe),
        "members": any(spec.train_on_members for spec in recipe.data.sources),
    }
    while True:
        if with_store(options.store, lambda store: _was_erased(store, decision)):
            say(options.console, "Something that it learned from was erased: it begins anew.")
            shutil.rmtree(folder, ignore_errors=True)
            with_store(options.store, lambda store: store.decisions.clean(decision.id))
        taken = with_store(options.store, lambda store: take(store, folder, **read))
        check_enough(recipe, taken, least)
        if options.gate and (aside := set_aside(folder, recipe.gate, least)):
            say(
                options.console,
                f"{in_number(aside, 'comparison')} of these teach the gate's judge.",
            )
        with_store(options.store, partial(note_began, decision, taken, folder))
        watch.guard(decision.id)
        try:
            _run(recipe, text, folder, options.console)
            watch.let_go()
        except KeyboardInterrupt:
            watch.let_go()
            if watch.lost or not watch.erased:
                raise
        if not watch.erased:
            with_store(options.store, partial(note_trained, decision, folder, recipe.stages))
        if now := with_store(options.store, lambda store: _register(store, decision, recipe)):
            return now


def recipe_of(decision: Decision) -> tuple[Recipe, str]:
    """The recipe that a turn was begun with, and its text."""
    file = find_recipe(decision.settings["recipe"])
    recipe = load_recipe(file, decision.settings["overrides"])
    recipe = with_members(recipe, decision.settings.get("members", False))
    return recipe, file.read_text(encoding="utf-8")


def _run(recipe: Recipe, text: str, folder: Path, console: Console) -> None:
    from guildgpt.pipeline.run import run

    run(recipe, text, folder, console=console)


async def _register(store: Store, decision: Decision, recipe: Recipe) -> Decision | None:
    """The candidate has a version, with its lineage, and comes to the gate; None if something that
    it learned from was erased: then it does not."""
    if await _was_erased(store, decision):
        return None
    folder = Path(decision.folder or "")
    found = await register(store, str(folder / recipe.stages[-1] / "model"))
    version = found.version
    with suppress(ModelError):  # a base of the Hub is no version
        parent = version_of(locate(recipe.model.base)).id
        itself = Version(version.id, version.name, version.path, version.sha256)
        await store.versions.register(itself, parent_id=parent)
    await store.versions.inherit(version.id, decision.id)
    if await _was_erased(store, decision):
        return None
    if served(await store.releases.history())[-1:] == [version.id]:
        why = "what it learned changed nothing: it is the version that serves"
        return await store.decisions.change(decision.id, state="dropped", why=why)
    return await store.decisions.change(
        decision.id, expected=["training"], state="gate", candidate_id=version.id
    )


def gate(options: Options, decision: Decision, watch: Watch) -> Decision:
    """The candidate is held against who serves: it is dropped, or tried out."""
    recipe, _ = recipe_of(decision)
    if not options.gate:
        off = recipe.gate.model_copy(update={"on": False})
        recipe = recipe.model_copy(update={"gate": off})
    return pass_gate(options.store, decision, recipe, watch, options.console)


async def _was_erased(store: Store, decision: Decision) -> bool:
    """Whether something that it learns from was."""
    now = await store.decisions.by_id(decision.id)
    return now is not None and now.erased_at is not None


def decide(options: Options, decision: Decision) -> Decision:
    """See what the rounds say; where they have said it, ask the operator."""

    async def work(store: Store) -> tuple[Decision, Standing]:
        return await look(store, decision)

    decision, standing = with_store(options.store, work)
    advised = standing.operator_decides and standing.state != "open"
    if decision.state != "preferred" and not advised:
        return decision
    by_itself = options.settled().promote == "by_itself" and not advised
    question = f"{in_words(standing)} Promote {decision.candidate_id}?"
    if not by_itself and not options.agree(question):
        return decision

    async def promoted(store: Store) -> Decision:
        who = await candidate(store, decision.candidate_id, force=advised)
        why = "members prefer it" + ", and it was to answer by itself" * by_itself
        await promote(store, who, "" if advised else why)
        return await store.decisions.by_id(decision.id) or decision

    return with_store(options.store, promoted)


def status(store_url: str) -> dict[str, Any]:
    """Where the circle stands, as plain values."""

    async def work(store: Store) -> dict[str, Any]:
        decision = await store.decisions.current()
        _, taken = learnable(await store.snapshot())
        standing = None
        if decision is not None and decision.state in ("canary", "preferred"):
            decision, standing = await look(store, decision)
        prompts = await store.prompts.all("accepted")
        voted = Electorate.of(await store.voters.all())
        nights = [one for one in await store.log.entries(limit=100) if one.kind in NIGHTS]
        return {
            "night": nights[-1].detail if nights else None,
            "serving": [(one.version_id, one.share) for one in await store.releases.current()],
            "comparisons": taken.comparisons,
            "corrections": taken.corrections,
            "ratings": taken.ratings,
            "left_out": taken.left_out,
            "voters": asdict(voted) | {"says": voted.says},
            "open_rounds": len(await store.rounds.in_state("posting", "open")),
            "prompts": {
                purpose: sum(one.purpose == purpose for one in prompts)
                for purpose in ("train", "decide")
            },
            "decision": decision,
            "standing": standing,
            "erased": [one.id for one in await store.versions.all() if one.erased_at],
        }

    return with_store(store_url, work)
