"""Rounds and rankings: what is shown next, and the votes on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field

from guildgpt.engines.engine import SamplingParams
from guildgpt.errors import EngineError, GuildError, ModelError, RecordGone, RoundClosed, StoreError
from guildgpt.feedback.records import Account, Ballots, Decision, RoundState, Verdict, Vote
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.blind import Given, KeepsNothing, cast, is_secret
from guildgpt.feedback.voting.seen import NotSeen
from guildgpt.serve.asking import Asking
from guildgpt.serve.problems import Problem
from guildgpt.serve.web.rendering import Rendering
from guildgpt.serve.web.who import Opened, SignedIn
from guildgpt.talk.asked_prompts import NoPrompt
from guildgpt.talk.moderation import moderators
from guildgpt.talk.shared_rounds import AllVoted, SharedRounds, Shown

MAX_TOKENS = 256  # of an answer in a round: two have to be read side by side
LOOK_SECONDS = 60.0  # between looks whether a round is over
REMEMBERED = 30  # of somebody's own rounds, which they can look up
Said = Literal["left", "right", "ranked", "tie", "both_bad", "skip"]
Id = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[\w-]+$")]
Place = Annotated[int, Field(ge=0, le=4)]
SIDES: dict[str, tuple[int, ...]] = {"left": (0, 1), "right": (1, 0)}


class Ballot(BaseModel):
    """A vote as the page sends it; the same `id` again is the same vote. `ranking` has places as
    they are shown, the best first, equals together."""

    model_config = ConfigDict(strict=True)

    id: Id
    comparison: Id
    ticket: Annotated[str, Field(max_length=200)]
    verdict: Said
    ranking: Annotated[list[Place | list[Place]], Field(max_length=5)] = []


@dataclass
class Tables:
    """The rounds of a server, over the store that is open now."""

    asking: Asking
    usual: SamplingParams
    rendering: Rendering
    _now: dict[int, SharedRounds] = field(default_factory=dict)

    def over(self, store: Store) -> SharedRounds:
        """The rounds in that store."""
        if id(store) not in self._now:
            params = replace(self.usual, max_tokens=MAX_TOKENS)
            asking = self.asking
            rounds = SharedRounds(store, asking.fleet, asking.queue, params, moderators())
            self._now = {id(store): rounds}
        return self._now[id(store)]

    async def keep(self, app: FastAPI) -> None:
        """Close rounds whose time is over, though nobody comes by; for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if app.state.store:
                with suppress(StoreError):  # whoever votes is told; it is tried again
                    await self.over(app.state.store).settle()


def router(tables: Tables) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/rounds/next")
    async def next_round(
        account: SignedIn, store: Opened, answers: int = 2, without: str = ""
    ) -> dict[str, Any]:
        """A round that they have not voted on; `retry` while it is being written."""
        if not 2 <= answers <= 5:
            raise Problem(400, "a round has two answers, a ranking three to five", param="answers")
        seen = [one for one in without.split(",") if one]
        try:
            shown = await tables.over(store).next(account.member_id, count=answers, without=seen)
        except Exception as error:
            raise told(error) from error
        html = await asyncio.to_thread(_html, tables.rendering, shown) if shown else []
        return {"round": shown and _round(shown, html), "retry": shown is None}

    @routes.post("/votes")
    async def vote(ballot: Ballot, account: SignedIn, store: Opened) -> dict[str, Any]:
        """Note a vote. It stands in the store when this is answered."""
        verdict: Verdict = "ranked" if ballot.verdict in SIDES else ballot.verdict  # type: ignore[assignment]
        ranking: Sequence[int | list[int]] = SIDES.get(ballot.verdict, ballot.ranking)
        given = Given(ballot.id, ballot.comparison, ballot.ticket, verdict, ranking)
        try:
            await cast(store, account.member_id, given)
        except Exception as error:
            raise told(error) from error
        return {"noted": True}

    @routes.get("/rounds/mine")
    async def mine(account: SignedIn, store: Opened) -> list[dict[str, Any]]:
        """What they said, the last first; and who wrote which, where that may be told."""
        await tables.over(store).settle()
        states: tuple[RoundState, ...] = ("open", "closed")
        held = await store.rounds.ballots(member_id=account.member_id, states=states)
        current = await store.decisions.current()
        voted = [(one, vote) for one in held if (vote := _of(one, account))]
        voted.sort(key=lambda pair: pair[1].created_at, reverse=True)
        return [await _voted(store, account, *pair, current) for pair in voted[:REMEMBERED]]

    return routes


def told(error: Exception) -> Exception:
    """What is wrong with a vote, or with what is to be voted on, in words for who votes."""
    match error:
        case AllVoted():
            return Problem(409, _words(error), code="all_voted")
        case NoPrompt():
            what = "the pool has no prompt to ask; the operator can put some in"
            return Problem(409, what, code="no_prompt")
        case RoundClosed():
            what = "this round has closed meanwhile: what you said before, if anything, stands"
            return Problem(409, what, code="closed")
        case NotSeen() | KeepsNothing():
            return Problem(403, _words(error), code="not_yours")
        case RecordGone():
            return Problem(410, _words(error), code="gone")
        case ValueError():
            return Problem(400, str(error), code="ranking")
        case EngineError() | ModelError():
            return Problem(503, "the models cannot answer now: try again soon", code="model")
        case GuildError() if type(error) is GuildError:  # all answers were the same
            return Problem(409, f"{error.what}: there is nothing to choose between", code="same")
    return error


def _words(error: GuildError) -> str:
    return f"{error.what}. {error.remedy}" if error.remedy else error.what


def _html(rendering: Rendering, shown: Shown) -> list[str]:
    return [rendering.html(text) for text in shown.answers]


def _round(shown: Shown, html: Sequence[str]) -> dict[str, Any]:
    """A round for the page. Nothing in it says who wrote what."""
    return {
        "id": shown.round.id,
        "comparison": shown.round.comparison_id,
        "ticket": shown.ticket,
        "decides": shown.round.decision_id is not None,
        "alone": shown.round.place == "terminal",
        "prompt": shown.prompt.text,
        "credit": shown.prompt.credit,
        "answers": [
            {"text": text, "html": made, "cut": cut}
            for text, made, cut in zip(shown.answers, html, shown.cut, strict=True)
        ],
    }


def _of(held: Ballots, account: Account) -> Vote | None:
    return next((vote for vote in held.votes if vote.member_id == account.member_id), None)


async def _voted(
    store: Store, account: Account, held: Ballots, vote: Vote, current: Decision | None
) -> dict[str, Any]:
    """A round that somebody voted on, as they look it up."""
    order = store.seen.order(held.round.comparison_id, account.member_id, len(held.versions))
    place = {position: shown for shown, position in enumerate(order)}
    prompt = await store.prompts.by_id(held.round.prompt_id)
    secret = held.round.state == "open" or is_secret(held.versions, current)
    return {
        "id": held.round.id,
        "prompt": prompt.text if prompt else "",
        "at": vote.created_at.isoformat(),
        "open": held.round.state == "open",
        "verdict": vote.verdict,
        "ranking": [
            [place[position] for position in ((one,) if isinstance(one, int) else one)]
            for one in vote.ranking
        ],
        "voters": sum(other.verdict != "skip" for other in held.votes),
        "decides": held.round.decision_id is not None,
        "versions": None if secret else [held.versions[position] for position in order],
    }
