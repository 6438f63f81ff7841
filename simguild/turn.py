"""One turn of the circle on a simulated Discord server: `python -m simguild.turn --taste short`.

The bot and every command of its operator are processes of their own. An admin has rounds held by
`/rounds`; ten members keep a taste to themselves, see what Discord shows them of a round, and vote
by clicking. Sixty rounds teach `guildgpt learn` a candidate, further ones decide on it, and the
operator says yes to what members prefer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from guildgpt.bot.text.sentences import NO_WORDS
from guildgpt.errors import GuildError
from guildgpt.feedback.records import Decision
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from simguild.circle import (
    BEFORE,
    MEMBERS,
    MOST,
    PARAMS,
    judged,
    measured_table,
    paths_of,
    write_both,
)
from simguild.fake import FakeDiscord, FakeMessage
from simguild.journal import Journal
from simguild.members import QUESTIONS
from simguild.person import Person
from simguild.play import FRAMES, Check, checked, show_checks, shown
from simguild.process import BotProcess, guildgpt
from simguild.tastes import TASTES, Taste
from simguild.voting import given_away, miscounted, open_rounds, unsigned, vote

CHANNELS = ("general", "workshop", "library", "kitchen")  # a round in each at the same time
HOUR = 3600.0
PATIENCE = 300.0  # seconds until something counts as hung
MOST_ASKED = 200  # questions until a version with a share of them has answered one
SETTINGS = {
    "temperature": PARAMS.temperature,
    "top_p": PARAMS.top_p,
    "max_tokens": PARAMS.max_tokens,
    "context": 512,
    "slots": 8,
}


@dataclass
class Turn:
    """A guild with an admin and ten members, the bot in it, and the operator's command line."""

    fake: FakeDiscord
    folder: Path
    taste: Taste
    console: Console
    learning: Sequence[str] = ()  # what the operator adds to `guildgpt learn`
    settings: Mapping[str, object] = field(default_factory=lambda: SETTINGS)
    seed: int = 0
    haste: float = 1.0
    journal: Journal = field(default_factory=Journal)

    def __post_init__(self) -> None:
        self.bot = BotProcess(self.fake, self.folder, settings=self.settings)
        guild = self.fake.add_guild("the simulated guild")
        channels = [guild.add_channel(name) for name in CHANNELS]
        admin = self.fake.add_user("admin")
        guild.join(admin, admin=True)
        users = [self.fake.add_user(f"member{number}") for number in range(MEMBERS)]
        self.admins = [  # one person, who goes from channel to channel
            Person(self.fake, admin, channel, self.journal, Random(self.seed), patience=PATIENCE)
            for channel in channels
        ]
        self.members = []
        for user, home in zip(users, cycle(channels)):
            guild.join(user)
            chance = Random(f"{self.seed} {user.name}")
            self.members.append(
                Person(
                    self.fake, user, home, self.journal, chance, haste=self.haste, patience=PATIENCE
                )
            )
        self.done = 0  # rounds

    @property
    def footer(self) -> Text:
        """How far it is."""
        votes = f" · {len(self.journal.noted)} votes" if self.journal.pressed else ""
        return Text(f" {self.done} rounds{votes}", style="bold")

    # What people do

    async def hold(self, count: int, *, deciding: bool = False) -> None:
        """So many rounds, in all channels at once; fewer where they have decided."""
        left = iter(range(count))

        async def in_channel(admin: Person) -> None:
            for _ in left:
                await self._round(admin)
                self.done += 1
                if deciding and (await self.decision()).state != "canary":
                    return

        await asyncio.gather(*map(in_channel, self.admins))
        await self._an_hour_passes()

    async def _round(self, admin: Person) -> None:
        """The admin wants one, which closes the one before; all vote."""
        before = open_rounds(admin.home)
        said = await admin.command("rounds", when="now", hours=1)

        def new() -> list[FakeMessage]:
            return [one for one in open_rounds(admin.home) if one not in before]

        found = await admin.wait(new)
        if not found:
            told = [one.content for one in said.responses]
            raise GuildError(f"no round came; {told}\n{self.bot.tail()}")
        await asyncio.gather(
            *(vote(one, found[0], self.taste.of(at)) for at, one in enumerate(self.members))
        )

    async def _an_hour_passes(self) -> None:
        """Then the rounds close that are open."""
        self.fake.world.ahead += HOUR + 2
        admin = self.admins[0]
        await admin.command("rounds")  # the bot hears what time it is
        homes = [one.home for one in self.admins]
        await admin.wait(lambda: not any(map(open_rounds, homes)))
        async with self.store() as store:
            while await store.rounds.in_state("open", "closing"):
                await asyncio.sleep(0.05)

    async def ask(self, member: Person) -> str | None:
        """A member asks until there is an answer in words; the version that gave it."""
        for question in member.chance.sample(QUESTIONS, len(QUESTIONS)):
            asked = await member.ask(question)
            answer = await member.read(asked)
            if answer is None:
                raise GuildError(f"{asked.fault}\n{self.bot.tail()}")
            if answer.content != NO_WORDS:
                break
            asked.expects = "words"  # a small model has no answer at times
        else:
            raise GuildError(f"it has no answer to any question\n{self.bot.tail()}")
        async with self.store() as store:
            while not (kept := await store.conversations.message_by_discord_id(answer.id)):
                await asyncio.sleep(0.05)
        return kept.version_id

    async def until_answered_by(self, version: str) -> None:
        """Members ask, one after the other, until it answers one of them."""
        for member in islice(cycle(self.members), MOST_ASKED):
            if await self.ask(member) == version:
                return
            await asyncio.sleep(0.5)
        raise GuildError(f"{version} never answered\n{self.bot.tail()}")

    async def followed(self) -> None:
        """Until the bot has taken up the newest release."""
        async with self.store() as store:
            number = (await store.releases.current())[0].number
        taken_up = f" release={number}\n"
        if not await self.admins[0].wait(lambda: taken_up in self.bot.log.read_text()):
            raise GuildError(f"release {number} was not taken up\n{self.bot.tail()}")

    # What the operator does

    async def begin(self, model: str, prompts: Sequence[str]) -> str:
        """A version is put into service, prompts into the pool, and the bot is started; the version
        that answers."""
        pool = self.folder / "prompts.jsonl"
        rows = [json.dumps({"prompt": prompt, "licence": "CC0-1.0"}) for prompt in prompts]
        pool.write_text("\n".join(rows), encoding="utf-8")
        await self.operator("versions", "serve", model)
        await self.operator("feedback", "prompts", "add", str(pool))
        await self.bot.start(PATIENCE)
        async with self.store() as store:
            [serving] = await store.releases.current()
        return serving.version_id

    async def learn(self) -> Decision:
        """`guildgpt learn`; to whatever it asks the operator says yes."""
        out = str(self.folder / "learn")
        await self.operator("learn", "--yes", "--out", out, *self.learning)
        return await self.decision()

    async def operator(self, *command: str) -> str:
        """A command in a process of its own, on the bot's store."""
        said = await guildgpt(*command, "--store", self.bot.store)
        self.console.print(Rule(style="green"))
        self.console.print(Text(f"$ guildgpt {' '.join(command)}", style="bold"), soft_wrap=True)
        self.console.print(Text(said), soft_wrap=True)
        return said

    # What there is to see

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The store, opened a second time."""
        async with await Store.open(self.bot.store, key=member_key(self.bot.store)) as opened:
            yield opened

    async def decision(self) -> Decision:
        """The newest one."""
        async with self.store() as store:
            return (await store.decisions.all())[0]

    async def end(self) -> list[Check]:
        """The bot is stopped; what was looked at then, and what was found wrong."""
        status = await self.bot.stop()
        async with self.store() as store:
            versions = [one.id for one in await store.versions.all()]
            miscounts = await miscounted(self.fake, self.journal, store)
            nobodys = await unsigned(store)
        votes = self.journal.pressed
        refused = [f"{one.who.name} was told {one.told!r}" for one in votes if not one.noted]
        told = given_away(self.fake, self.journal, versions)
        return [
            *await checked(self.fake, self.journal, self.bot, status),
            Check(f"{len(votes)} votes and changed votes, all of them taken", refused),
            Check("of each member the last one counts, for the answer that they saw", miscounts),
            Check("every answer has the version that wrote it", nobodys),
            Check("nothing on Discord names a version", told),
        ]


@asynccontextmanager
async def simulated(
    folder: Path, taste: Taste, console: Console, **more: Any
) -> AsyncIterator[Turn]:
    """A guild that one can watch; `more` are fields of `Turn`. No process of it is left."""
    async with FakeDiscord() as fake:
        turn = Turn(fake, folder, taste, console, **more)
        with shown(console, fake, turn.journal, lambda: turn.footer) as show:
            painting = asyncio.create_task(_paint(show))
            try:
                yield turn
            finally:
                painting.cancel()
                show()
                await turn.bot.kill()


async def _paint(show: Callable[[], None]) -> NoReturn:
    while True:
        show()
        await asyncio.sleep(1 / FRAMES)


async def take_turn(
    turn: Turn, model: str, prompts: Sequence[str], before: int = BEFORE, most: int = MOST
) -> tuple[str, Decision]:
    """Rounds to learn from, a candidate, rounds to decide in, the operator's yes. Which version
    served before, and what was decided."""
    old = await turn.begin(model, prompts)
    await turn.ask(turn.members[0])
    await turn.hold(before)
    decision = await turn.learn()
    if decision.state == "canary":
        await turn.until_answered_by(decision.candidate_id or "")
        await turn.hold(most, deciding=True)
        decision = await turn.decision()
    if decision.state == "preferred":
        decision = await turn.learn()
    if decision.state != "canary":
        await turn.followed()
        answering = decision.candidate_id if decision.state == "promoted" else old
        if (version := await turn.ask(turn.members[1])) != answering:
            raise GuildError(f"{version} answers in place of {answering}")
    return old, decision


def main() -> None:
    """Take the turn, and say what came out; exit with status 1 if anything broke."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--taste", choices=TASTES, default="short")
    parser.add_argument("--model", default="runs/starter/sft/model", help="the ancestor")
    parser.add_argument("--out", type=Path, default=Path("runs/guild-turn"), help="a new folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--before", type=int, default=BEFORE, help="rounds to learn from")
    parser.add_argument("--most", type=int, default=MOST, help="rounds to decide in at most")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    console = Console()
    try:
        broken = asyncio.run(_play(console, given))
    except GuildError as error:
        console.print(Text(str(error), style="red"))
        raise SystemExit(1) from None
    raise SystemExit(1 if broken else 0)


async def _play(console: Console, given: argparse.Namespace) -> list[str]:
    """The guild on the screen; then its checks, and both versions under the true taste."""
    taste, folder = TASTES[given.taste], given.out.resolve()
    if folder.exists():
        raise GuildError(f"{folder} is there already", remedy="Name a new folder: --out FOLDER.")
    folder.mkdir(parents=True)
    model = given.model if given.model == "starter" else str(Path(given.model).resolve())
    learning = [f"model.base={model}", f"seed={given.seed}", *given.overrides]
    learning = [word for one in learning for word in ("--set", one)]
    prompts = [one.prompt for one in taste.prompts()]
    more = {"learning": learning, "seed": given.seed}
    async with simulated(folder, taste, console, **more) as turn:
        old, decision = await take_turn(turn, model, prompts, given.before, given.most)
        checks = await turn.end()
    broken = show_checks(console, turn.journal, checks, turn.bot)
    if decision.candidate_id:
        ids = (old, decision.candidate_id)
        said = await write_both(ids, await paths_of(turn.bot.store, ids), taste, given.seed)
        for name, own in taste.parts(given.taste):
            console.print(measured_table(ids, name, judged(said, own)))
    console.print(f"{decision.state}: {decision.why}")
    return broken


if __name__ == "__main__":
    main()
