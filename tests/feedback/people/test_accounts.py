"""Accounts: who is invited, who is signed in, and for how long."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from unittest.mock import ANY

import pytest
from sqlalchemy import select

from feedback.conftest import Clock
from guildgpt.errors import RecordGone, SignInRefused
from guildgpt.feedback.people.naming import LONGEST_NAME
from guildgpt.feedback.storage.schema import facts, invitations, metadata, sessions
from guildgpt.feedback.store import Store

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def test_a_link_makes_an_account_once(store: Store) -> None:
    token = await store.accounts.invite("voter")
    [invited] = await store.accounts.invitations()
    assert (invited.role, invited.name) == ("voter", None)
    assert await store.accounts.invitation(token) == invited
    anna, session = await store.accounts.accept(token, "Anna", FIREFOX)
    assert (anna.name, anna.role, anna.ended_at) == ("Anna", "voter", None)
    assert await store.accounts.of_session(session) == anna
    member = await store.members.by_id(anna.member_id)
    assert member is not None
    assert member.consent == "chat"
    [at] = await store.accounts.sessions(anna.id)
    assert at.device == FIREFOX
    with pytest.raises(SignInRefused, match="this link was used"):
        await store.accounts.accept(token, "Berta", FIREFOX)
    assert await store.accounts.all() == [anna]
    assert await store.accounts.invitations() == []
    assert await store.accounts.invitation(token) is None


async def test_two_who_use_a_link_at_once(store: Store) -> None:
    token = await store.accounts.invite("voter")
    took = await asyncio.gather(
        *(store.accounts.accept(token, name, FIREFOX) for name in ("Anna", "Berta", "Cora")),
        return_exceptions=True,
    )
    assert sum(not isinstance(one, BaseException) for one in took) == 1
    assert sum(isinstance(one, SignInRefused) for one in took) == 2
    assert len(await store.accounts.all()) == 1


async def test_two_who_take_a_name_at_once(store: Store) -> None:
    """Neither is signed in as the other."""
    links = [await store.accounts.invite("voter") for _ in range(4)]
    took = await asyncio.gather(
        *(store.accounts.accept(link, "Anna", FIREFOX) for link in links), return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in took) == 1
    [anna] = await store.accounts.all()
    assert len(await store.accounts.sessions(anna.id)) == 1
    assert len(await store.accounts.invitations()) == 3


async def test_the_store_has_no_secret(store: Store) -> None:
    link = await store.accounts.invite("operator", "Anna")
    anna, session = await store.accounts.accept(link, None, FIREFOX)
    await store.accounts.invite("voter", account_id=anna.id)
    for table in metadata.sorted_tables:
        for row in await store.database.rows(select(table)):
            for secret in (link, session):
                assert secret not in str(row)


async def test_a_link_expires_and_can_be_withdrawn(store: Store, clock: Clock) -> None:
    late = await store.accounts.invite("voter", lasts=timedelta(hours=1))
    clock.pass_(hours=1)
    with pytest.raises(SignInRefused, match="is too old") as caught:
        await store.accounts.accept(late, "Anna", FIREFOX)
    assert "a new link" in str(caught.value.remedy)
    taken_back = await store.accounts.invite("voter")
    [open_one] = await store.accounts.invitations()
    assert await store.accounts.withdraw(open_one.id)
    assert not await store.accounts.withdraw(open_one.id)
    for token in (taken_back, "never one", "", "\0", "\ud800"):
        with pytest.raises(SignInRefused):
            await store.accounts.accept(token, "Anna", FIREFOX)


@pytest.mark.parametrize("taken", ["Anna", "anna ", "ＡＮＮＡ", "operator", "Operator"])
async def test_a_name_is_somebodys(store: Store, taken: str) -> None:
    await store.accounts.accept(await store.accounts.invite("voter"), "Anna", FIREFOX)
    link = await store.accounts.invite("voter")
    with pytest.raises(SignInRefused, match=r"is called .* already") as caught:
        await store.accounts.accept(link, taken, FIREFOX)
    assert caught.value.remedy == "Choose another name."
    with pytest.raises(SignInRefused):
        await store.accounts.invite("voter", taken)
    berta, _ = await store.accounts.accept(link, "Berta", FIREFOX)  # the link stayed good
    assert berta.name == "Berta"


async def test_of_those_who_come_at_once_one_gets_a_name_and_none_a_link_twice(
    store: Store,
) -> None:
    names = ["Anna", "ANNA", "anna", "ＡＮＮＡ"]
    for _ in range(5):
        links = [await store.accounts.invite("voter") for _ in names]
        pairs = zip(links, names, strict=True)
        coming = [store.accounts.accept(link, name, FIREFOX) for link, name in pairs]
        came = await asyncio.gather(*coming, return_exceptions=True)
        assert all(isinstance(one, tuple | SignInRefused) for one in came), came
        (anna,) = (one[0] for one in came if isinstance(one, tuple))
        await store.privacy.erase_account("web", anna.name)
    link = await store.accounts.invite("voter")
    coming = [store.accounts.accept(link, name, FIREFOX) for name in ("A", "B", "C", "D")]
    came = await asyncio.gather(*coming, return_exceptions=True)
    assert sum(isinstance(one, tuple) for one in came) == 1


@pytest.mark.parametrize("name", ["", " ", "\u202e", "\0", "!?", "a" * (LONGEST_NAME + 1)])
async def test_a_name_that_is_none(store: Store, name: str) -> None:
    link = await store.accounts.invite("voter")
    with pytest.raises(SignInRefused, match="a name has"):
        await store.accounts.accept(link, name, FIREFOX)


async def test_what_a_name_is_shown_as(store: Store) -> None:
    link = await store.accounts.invite("voter", " Anna\t\u202eLovelace\ud800 ")
    anna, _ = await store.accounts.accept(link, " ", "\0" * 999)
    assert anna.name == "Anna Lovelace\N{REPLACEMENT CHARACTER}"


async def test_signing_in_again(store: Store, clock: Clock) -> None:
    anna, phone = await store.accounts.accept(
        await store.accounts.invite("operator", "Anna"), None, "phone"
    )
    clock.pass_(hours=1)
    again = await store.accounts.invite("voter", "Somebody", account_id=anna.id)
    same, laptop = await store.accounts.accept(again, "Somebody else", "laptop")
    assert same == anna  # who it is for and what they may do, the link does not change
    assert phone != laptop
    here, there = await store.accounts.sessions(anna.id)
    assert (here.device, there.device) == ("laptop", "phone")
    assert not await store.accounts.end_session(there.id, "somebody else's")
    assert await store.accounts.end_session(there.id, anna.id)
    assert await store.accounts.of_session(phone) is None
    assert await store.accounts.of_session(laptop) == anna
    await store.accounts.sign_out(laptop)
    assert await store.accounts.of_session(laptop) is None


async def test_an_account_that_ends(store: Store, clock: Clock) -> None:
    link = await store.accounts.invite("voter")
    anna, session = await store.accounts.accept(link, "Anna", FIREFOX)
    again = await store.accounts.invite("voter", account_id=anna.id)
    ended = await store.accounts.end(anna.id)
    assert ended.ended_at == clock.now
    clock.pass_(days=1)
    assert await store.accounts.end(anna.id) == ended
    assert await store.accounts.all() == [ended]
    assert await store.accounts.of_session(session) is None
    assert await store.accounts.sessions(anna.id) == []
    with pytest.raises(SignInRefused):
        await store.accounts.accept(again, None, FIREFOX)
    for gone in (anna.id, "nobody"):
        with pytest.raises(RecordGone):
            await store.accounts.invite("voter", account_id=gone)
    with pytest.raises(RecordGone):
        await store.accounts.end("nobody")
    assert await store.members.by_id(anna.member_id) is not None


async def test_a_session_lasts_while_it_is_used(store: Store, clock: Clock) -> None:
    link = await store.accounts.invite("voter")
    anna, session = await store.accounts.accept(link, "Anna", FIREFOX)
    made = clock.now
    clock.pass_(minutes=30)
    assert await store.accounts.of_session(session) == anna
    seen = select(sessions.c.seen_at)
    assert await store.database.value(seen) == made  # not written at every request
    clock.pass_(minutes=31)
    assert await store.accounts.of_session(session) == anna
    assert await store.database.value(seen) == clock.now
    for _ in range(3):
        clock.pass_(days=29)
        assert await store.accounts.of_session(session) == anna
    clock.pass_(days=30)
    assert await store.accounts.of_session(session) is None
    assert await store.accounts.sessions(anna.id) == []


async def test_whoever_sits_at_the_machine(store: Store) -> None:
    both = await asyncio.gather(store.accounts.local(), store.accounts.local())
    operator = both[0]
    assert both[1] == operator
    assert (operator.name, operator.role) == ("operator", "operator")
    assert await store.accounts.all() == [operator]
    assert not await store.accounts.somebody_came()
    link = await store.accounts.invite("operator", account_id=operator.id)
    assert not await store.accounts.somebody_came()
    same, session = await store.accounts.accept(link, None, FIREFOX)
    assert same == operator
    assert await store.accounts.of_session(session) == operator
    assert await store.accounts.somebody_came()
    await store.accounts.end(operator.id)
    with pytest.raises(RecordGone):
        await store.accounts.local()


async def test_who_chooses_another_name_stays_who_they_are(store: Store) -> None:
    token = await store.accounts.invite("voter")
    anna, session = await store.accounts.accept(token, "Anna", FIREFOX)
    await store.members.set_consent(anna.member_id, "train")
    renamed = await store.accounts.rename(anna.id, " Anna  Lind ")
    assert renamed == replace(anna, name="Anna Lind")
    assert await store.accounts.of_session(session) == renamed
    assert await store.accounts.rename(anna.id, "anna lind") == replace(anna, name="anna lind")
    assert await store.privacy.kept_of_account("web", "Anna") is None
    kept = await store.privacy.kept_of_account("web", "anna lind")
    assert kept is not None
    assert (kept["member"]["id"], kept["member"]["consent"]) == (anna.member_id, "train")
    token = await store.accounts.invite("voter")
    other, _ = await store.accounts.accept(token, "Anna", FIREFOX)  # whose name it is now
    assert other.member_id != anna.member_id
    await store.privacy.erase_account("web", "anna lind")
    assert await store.accounts.of_session(session) is None
    assert await store.accounts.all() == [other]


@pytest.mark.parametrize("name", ["berta", "ＢＥＲＴＡ", "operator", "Operator", " ", "a" * 61])
async def test_a_name_that_nobody_can_take_on(store: Store, name: str) -> None:
    anna, berta = [
        (await store.accounts.accept(await store.accounts.invite("voter"), name, FIREFOX))[0]
        for name in ("Anna", "Berta")
    ]
    with pytest.raises(SignInRefused):
        await store.accounts.rename(anna.id, name)
    await store.accounts.end(berta.id)
    with pytest.raises(SignInRefused):
        await store.accounts.rename(anna.id, name)
    assert await store.accounts.all() == [anna, replace(berta, ended_at=ANY)]
    with pytest.raises(RecordGone):
        await store.accounts.rename(berta.id, "Berta Berg")


async def test_the_operator_at_the_machine_may_have_another_name(store: Store) -> None:
    before = await store.accounts.local()
    chief = await store.accounts.rename(before.id, "Chief")
    assert chief == replace(before, name="Chief")
    assert await store.accounts.local() == chief
    boss = await store.accounts.rename(chief.id, "Boss")
    assert await store.accounts.local() == boss
    assert await store.accounts.all() == [boss]
    await store.privacy.erase_account("web", "Boss")
    assert await store.database.rows(select(facts).where(facts.c.value == boss.id)) == []
    anew = await store.accounts.local()
    assert (anew.name, anew.id == boss.id) == ("operator", False)


async def test_a_link_for_no_role(store: Store) -> None:
    with pytest.raises(ValueError, match="no role"):
        await store.accounts.invite("admin")  # type: ignore[arg-type]
    assert await store.database.rows(select(invitations)) == []
