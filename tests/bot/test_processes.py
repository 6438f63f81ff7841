"""Processes of one bot: who is killed is followed by who waits, and one of them speaks."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest

from guildgpt.bot.operating import run

from .house import SLOW, WHOLE, House
from .process import Process


@pytest.fixture
async def processes(house: House) -> AsyncIterator[list[Process]]:
    """Two of them that are not started; what still runs at the end is killed."""
    made = [Process(house, SLOW * 2), Process(house, SLOW * 2)]
    yield made
    for one in made:
        if one._process and one._process.returncode is None:
            await one.end(signal.SIGKILL)


async def test_kill_9_mid_answer_and_the_one_that_waits_takes_over(
    house: House, processes: list[Process]
) -> None:
    """Two processes with one token and one store: one of them is the bot."""
    for one in processes:
        await one.start()
    await house.fake.until(lambda: house.fake.connected)
    [(holder,)] = house.rows("SELECT holder FROM leases")
    first, second = sorted(processes, key=lambda one: f":{one.pid}:" not in holder)
    asked = [await house.say("What is TLS?")]
    begun = await house.begun(asked[0])
    assert house.fake.connected == 1

    await first.end(signal.SIGKILL)
    # The other sees that the first is dead, and does not wait until the lease runs out.
    await house.change("UPDATE leases SET expires_at = '2999-01-01'")
    asked.append(await house.say("And what is SSH?"))
    await house.fake.until(lambda: house.fake.connected)
    for one in asked:
        await house.answer(one)
    assert house.answers(asked[0]) == [begun]
    assert begun.content.endswith(WHOLE)
    await house.settled()
    assert [len(house.answers(one)) for one in asked] == [1, 1]
    assert house.fake.gateway_server.identified == 2
    assert await second.end(signal.SIGTERM) == 0
    assert " ready " in second.log
    assert "What is" not in second.log


async def test_who_has_lost_the_lease_is_silent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LEASE_SECONDS", 0.4)
    await house.open()
    await house.ask("Before?")
    await house.change("UPDATE leases SET holder = 'elsewhere:1:x', expires_at = '2999-01-01'")
    await house.fake.until(lambda: house.ended)
    await house.close()
    assert house.fake.connected == 0
