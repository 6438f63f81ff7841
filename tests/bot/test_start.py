"""A start at which Discord, or the store, says no: what works works, and the rest is tried on."""

from __future__ import annotations

from typing import Any

import pytest

from guildgpt.bot.adapter import client, reaching
from guildgpt.bot.operating import postponed
from guildgpt.errors import GuildError, StoreError
from guildgpt.feedback.messages.deliveries import Deliveries
from guildgpt.feedback.people.members import Members
from guildgpt.feedback.people.places import Places
from simguild.fake.trouble import Answer, cloudflare, html, refusal, torn
from simguild.journal import finished

from .house import FAST, SLOW, House
from .test_health import free_port, get

ME, APPLICATION = "GET /users/{user}", "GET /oauth2/applications/@me"
GATEWAY, COMMANDS = "GET /gateway/bot", "PUT /applications/{app}/commands"

REFUSALS: dict[str, Answer] = {
    "200 new commands a day": refusal(
        400, 30034, "Max number of daily application command creates has been reached (200)"
    ),
    "no access": refusal(403, 50001, "Missing Access"),
    "not as Discord wants them": refusal(400, 50035, "Invalid Form Body"),
    "503": html(503),
    "Cloudflare": cloudflare(retry_after=0.02),
    "reset": torn(),
}
PASSING = {name: REFUSALS[name] for name in ("503", "Cloudflare", "reset")}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries again sooner."""
    monkeypatch.setattr(reaching, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(reaching, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(postponed, "RETRY_SECONDS", 0.05)


@pytest.mark.parametrize("name", REFUSALS)
async def test_commands_that_discord_does_not_take(
    house: House, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages are answered, the log and the metrics say what is missing, health is untouched;
    and as soon as Discord takes the commands they are there."""
    caplog.set_level("INFO", "guildgpt.bot")
    trouble = house.fake.trouble(COMMANDS, REFUSALS[name])
    await house.open(health_port=free_port())
    await house.ask("What is TLS?")
    await house.fake.until(lambda: trouble.met >= 3)
    assert "commands_not_registered" in caplog.messages
    assert (await get(house, "/healthz"))[0] == 200
    assert "guildgpt_commands_registered 0.0\n" in (await get(house, "/metrics"))[1]
    trouble.over()
    await house.fake.until(lambda: "commands_registered" in caplog.messages)
    await house.command("ask", question="What is SSH?")
    assert "guildgpt_commands_registered 1.0\n" in (await get(house, "/metrics"))[1]


async def test_commands_of_an_earlier_start_go_on_working(house: House) -> None:
    await house.open()
    house.fake.trouble(COMMANDS, REFUSALS["200 new commands a day"])
    await house.restart()
    await house.command("ask", question="What is TLS?")


async def test_commands_that_take_long_do_not_hold_up_messages(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REGISTER_SECONDS", 0.05)
    house.fake.trouble(COMMANDS, html(502))  # discord.py itself tries that again for half a minute
    await house.open()
    await house.ask("What is TLS?")


@pytest.mark.parametrize("route", [ME, APPLICATION, GATEWAY])
@pytest.mark.parametrize("name", PASSING)
async def test_a_discord_that_cannot_be_reached_at_the_start(
    house: House, route: str, name: str
) -> None:
    trouble = house.fake.trouble(route, PASSING[name], times=3)
    await house.open(shards="auto")
    await house.ask("What is TLS?")
    assert trouble.met == 3
    await house.command("ask", question="What is SSH?")


async def test_what_discord_refuses_for_good_ends_it(house: House) -> None:
    house.fake.trouble(APPLICATION, refusal(403, 40001, "Unauthorized"))
    with pytest.raises(GuildError, match="code 40001"):
        await house.open()


@pytest.mark.parametrize(
    ("part", "method"), [(Deliveries, "unfinished"), (Members, "by_id"), (Places, "marks")]
)
async def test_a_store_in_trouble_at_the_start(
    house: House, monkeypatch: pytest.MonkeyPatch, part: type, method: str
) -> None:
    house.model.rate = SLOW * 2
    await house.open()
    asked = await house.say("What is TLS?")
    begun = await house.begun(asked)
    await house.close()
    missed = await house.say("And SSH?")
    house.model.rate = FAST
    right, failures = getattr(part, method), iter(range(3))

    async def failing(self: Any, *arguments: Any) -> Any:
        if next(failures, None) is not None:
            raise StoreError("the database is locked")
        return await right(self, *arguments)

    monkeypatch.setattr(part, method, failing)
    await house.open()
    await house.fake.until(lambda: finished(begun))
    await house.answer(missed)
    assert next(failures, None) is None
    assert house.answers(asked) == [begun]
