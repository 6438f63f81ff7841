"""`/privacy` → the button: a member's own data as a file that they alone see."""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import Any

import pytest

from guildgpt.bot.answers.feedback import as_files
from guildgpt.bot.text import sentences as say
from guildgpt.feedback.erasing.own_data import SECTIONS
from simguild.fake import Attachment, FakeMessage, Interaction, User
from simguild.fake.trouble import Answer, html, refusal
from simguild.journal import buttons

from .house import House


async def asked_for(bot: House, who: User | None = None) -> Interaction:
    """The member's click on the button under `/privacy`, everything sent."""
    told = (await bot.command("privacy", who=who)).responses[0]
    clicked = await bot.press(told, "download", who)
    await bot.fake.until(lambda: clicked.responses)
    return clicked


def content(file: Attachment) -> dict[str, Any]:
    """The JSON of a file that was sent."""
    data = file.content
    if file.filename.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            [name] = archive.namelist()
            assert name == file.filename.replace(".zip", ".json")
            data = archive.read(name)
    found: dict[str, Any] = json.loads(data)
    return found


async def test_everything_of_the_member_and_of_nobody_else(bot: House) -> None:
    answer = await bot.ask("What is a crab?")
    await bot.press(answer, "up")
    await bot.press(answer, "report")
    theirs = await bot.ask("The teacher's secret", who=bot.teacher)
    await bot.press(theirs, "down")
    compared = (await bot.command("compare", question="Which crab?")).responses[0]
    await bot.press(compared, "left")
    clicked = await asked_for(bot)
    [told] = clicked.responses
    assert told.ephemeral
    assert told.content == say.your_data(1)
    [file] = told.attachments
    assert file.filename == "guildgpt-data.json"
    kept = content(file)
    assert kept["kept_for_days"] == 180
    assert kept["member"]["consent"] == "chat"
    assert [one["text"] for one in kept["messages"]] == ["What is a crab?", "Which crab?"]
    assert kept["messages"][0]["answers"][0]["text"].startswith("You wrote: What is a crab?")
    assert len(kept["messages"][1]["answers"]) == 2
    assert sorted(one["value"] for one in kept["ratings"]) == [-1, 1]
    assert [one["verdict"] for one in kept["votes"]] == ["ranked"]
    assert len(kept["reports"]) == 1
    assert "secret" not in file.content.decode()
    assert b"token" not in file.content


async def test_what_they_only_forwarded_is_somebody_elses(bot: House) -> None:
    said = await bot.say("The teacher's secret", mention=False, who=bot.teacher)
    private = bot.fake.open_dm(bot.newcomer)
    bot.model.answer = lambda prompt: "I see."
    await bot.answer(await bot.fake.forward(bot.newcomer, said, private))
    await bot.ask("What do you think of it?", where=private)
    [file] = (await asked_for(bot)).responses[0].attachments
    assert [(one["text"], one["forwarded"]) for one in content(file)["messages"]] == [
        ("", True),
        ("", False),
        ("What do you think of it?", False),
    ]
    assert "secret" not in file.content.decode()
    assert "secret" in bot.tables()


async def test_who_wants_nothing_kept_sees_that_nothing_is(bot: House) -> None:
    await bot.command("privacy", consent="none")
    await bot.ask("What is a crab?")
    kept = content((await asked_for(bot)).responses[0].attachments[0])
    assert kept["member"]["consent"] == "none"
    assert kept["messages"] == []
    assert "crab" not in json.dumps(kept)


async def test_after_forget_me_there_is_nothing(bot: House) -> None:
    told = (await bot.command("privacy")).responses[0]
    asked = (await bot.command("forget-me")).responses[0]
    await bot.press(asked, "forget")
    await bot.fake.until(lambda: "Done" in asked.content)
    clicked = await bot.press(told, "download")
    assert await bot.told(clicked) == say.NOTHING_KEPT


async def test_in_direct_messages_too(bot: House) -> None:
    private = bot.fake.open_dm(bot.newcomer)
    await bot.ask("What is a crab?", where=private)
    told = (await bot.command("privacy", where=private)).responses[0]
    clicked = await bot.press(told, "download")
    await bot.fake.until(lambda: clicked.responses)
    assert content(clicked.responses[0].attachments[0])["messages"][0]["kind"] == "dm"


async def test_an_operators_blocked_member_gets_theirs_all_the_same(house: House) -> None:
    await house.open()
    await house.ask("What is a crab?")
    told = (await house.command("privacy")).responses[0]
    await house.restart(blocked_users=[house.newcomer.id])
    clicked = await house.press(told, "download")
    await house.fake.until(lambda: clicked.responses)
    assert content(clicked.responses[0].attachments[0])["messages"][0]["text"] == "What is a crab?"


@pytest.mark.parametrize(("limit", "kind"), [(6000, ".zip"), (2500, "of-")])
async def test_what_is_too_large_is_zipped_and_parted(bot: House, limit: int, kind: str) -> None:
    for number in range(4):
        noise = random.Random(number).randbytes(400).hex()  # what cannot be made much shorter
        await bot.ask(f"Question {number}: {noise}")
    bot.fake.limits.upload_bytes = limit
    clicked = await asked_for(bot)
    await bot.fake.until(lambda: clicked.responses[-1].attachments)
    first = clicked.responses[0].content

    def files() -> list[Attachment]:
        sent: list[FakeMessage] = clicked.responses
        return [file for one in sent for file in one.attachments]

    await bot.fake.until(lambda: first == say.your_data(len(files())))
    assert all(kind in file.filename and len(file.content) <= limit for file in files())
    texts = [one["text"][:10] for file in files() for one in content(file)["messages"]]
    assert texts == [f"Question {number}" for number in range(4)]
    assert all(one.ephemeral for one in clicked.responses)


@pytest.mark.parametrize("answer", [refusal(413, 40005, "Request entity too large"), html(413)])
async def test_a_file_that_discord_does_not_take(bot: House, answer: Answer) -> None:
    await bot.ask("What is a crab?")
    bot.fake.trouble("POST /webhooks/{app}/{token}", answer, times=1)
    clicked = await asked_for(bot)
    assert await bot.told(clicked) == say.DATA_NOT_TAKEN
    assert len(clicked.responses) == 1


def test_a_row_that_is_larger_than_any_file_ends_the_parting() -> None:
    row = {"id": "1", "text": "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(3000))}
    sections: dict[str, list[Any]] = {name: [] for name in SECTIONS}
    files = as_files({**sections, "messages": [row, row]}, 1000)
    assert [name for name, _ in files] == ["guildgpt-data-1-of-2.zip", "guildgpt-data-2-of-2.zip"]


async def test_the_button_is_under_privacy_and_its_sentence_fits(bot: House) -> None:
    for consent in ("none", "chat", "train"):
        told = (await bot.command("privacy", consent=consent)).responses
        assert len(told) == 1
        assert list(buttons(told[0])) == ["download"]
