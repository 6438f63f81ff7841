"""The scripted members, what their journal finds wrong, and how a guild is shown."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import uuid
from pathlib import Path

from rich.console import Console
from sim_client import Scene

from guildgpt.bot.answers.buttons import Action, encode
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from simguild import members
from simguild.fake import FakeDiscord, FakeMessage, Interaction, User, messages
from simguild.fake.server import PATIENCE
from simguild.journal import Journal, Pressed, finished, missing_opinions, percentile
from simguild.person import Person
from simguild.process import BotProcess
from simguild.screen import Painter, Screen, Transcript

ID = str(uuid.UUID(int=7, version=4))


def person(fake: FakeDiscord, scene: Scene, user: User | None = None) -> Person:
    return Person(
        fake,
        user or scene.newcomer,
        scene.channel,
        Journal(),
        random.Random(0),
        haste=20,
        patience=PATIENCE,
    )


def bot_writes(
    fake: FakeDiscord, to: FakeMessage, text: str = "Tea.", *, kind: str = "up"
) -> FakeMessage:
    """What a bot would have sent; `kind` is its button."""
    button = {"type": 2, "style": 2, "label": kind, "custom_id": encode(Action(kind, ID))}  # type: ignore[arg-type]
    message = FakeMessage(
        fake.world.new_id(),
        to.channel,
        fake.bot,
        text,
        fake.world.clock(),
        reference=to,
        components=[{"type": 1, "components": [button]}],
    )
    return messages.post(fake.world, message, ping_reply=False)


async def test_the_journal_knows_a_lost_a_double_and_an_unfinished_answer(
    fake: FakeDiscord, scene: Scene
) -> None:
    me = person(fake, scene)
    asked = await me.ask("tea or coffee?")
    assert asked.message is not None
    assert asked.message.content == f"{fake.bot.mention} tea or coffee?"
    assert asked.acknowledged_ms is None
    assert asked.fault == "lost: newcomer wrote 'tea or coffee?' in general"
    assert me.journal.faults == [asked.fault]

    answer = bot_writes(fake, asked.message, "Te", kind="stop")
    assert not finished(answer)
    assert asked.fault.startswith("unfinished: ")
    assert await me.watch(asked) is answer
    [row] = answer.components
    answer.components = []
    assert asked.fault.startswith("put off with 'Te': ")
    row["components"][0]["custom_id"] = encode(Action("again", ID))
    answer.components = [row]
    assert asked.fault == ""
    assert await me.read(asked) is answer
    assert asked.seen is not None
    assert asked.acknowledged_ms is not None

    bot_writes(fake, asked.message)
    assert asked.fault.startswith("2 answers: ")


async def test_what_was_taken_back_and_what_was_not_meant_for_the_bot(
    fake: FakeDiscord, scene: Scene
) -> None:
    me = person(fake, scene)
    taken_back = await me.ask("no, wait", expects="at most one")
    silent = await me.ask("@everyone hello", mention=False, expects="silence")
    assert me.journal.faults == []
    assert silent.message is not None
    bot_writes(fake, silent.message)
    assert [fault[:9] for fault in me.journal.faults] == ["1 answers"]
    assert taken_back.fault == ""


def click(fake: FakeDiscord, scene: Scene, kind: str, told: str) -> Pressed:
    """A click that the bot answered with these words."""
    source = FakeMessage(1, scene.channel, fake.bot, "Tea.", 0.0)
    action = Action(kind, ID)  # type: ignore[arg-type]
    interaction = Interaction(2, "t", 3, scene.newcomer, scene.channel, {}, 0.0)
    interaction.sent.append(FakeMessage(3, scene.channel, fake.bot, told, 0.0, flags=64))
    return Pressed(scene.newcomer, source, action, 0.0, interaction)


async def test_an_acknowledged_vote_that_is_not_in_the_store_is_found(
    fake: FakeDiscord, scene: Scene, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'feedback.db'}"
    async with await Store.open(url, key=member_key(url)) as store:
        member = await store.members.of_user(scene.newcomer.id)
        conversation = await store.conversations.start("chain")
        question = await store.conversations.add_message(
            conversation_id=conversation, parent_id=None, role="user", text="tea or coffee?"
        )
        await store.conversations.add_message(
            conversation_id=conversation,
            parent_id=question.id,
            role="assistant",
            text="Tea.",
            id=ID,
        )
        up = click(fake, scene, "up", "Thank you, noted: 👍")
        assert up.noted
        journal = Journal(pressed=[up, click(fake, scene, "up", "That answer is too old")])
        [missing] = await missing_opinions(journal, store)
        assert missing.startswith("newcomer was told")
        await store.ratings.add(ID, member.id, 1)
        assert await missing_opinions(journal, store) == []
        journal.pressed.append(up)  # twice acknowledged, once kept
        assert len(await missing_opinions(journal, store)) == 1
        journal.forgotten.add(scene.newcomer)
        assert await missing_opinions(journal, store) == []


def test_percentiles() -> None:
    assert percentile([3, 1, 2], 50) == 2
    assert percentile(range(1, 101), 99) == 99
    assert percentile([5], 99) == 5
    assert percentile([], 50) != percentile([], 50)  # nan


async def test_a_guild_on_the_terminal(fake: FakeDiscord, scene: Scene) -> None:
    scene.guild.add_channel("workshop")
    me = person(fake, scene)
    asked = await me.ask("tea or\x1b[31m coffee?", attachments=[("a.txt", b"x", "text/plain")])
    assert asked.message is not None
    bot_writes(fake, asked.message, "Te", kind="stop")
    screen = Screen(fake, me.journal, Painter(fake))
    screen.footer = "the footer"
    shown = drawn(screen)
    assert "# general" in shown
    assert "# workshop" in shown
    assert "newcomer  @guildgpt tea or\N{REPLACEMENT CHARACTER}[31m" in shown
    assert "a.txt" in shown
    assert "guildgpt → newcomer  Te ▌" in shown
    assert "⏹ Stop" in shown
    assert "the footer" in shown
    assert len(shown.splitlines()) == 20

    asked.answers[0].components = []
    direct = fake.open_dm(scene.newcomer)
    await me.ask("psst", where=direct, mention=False)
    me.journal.pressed.append(click(fake, scene, "up", "noted!"))
    shown = drawn(screen)
    assert "▌" not in shown
    assert "@ direct: newcomer" in shown  # took the column of the silent workshop
    assert "# workshop" not in shown
    assert "only newcomer reads: noted!" in shown


async def test_a_guild_line_after_line(fake: FakeDiscord, scene: Scene) -> None:
    me = person(fake, scene)
    file = io.StringIO()
    transcript = Transcript(Console(file=file, width=80), fake, me.journal, Painter(fake))
    asked = await me.ask("tea or coffee?")
    assert asked.message is not None
    answer = bot_writes(fake, asked.message, "Te", kind="stop")
    me.note("left the guild")
    transcript.tell()
    told = [line[9:] for line in file.getvalue().splitlines()]
    assert told == [
        "# general  newcomer  @guildgpt tea or coffee?",
        "# general  newcomer left the guild",
    ]
    answer.content, answer.components = "Tea, always. " * 50, []
    transcript.tell()
    transcript.tell()
    [line] = file.getvalue().splitlines()[2:]
    assert "guildgpt → newcomer  Tea, always." in line
    assert line.endswith("… (650 characters)")


def drawn(screen: Screen) -> str:
    """What a terminal of 100 × 20 shows."""
    console = Console(
        file=io.StringIO(), width=100, height=20, force_terminal=True, color_system=None
    )
    with console.capture() as capture:
        console.print(screen)
    return capture.get().replace("\N{NO-BREAK SPACE}", " ")  # they keep a button in one line


async def test_everyone_by_turns(fake: FakeDiscord, scene: Scene, tmp_path: Path) -> None:
    """Every script against the bot itself, in a process of its own."""
    bot = BotProcess(
        fake,
        tmp_path,
        engine="paced:200",
        settings={"message_content_intent": "true", "workers": 16, "questions_per_user": 60},
    )
    journal = Journal()
    scripts = {*members.USUAL, *members.RARE}
    everyone = []
    # Each channel has a budget of its own: in one alone they would mostly wait for each other.
    places = [scene.channel, *(scene.guild.add_channel(name) for name in ("random", "help"))]
    for number, script in enumerate(sorted(scripts, key=lambda one: one.__name__)):
        user = fake.add_user(script.__name__)
        scene.guild.join(user)
        one = person(fake, scene, user)
        one.home = places[number % len(places)]
        one.journal = journal
        everyone.append((one, script))
    fake.interaction_seconds = PATIENCE  # the machine may be busy with other things
    await bot.start()
    try:
        await members_play(everyone)
        with contextlib.suppress(AssertionError):
            await fake.until(lambda: not journal.faults)
    finally:
        status = await bot.stop()
    assert status == 0, bot.tail()
    assert journal.faults == []
    assert fake.violations == []
    assert [one.user.name for one in journal.interactions if one.failed] == []
    assert len(journal.asked) > 20
    did = {(one.who.name, one.what) for one in journal.happened}
    assert {("regretful", "deleted the question"), ("leaver", "left the guild")} <= did
    assert ("private", "pressed Delete everything") in did
    async with await Store.open(bot.store, key=member_key(bot.store)) as store:
        assert await missing_opinions(journal, store) == []
        snapshot = await store.snapshot()
    assert len(snapshot.votes) >= 3
    assert not any(message.name == "private" for message in snapshot.messages)


async def members_play(everyone: list[tuple[Person, members.Script]]) -> None:
    async with asyncio.timeout(4 * PATIENCE), asyncio.TaskGroup() as group:
        for one, script in everyone:
            group.create_task(script(one))  # type: ignore[arg-type]
