"""Whose answers meet: a candidate and who serves, two models, or one model's two samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import EngineDied, GuildError
from guildgpt.feedback.records import Decision, Purpose
from guildgpt.feedback.store import Store
from guildgpt.feedback.versions.registering import known
from guildgpt.feedback.versions.versions import KnownVersion
from guildgpt.model.lineage import read_lineage
from guildgpt.model.locate import Located, locate, located_at
from guildgpt.model.version import is_id, name_of
from guildgpt.talk.fleet import Fleet, OpenedModel, open_model

CONTEXT = 2048  # tokens: a prompt of the pool and an answer to it take a few hundred


@dataclass(frozen=True, slots=True)
class Player:
    """A model that answers, and the version that it has to be, if that is known."""

    model: Located
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Contest:
    """One player, whose two answers meet, or two; with the `decision` that their rounds help."""

    players: tuple[Player, ...]
    decision: Decision | None = None

    @property
    def purpose(self) -> Purpose:
        """Which prompts are asked."""
        return "decide" if self.decision else "train"


async def find(
    store: Store, models: Sequence[str] = (), *, on_progress: Callable[[str], None] | None = None
) -> Contest:
    """The contest between the `models`; without any, between a candidate that is being tried and
    who serves, else of who serves with themselves.

    Raises GuildError for a model that is not there, and for one model twice during a canary.
    """
    current = await store.decisions.current()
    canary = current if current and current.state == "canary" else None
    if models:
        players = [await _named(store, one, on_progress) for one in models]
        once = {player.model.gguf.resolve(): player for player in reversed(players)}
        if canary and len(once) == 1:
            raise GuildError(
                f"{models[0]} would meet itself while {canary.candidate_id} is being tried",
                remedy="Without a MODEL the candidate meets who serves: those votes decide.",
            )
        return Contest(tuple(reversed(once.values())))
    if canary:
        ids = (canary.baseline_id or "", canary.candidate_id or "")
        return Contest(tuple([await _version(store, id) for id in ids]), canary)
    serving = await store.releases.current()
    if serving:
        return Contest((await _version(store, serving[0].version_id),))
    return Contest((Player(locate(None, on_progress=on_progress)),))


async def open_fleet(
    store: Store, contest: Contest, at: ServedAt | None = None
) -> tuple[Fleet, tuple[str, str]]:
    """The players' engines, or `at` where they are served, and the two versions that answer. Each
    is registered in the store.

    Raises GuildError where two players are the same model after all, and where a file holds
    another version than it did; and what opening raises.
    """

    async def register(model: OpenedModel, death: EngineDied | None) -> None:
        await store.versions.register(model.version, read_lineage(model.version.path))

    fleet = Fleet(register)
    slots = 3 - len(contest.players)  # two answers are written at once
    try:
        opened = []
        for player in contest.players:
            opening = partial(open_model, player.model, context=CONTEXT, slots=slots, at=at)
            version = await fleet.open(opening)
            if player.expected not in (None, version.id):
                raise GuildError(
                    f"this file is another version now: {version.id}, not {player.expected}",
                    where=player.model.gguf,
                    remedy="Put the one back that was registered, or name the models to vote on.",
                )
            opened.append(version)
        if len({version.sha256 for version in opened}) < len(opened):
            raise GuildError(
                f"{opened[0].name} and {opened[1].name} are the same model",
                remedy="Name it once to vote on two of its answers.",
            )
    except BaseException:
        await fleet.close()
        raise
    return fleet, (opened[0].id, opened[-1].id)


async def _named(store: Store, model: str, on_progress: Callable[[str], None] | None) -> Player:
    """A model by its path, or a version by its id."""
    if is_id(model) and not Path(model).exists():
        return await _version(store, model)
    return Player(locate(model, on_progress=on_progress))


async def _version(store: Store, id: str) -> Player:
    """A registered version, where it lies."""
    version = await known(store, id)
    if not Path(version.path).is_file():
        raise GuildError(
            f"the file of {id} is gone",
            where=version.path,
            remedy="Put it back, or name two models to vote on: `guildgpt vote MODEL_A MODEL_B`.",
        )
    return Player(_where(version), version.id)


def _where(version: KnownVersion) -> Located:
    """The version's file, with the folder that it lies in, unless it was registered without."""
    found = located_at(Path(version.path), version.name)
    if found.folder and version.id.rpartition("@")[0] != name_of(found):
        return replace(found, folder=None)
    return found
