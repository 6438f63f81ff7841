"""Commands, buttons and modals, as discord.py answers them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import discord
import pytest
from discord import app_commands
from sim_client import Bot, Scene, running

from simguild.fake import FakeDiscord, Interaction, Permission, Refused


class Vote(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"vote:(?P<way>\w+)"):
    """A button that works after a restart."""

    def __init__(self, way: str):
        super().__init__(discord.ui.Button(label=way, custom_id=f"vote:{way}"))
        self.way = way

    @classmethod
    async def from_custom_id(cls, interaction: Any, item: Any, match: Any) -> Vote:
        return cls(match["way"])

    async def callback(self, interaction: Any) -> None:
        if self.way == "why":
            await interaction.response.send_modal(Why())
        elif self.way == "edit":
            await interaction.response.edit_message(content="edited")
        elif self.way == "later":
            await interaction.response.defer()
            await interaction.edit_original_response(content="edited later")
        else:
            await interaction.response.send_message(f"you voted {self.way}", ephemeral=True)


class Why(discord.ui.Modal, title="Why?"):
    """Asks for a reason."""

    reason: discord.ui.TextInput[Why] = discord.ui.TextInput(
        label="Reason", custom_id="reason", max_length=20
    )

    async def on_submit(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message(f"because {self.reason.value}", ephemeral=True)


def buttons(*ways: str) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for way in ways:
        view.add_item(Vote(way))
    return view


class Commander(Bot):
    """Has a few commands."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.calls: list[discord.Interaction] = []

        @self.tree.command(description="Ask")
        async def ask(interaction: discord.Interaction, question: str, times: int = 1) -> None:
            await interaction.response.defer(thinking=True)
            await interaction.followup.send(f"{question}! " * times, view=buttons("up", "down"))
            await interaction.followup.send("and more", wait=True)

        @self.tree.command(description="Answers only you")
        async def whisper(interaction: discord.Interaction, to: discord.Member) -> None:
            await interaction.response.send_message(f"psst, {to.name}", ephemeral=True)

        @self.tree.command(description="Keeps the call for the test")
        async def keep(interaction: discord.Interaction) -> None:
            self.calls.append(interaction)

        @self.tree.command(description="Admins only")
        @app_commands.default_permissions(manage_guild=True)
        @app_commands.guild_only()
        async def system(interaction: discord.Interaction) -> None:
            await interaction.response.send_message("done", ephemeral=True)

        group = app_commands.Group(name="settings", description="Settings")

        @group.command(description="Where it talks")
        async def channel(interaction: discord.Interaction, where: discord.TextChannel) -> None:
            await interaction.response.send_message(f"in {where.name}")

        self.tree.add_command(group)

        @self.tree.context_menu(name="Ask about this")
        async def about(interaction: discord.Interaction, message: discord.Message) -> None:
            await interaction.response.send_message(f"about {message.content!r}")

    async def setup_hook(self) -> None:
        self.add_dynamic_items(Vote)
        await self.tree.sync()


@pytest.fixture
async def commander(fake: FakeDiscord, scene: Scene) -> AsyncIterator[Commander]:
    async with running(fake, Commander()) as client:
        yield client


async def test_a_slash_command_deferred_and_followed_up(
    fake: FakeDiscord, scene: Scene, commander: Commander
) -> None:
    call = await fake.slash(scene.newcomer, scene.channel, "ask", {"question": "why", "times": 2})
    assert call.acknowledged_ms is not None
    assert 0 < call.acknowledged_ms < 3000
    await fake.until(lambda: len(call.responses) == 2)
    answer, more = call.responses
    assert answer is call.message
    assert (answer.content, more.content) == ("why! why!", "and more")
    assert not answer.loading
    assert [part["custom_id"] for part in answer.buttons] == ["vote:up", "vote:down"]
    assert more.reference is answer
    assert scene.channel.messages == [answer, more]
    assert not call.failed
    fetched = await commander.channel(scene.channel).fetch_message(answer.id)
    assert fetched.interaction_metadata is not None
    assert fetched.interaction_metadata.user.id == scene.newcomer.id
    assert fake.violations == []


async def test_thinking_is_no_response_yet(
    fake: FakeDiscord, scene: Scene, commander: Commander
) -> None:
    call = asyncio.create_task(fake.slash(scene.newcomer, scene.channel, "keep"))
    kept = await fake.until(lambda: commander.calls[0])
    await kept.response.defer(ephemeral=True, thinking=True)
    done = await call
    assert done.message is not None
    assert done.message.loading
    assert done.responses == []
    await kept.edit_original_response(content="thought")
    assert [one.content for one in done.responses] == ["thought"]
    assert done.message.ephemeral
    assert scene.channel.messages == []
    await kept.delete_original_response()
    assert done.message.deleted
    with pytest.raises(discord.NotFound):
        await kept.edit_original_response(content="again")


async def test_options_menus_and_subcommands(
    fake: FakeDiscord, scene: Scene, commander: Commander
) -> None:
    call = await fake.slash(scene.teacher, scene.channel, "whisper", {"to": scene.newcomer})
    [answer] = call.responses
    assert (answer.content, answer.ephemeral) == ("psst, newcomer", True)
    assert scene.channel.messages == []

    call = await fake.slash(
        scene.teacher, scene.channel, "settings channel", {"where": scene.channel}
    )
    assert call.responses[0].content == "in general"

    said = await fake.say(scene.newcomer, scene.channel, "tea is ready")
    call = await fake.context_menu(scene.teacher, scene.channel, "Ask about this", said)
    assert call.responses[0].content == "about 'tea is ready'"

    call = await fake.slash(
        scene.newcomer, fake.open_dm(scene.newcomer), "ask", {"question": "here"}
    )
    await fake.until(lambda: call.responses[0].content == "here!")


async def test_what_people_cannot_call(
    fake: FakeDiscord, scene: Scene, commander: Commander
) -> None:
    ask = {"question": "x"}
    tries: list[Callable[[], Any]] = [
        lambda: fake.slash(scene.newcomer, scene.channel, "nothing"),
        lambda: fake.slash(scene.newcomer, scene.channel, "ask"),
        lambda: fake.slash(scene.newcomer, scene.channel, "ask", {"question": 3}),
        lambda: fake.slash(scene.newcomer, scene.channel, "ask", ask | {"times": "3"}),
        lambda: fake.slash(scene.newcomer, scene.channel, "ask", ask | {"more": 3}),
        lambda: fake.slash(scene.newcomer, scene.channel, "settings"),
        lambda: fake.slash(scene.newcomer, scene.channel, "settings nothing"),
        lambda: fake.slash(scene.newcomer, scene.channel, "system"),
        lambda: fake.slash(scene.teacher, fake.open_dm(scene.teacher), "system"),
        lambda: fake.slash(fake.add_user("stranger"), scene.channel, "ask", ask),
    ]
    for attempt in tries:
        with pytest.raises(Refused):
            await attempt()
    done = await fake.slash(scene.teacher, scene.channel, "system")
    assert done.responses[0].content == "done"
    scene.channel.deny(scene.guild.everyone, Permission.USE_APPLICATION_COMMANDS)
    with pytest.raises(Refused):
        await fake.slash(scene.newcomer, scene.channel, "ask", ask)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "Ask"}, "name"),
        ({"name": "a" * 33}, "name"),
        ({"name": "two words"}, "name"),
        ({"description": ""}, "description"),
        ({"description": "d" * 101}, "description"),
        ({"options": [{"type": 3, "name": "o", "description": "o"}] * 26}, "options"),
        ({"options": [{"type": 3, "name": "o", "description": "o"}] * 2}, "options"),
        ({"options": [{"type": 3, "name": "O", "description": "o"}]}, "options"),
        ({"options": [{"type": 99, "name": "o", "description": "o"}]}, "options"),
        (
            {
                "options": [
                    {"type": 3, "name": "a", "description": "a"},
                    {"type": 3, "name": "b", "description": "b", "required": True},
                ]
            },
            "options",
        ),
        ({"type": 3, "name": "Menu", "description": "no"}, "description"),
    ],
)
async def test_commands_that_discord_does_not_take(
    fake: FakeDiscord, scene: Scene, commander: Commander, change: dict[str, Any], what: str
) -> None:
    body = {"name": "ask", "description": "Ask", "type": 1, **change}
    with pytest.raises(discord.HTTPException) as refusal:
        await commander.http.bulk_upsert_global_commands(fake.application_id, [body])
    assert refusal.value.code == 50035
    assert f"In 0.{what}" in str(refusal.value)
    assert len(fake.violations) == 1


async def test_guild_commands_and_ids_that_stay(
    fake: FakeDiscord, scene: Scene, commander: Commander
) -> None:
    before = {command.name: command.id for command in await commander.tree.fetch_commands()}
    await commander.tree.sync()
    assert before == {command.name: command.id for command in await commander.tree.fetch_commands()}
    body = {"name": "local", "description": "Only here", "type": 1}
    guild_id = scene.guild.id
    await commander.http.bulk_upsert_guild_commands(fake.application_id, guild_id, [body])
    await fake.slash(scene.newcomer, scene.channel, "local", wait=False)
    with pytest.raises(Refused):
        await fake.slash(scene.newcomer, fake.open_dm(scene.newcomer), "local", wait=False)
    twice = [body, body]
    with pytest.raises(discord.HTTPException) as refusal:
        await commander.http.bulk_upsert_guild_commands(fake.application_id, guild_id, twice)
    assert "must be unique" in str(refusal.value)


async def test_buttons_work_after_a_restart(fake: FakeDiscord, scene: Scene) -> None:
    async with running(fake, Commander()) as client:
        ways = ("up", "why", "edit", "later")
        await client.channel(scene.channel).send("vote!", view=buttons(*ways))
    [message] = scene.channel.messages
    async with running(fake, Commander()):
        click = await fake.click(scene.newcomer, message, "vote:up")
        assert [one.content for one in click.responses] == ["you voted up"]
        assert scene.channel.messages == [message]

        click = await fake.click(scene.newcomer, message, "vote:edit")
        assert click.message is message
        assert message.content == "edited"
        assert click.responses == []

        await fake.click(scene.newcomer, message, "vote:later")
        await fake.until(lambda: message.content == "edited later")
    assert fake.violations == []


async def test_a_modal(fake: FakeDiscord, scene: Scene, commander: Commander) -> None:
    await commander.channel(scene.channel).send("vote!", view=buttons("why"))
    [message] = scene.channel.messages
    click = await fake.click(scene.newcomer, message, "vote:why")
    assert click.modal is not None
    assert click.modal["title"] == "Why?"
    for values in ({"reason": ""}, {"reason": "x" * 21}, {"reason": "x", "more": "y"}):
        with pytest.raises(Refused):
            await fake.submit(scene.newcomer, click, values)
    with pytest.raises(Refused):
        await fake.submit(scene.teacher, click, {"reason": "not mine"})
    sent = await fake.submit(scene.newcomer, click, {"reason": "it rhymes"})
    assert [one.content for one in sent.responses] == ["because it rhymes"]
    with pytest.raises(Refused):
        await fake.submit(scene.newcomer, sent, {"reason": "again"})
    assert fake.violations == []


async def test_clicks_that_nobody_can_make(
    fake: FakeDiscord, scene: Scene, commander: Commander
) -> None:
    view = buttons("up")
    view.add_item(discord.ui.Button(label="off", custom_id="vote:off", disabled=True))
    await commander.channel(scene.channel).send("vote!", view=view)
    [message] = scene.channel.messages
    with pytest.raises(Refused, match="no button"):
        await fake.click(scene.newcomer, message, "vote:down")
    with pytest.raises(Refused, match="disabled"):
        await fake.click(scene.newcomer, message, "vote:off")
    with pytest.raises(Refused):
        await fake.click(fake.add_user("stranger"), message, "vote:up")
    await fake.delete(message)
    with pytest.raises(Refused):
        await fake.click(scene.newcomer, message, "vote:up")


async def test_only_its_reader_clicks_an_ephemeral_message(
    fake: FakeDiscord, scene: Scene, commander: Commander
) -> None:
    kept, call = await keep(fake, scene, commander)
    await kept.response.send_message("only you", view=buttons("up"), ephemeral=True)
    message = call.responses[0]
    with pytest.raises(Refused):
        await fake.click(scene.teacher, message, "vote:up")
    click = await fake.click(scene.newcomer, message, "vote:up")
    assert click.responses[0].content == "you voted up"
    with pytest.raises(discord.NotFound):
        await commander.channel(scene.channel).fetch_message(message.id)


async def keep(
    fake: FakeDiscord, scene: Scene, bot: Commander
) -> tuple[discord.Interaction, Interaction]:
    """A call that the bot has not acknowledged."""
    call = await fake.slash(scene.newcomer, scene.channel, "keep", wait=False)
    await fake.until(lambda: bot.calls[-1].id == call.id)
    return bot.calls[-1], call


async def test_three_seconds(fake: FakeDiscord, scene: Scene, commander: Commander) -> None:
    fake.interaction_seconds = 0.1
    call = await fake.slash(scene.newcomer, scene.channel, "keep")
    assert call.acknowledged_ms is None
    await fake.until(lambda: call.failed)
    with pytest.raises(discord.NotFound) as refusal:
        await commander.calls[0].response.defer()
    assert refusal.value.code == 10062
    assert ["after its time" in one for one in fake.violations] == [True]
    with pytest.raises(discord.NotFound) as refusal:
        await commander.calls[0].followup.send("late")
    assert refusal.value.code == 10015


async def test_fifteen_minutes(fake: FakeDiscord, scene: Scene, commander: Commander) -> None:
    kept, call = await keep(fake, scene, commander)
    await kept.response.send_message("hello")
    fake.expire(call)
    with pytest.raises(discord.HTTPException) as refusal:
        await kept.edit_original_response(content="late")
    assert refusal.value.code == 50027
    assert fake.violations == []

    kept, call = await keep(fake, scene, commander)
    fake.expire(call)
    with pytest.raises(discord.NotFound) as refusal:
        await kept.response.defer()
    assert refusal.value.code == 10062
    assert fake.violations == []

    kept, _ = await keep(fake, scene, commander)
    await kept.response.send_message("hello")
    fake.limits.token_seconds = 0
    with pytest.raises(discord.HTTPException):
        await kept.followup.send("late")
    assert len(fake.violations) == 1


async def test_acknowledged_once(fake: FakeDiscord, scene: Scene, commander: Commander) -> None:
    kept, _ = await keep(fake, scene, commander)
    await kept.response.defer()
    kept.response._response_type = None
    with pytest.raises(discord.HTTPException) as refusal:
        await kept.response.defer()
    assert refusal.value.code == 40060
    assert len(fake.violations) == 1


async def test_answers_that_do_not_fit(
    fake: FakeDiscord, scene: Scene, commander: Commander
) -> None:
    kept, call = await keep(fake, scene, commander)
    for answer in (1, 6, 7, 8, None):
        async with commander.http._HTTPClient__session.post(  # type: ignore[attr-defined]
            f"{fake.rest}/interactions/{kept.id}/{kept.token}/callback", json={"type": answer}
        ) as response:
            assert (await response.json())["code"] == 50035
    with pytest.raises(discord.HTTPException):
        await kept.response.send_message("x" * 2001)
    modal = Why(title="t" * 46)
    with pytest.raises(discord.HTTPException):
        await kept.response.send_modal(modal)
    assert len(fake.violations) == 7
    assert call.acknowledged_ms is None
    await kept.response.send_message("at last")
    assert call.acknowledged_ms is not None
    assert [one.content for one in call.responses] == ["at last"]


async def test_the_bucket_of_a_webhook(
    fake: FakeDiscord, scene: Scene, commander: Commander
) -> None:
    """discord.py waits as the headers say, so nothing is refused."""
    fake.limits.window = 0.2
    kept, call = await keep(fake, scene, commander)
    await kept.response.send_message("0")
    for number in range(1, 8):
        await kept.edit_original_response(content=str(number))
    assert call.responses[0].edits == [str(number) for number in range(1, 8)]
    assert fake.rate_limited == 0
