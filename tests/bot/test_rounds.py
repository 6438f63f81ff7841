"""Rounds: a prompt of the pool with two blind answers, voted on in a channel."""

from __future__ import annotations

import pytest

from guildgpt.bot.text import rounds as say
from guildgpt.bot.text import sentences
from guildgpt.feedback.records import Candidate
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.feedback.voting.prompts import NewPrompt
from guildgpt.feedback.voting.proposals import NewProposal
from guildgpt.talk import following
from simguild.fake import Refused
from simguild.journal import buttons

from .holding import (
    DAY,
    HOUR,
    fill,
    later,
    never_twice,
    now,
    opened,
    over,
    prompts,
    rounds,
    states,
    vote,
)
from .house import House
from .released import StandIns

pytestmark = pytest.mark.usefixtures("unhurried", "quick_rounds")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It looks often what was released."""
    monkeypatch.setattr(following, "FOLLOW_SECONDS", 0.05)
    caplog.set_level("INFO", "guildgpt.bot")


async def test_a_round_is_shown_voted_on_and_closed(held: House) -> None:
    message = await now(held)
    assert list(buttons(message)) == ["a", "b", "tie", "both_bad"]
    assert [one["label"] for one in message.buttons] == ["A", "B", "Both good", "Both bad"]
    texts = [text for (text,) in held.rows("SELECT text FROM messages WHERE role = 'assistant'")]
    assert len(texts) == 2
    assert all(text in message.content for text in texts)
    assert "> What do wombats eat on day" in message.content
    assert "Prompt: Somebody" in message.content
    assert await vote(held, message, "a") == sentences.VOTED["a"]
    assert await vote(held, message, "b", held.teacher) == sentences.VOTED["b"]
    assert "voted" not in message.content
    assert not message.edits  # nobody sees a count before it closes
    await later(held, DAY)
    closed = await over(held, message)
    assert "**Closed.** 2 voted: 1 for A, 1 for B. As even as it can be." in closed
    assert all(text in closed for text in texts)
    assert states(held) == ["closed"]
    assert "stand-in" not in closed  # nor whose they are
    assert not message.mentions


async def test_only_admins_may_call_it(held: House) -> None:
    with pytest.raises(Refused):
        await held.fake.slash(held.newcomer, held.channel, "rounds")


async def test_a_vote_can_be_changed_until_the_round_closes(held: House) -> None:
    message = await now(held)
    for kind in ("a", "tie", "both_bad", "b"):
        assert await vote(held, message, kind) == sentences.VOTED[kind]
    custom_id, old = buttons(message)["a"], message.components
    await later(held, DAY)
    assert "1 voted: 0 for A, 1 for B." in await over(held, message)
    message.components = old  # a client that has not heard of the edit
    clicked = await held.fake.click(held.newcomer, message, custom_id)
    assert await held.told(clicked) == say.CLOSED
    message.components = []


async def test_buttons_live_through_a_restart(held: House) -> None:
    message = await now(held)
    await vote(held, message, "a")
    await held.restart()
    assert await vote(held, message, "b", held.teacher) == sentences.VOTED["b"]
    assert await vote(held, message, "b") == sentences.VOTED["b"]
    await later(held, DAY)
    assert "2 voted: 0 for A, 2 for B." in await over(held, message)


async def test_who_wants_nothing_kept_cannot_vote(held: House) -> None:
    message = await now(held)
    await held.command("privacy", consent="none")
    assert await vote(held, message, "a") == sentences.CONSENT_NONE
    await later(held, DAY)
    assert "Nobody voted." in await over(held, message)


async def test_an_erased_member_has_no_vote(held: House) -> None:
    message = await now(held)
    await vote(held, message, "a")
    await vote(held, message, "tie", held.teacher)
    asked = await held.command("forget-me")
    await held.press(asked.responses[0], "forget")
    await held.fake.until(lambda: len(held.rows("SELECT 1 FROM votes")) == 1)
    await later(held, DAY)
    assert "1 voted: 0 for A, 0 for B, 1 tie." in await over(held, message)


async def test_a_round_is_open_for_as_long_as_the_admin_says(held: House) -> None:
    message = await now(held, hours=2)
    await later(held, HOUR)
    assert buttons(message)
    await later(held, HOUR)
    await over(held, message)


async def test_the_next_round_closes_the_one_before_it(held: House) -> None:
    first = await now(held)
    await vote(held, first, "a")
    second = await now(held)
    assert "1 voted" in await over(held, first)
    assert second is not first
    assert states(held) == ["closed", "open"]


async def test_two_admins_who_want_one_at_the_same_time_get_one(house: House) -> None:
    never_twice(house)
    house.model.rate = 5.0
    await fill(house)
    await house.open()
    assert "is being written" in await rounds(house, "now")
    assert await rounds(house, "now") == say.POSTING
    await opened(house)
    assert states(house) == ["open"]


async def test_each_prompt_is_asked_before_one_comes_again(held: House) -> None:
    for _ in range(3):
        await now(held)
    await held.fake.until(lambda: states(held) == ["closed", "closed", "open"])
    assert held.rows("SELECT COUNT(DISTINCT prompt_id) FROM rounds") == [(3,)]


async def test_long_answers_and_code_are_split_as_answers_are(house: House) -> None:
    numbers = iter(range(10))
    house.model.answer = lambda prompt: f"```py\n# {next(numbers)}\n" + "print('hello')\n" * 90
    await fill(house, prompts()[0])
    await house.open(max_tokens=2048)
    message = await now(house)
    parts = [one for one in house.channel.by(house.fake.bot) if one.interaction is None]
    assert len(parts) > 1
    assert parts[-1] is message
    assert all(one.content.count("```") % 2 == 0 for one in parts)
    assert [bool(buttons(one)) for one in parts] == [False] * (len(parts) - 1) + [True]
    await vote(house, message, "a")
    await house.restart()
    await later(house, DAY)
    assert "1 voted" in await over(house, message)
    assert [one for one in house.channel.by(house.fake.bot) if one.interaction is None] == parts
    assert "hello" in parts[0].content


async def test_what_it_shows_pings_nobody(house: House) -> None:
    never_twice(house)
    words = house.model.answer
    house.model.answer = lambda prompt: f"@everyone {words(prompt)} <@{house.newcomer.id}>"
    text = next(one.text for one in prompts())
    await fill(house, NewPrompt(text, "tests", "CC0-1.0", "@everyone"))
    await house.open()
    message = await now(house)  # the fake counts every ping as a violation
    assert not message.everyone


async def test_an_answer_that_may_not_be_shown_takes_the_next_prompt(house: House) -> None:
    first, second, third = prompts()
    numbers = iter(range(100))

    def answer(prompt: str) -> str:
        word = "forbidden" if first.text in prompt else "fine"
        return f"{word} {next(numbers)}"

    house.model.answer = answer
    await fill(house, first, NewPrompt(f"{second.text} forbidden", "tests", "CC0-1.0"), third)
    await house.open(blocked_words=["forbidden"])
    message = await now(house)
    assert third.text in message.content


async def test_two_answers_that_are_the_same_take_the_next_prompt(house: House) -> None:
    first, second = prompts(count=2)
    numbers = iter(range(100))
    house.model.answer = lambda prompt: (
        "The same." if first.text in prompt else f"Number {next(numbers)}."
    )
    await fill(house, first, second)
    await house.open()
    assert second.text in (await now(house)).content


async def test_a_pool_with_nothing_to_choose_between_says_so(house: House) -> None:
    house.model.answer = lambda prompt: "The same."
    await fill(house, *prompts(count=2))
    await house.open()
    await rounds(house, "now")
    assert "gave no two different answers" in await until_told(house, "failed")
    assert states(house) == []
    never_twice(house)  # another model may have more to say
    await opened(house)


async def test_an_empty_pool_is_filled_with_the_starter_packs_prompts(house: House) -> None:
    never_twice(house)
    await house.open()
    await now(house)
    assert house.rows("SELECT DISTINCT source FROM prompts") == [("starter",)]


async def test_a_pool_without_a_prompt_for_it_says_how_to_fill_it(house: House) -> None:
    await fill(house, *prompts("decide"))
    await house.open()
    told = await rounds(house, "now")
    assert "guildgpt feedback prompts add oasst1 --limit 1000" in told
    told = await rounds(house, "daily")
    assert "guildgpt feedback prompts add oasst1 --limit 1000" in told
    await house.fake.until(lambda: house.rows("SELECT settings FROM guild_settings"))
    assert "The last try failed: the pool has no prompt" in await until_told(house, "failed")
    never_twice(house)
    await fill(house)
    await opened(house)


async def until_told(house: House, word: str) -> str:
    """What `/rounds` says once the word is in it."""
    while word not in (told := await rounds(house)):
        pass
    return told


# A candidate


@pytest.fixture
async def canary(house: House, tmp_path: object) -> House:
    """Two versions, the second of which is a candidate on trial."""
    made = StandIns(house, tmp_path)  # type: ignore[arg-type]
    await made.known("old", "new")
    await fill(house, *prompts(), *prompts("decide"))
    await begin(house)
    await house.open()
    return house


async def begin(house: House) -> None:
    async with house.store() as store:
        ids = {"old@00000000": 0.8, "new@00000000": 0.2}
        await store.releases.add(ids, "canary")
        await store.decisions.begin(
            state="canary", candidate_id="new@00000000", baseline_id="old@00000000"
        )


async def test_a_candidates_round_takes_one_answer_of_each(canary: House) -> None:
    message = await now(canary)
    assert "old says this and that." in message.content
    assert "new says this and that." in message.content
    asked = canary.rows(
        "SELECT purpose, decision_id IS NOT NULL FROM rounds JOIN prompts "
        "ON prompts.id = rounds.prompt_id"
    )
    assert asked == [("decide", 1)]
    wrote = canary.rows(
        "SELECT version_id, text FROM messages JOIN candidates ON message_id = messages.id "
        "ORDER BY position"
    )
    assert all(text.startswith(version.partition("@")[0]) for version, text in wrote)
    first = wrote[0][1]
    assert message.content.index(first) < message.content.index(wrote[1][1])
    status = await rounds(canary)
    assert "Open in" in status
    assert "on a candidate: 0 votes so far" in status
    assert "A candidate is on trial. No round has been counted yet." in status
    assert "old" not in status
    assert "new" not in status
    await vote(canary, message, "a")
    assert "1 vote so far" in await rounds(canary)
    assert "for A" not in await rounds(canary)
    await later(canary, DAY)
    await over(canary, message)


async def test_a_guild_that_does_not_teach_has_rounds_to_learn_from(canary: House) -> None:
    async with canary.store() as store:
        made = await store.decisions.current()
        assert made is not None
        await store.decisions.change(made.id, settings={"guilds": {"only": [1], "without": []}})
        prompt = next(one for one in await store.prompts.all() if one.purpose == "train")
        pair = (Candidate("Four.", "old@00000000"), Candidate("Nine.", "old@00000000"))
        await store.proposals.put([NewProposal(prompt.id, pair, 1.0)])
        await store.proposals.set_share(1.0)
    message = await now(canary)
    assert "new says" not in message.content
    asked = canary.rows(
        "SELECT purpose, decision_id FROM rounds JOIN prompts ON prompts.id = rounds.prompt_id"
    )
    assert asked == [("train", None)]


async def test_when_it_is_clear_that_is_told_and_not_what(
    canary: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Of five people all prefer the candidate, round after round."""
    people = [canary.newcomer, canary.teacher]
    for name in ("ann", "bob", "cat"):
        user = canary.fake.add_user(name)
        canary.guild.join(user)
        people.append(user)
    for _ in range(30):
        message = await now(canary)
        best = "a" if message.content.index("new says") < message.content.index("old says") else "b"
        for who in people:
            await vote(canary, message, best, who)
        fell = [one for one in canary.channel.by(canary.fake.bot) if one.content == say.FELL]
        if fell:
            break
    [(state,)] = canary.rows("SELECT state FROM decisions")
    assert state == "preferred"
    assert "decision_fell" in caplog.text
    status = await rounds(canary)
    assert "waits for the people who run me" in status
    assert "100% for the candidate" in status
    assert "Members prefer it." in status
    assert "new@" not in caplog.text.partition("decision_fell")[2].partition("\n")[0]


async def test_a_version_that_is_not_open_is_named_as_the_reason(house: House) -> None:
    never_twice(house)
    await fill(house, *prompts(), *prompts("decide"))
    async with house.store() as store:
        await store.decisions.begin(
            state="canary", candidate_id="new@00000000", baseline_id="old@00000000"
        )
    await house.open()
    await rounds(house, "now")
    assert "one of the two versions is not open" in await until_told(house, "failed")
    assert states(house) == []


async def test_a_pair_that_is_unsure_is_posted_as_it_was_proposed(held: House) -> None:
    """By Discord as by the page and the terminal; its answers are not written anew."""
    url = f"sqlite:///{held.database}"
    async with await Store.open(url, key=member_key(url)) as store:
        prompt = next(one for one in await store.prompts.all() if one.purpose == "train")
        pair = (Candidate("By the lamp.", "stand-in"), Candidate("By the river.", "stand-in"))
        await store.proposals.put([NewProposal(prompt.id, pair, 1.0)])
        await store.proposals.set_share(1)
    message = await now(held)
    assert "By the lamp." in message.content
    assert "By the river." in message.content
    assert held.rows("SELECT drawn FROM rounds") == [("unsure",)]
    await later(held, DAY)
    await over(held, message)
    await now(held)  # none waits any more
    assert held.rows("SELECT drawn FROM rounds ORDER BY created_at") == [("unsure",), ("random",)]
