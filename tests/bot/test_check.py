"""`guildgpt bot --check`, and what the bot says when it cannot run."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from guildgpt.cli import app
from guildgpt.errors import EngineError, GuildError
from simguild.fake import FakeDiscord, Permission

from .house import House


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A file that begins like a model."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(16))
    return path


@pytest.fixture
def environment(house: House, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything as it should be."""
    for name in ("GUILDGPT_TOKEN", "DISCORD_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISCORD_TOKEN", house.fake.token)
    monkeypatch.setenv("GUILDGPT_STORE", str(house.database))
    monkeypatch.setenv("GUILDGPT_MODEL", str(gguf))
    monkeypatch.setenv("COLUMNS", "1000")


async def check(*options: str) -> Result:
    """The command, in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["bot", "--check", *options])


pytestmark = pytest.mark.usefixtures("environment")


async def test_all_is_well(house: House) -> None:
    result = await check()
    assert result.exit_code == 0
    assert "✓ token: it is that of guildgpt" in result.output
    assert "✓ guild rustaceans: I have the permissions I need" in result.output
    assert "✓ message content intent: off" in result.output
    assert "✓ model: tiny" in result.output
    assert "✓ engine: llama.cpp starts" in result.output
    assert "✓ store: it opens" in result.output
    [invite] = [word for word in result.output.split() if word.startswith("https://")]
    assert f"client_id={house.fake.application_id}" in invite
    assert "scope=bot+applications.commands" in invite
    assert house.fake.token not in result.output
    assert result.output.endswith("\nIt can start: guildgpt bot\n")


async def test_as_json(house: House) -> None:
    result = await check("--json")
    told = json.loads(result.stdout)
    assert [finding["what"] for finding in told["findings"]] == [
        *("token", "message content intent", "guild rustaceans", "model", "engine", "store"),
    ]
    assert all(finding["ok"] for finding in told["findings"])
    assert told["invite"].startswith("https://discord.com/oauth2/authorize?")


async def test_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISCORD_TOKEN")
    result = await check()
    assert result.exit_code == 1
    assert "✗ token: there is none: set DISCORD_TOKEN" in result.output
    assert "✓ store" in result.output
    assert "Invite" not in result.output
    assert result.output.endswith("\nIt cannot start yet: token.\n")


async def test_a_wrong_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "not.the.token")
    result = await check()
    assert result.exit_code == 1
    assert "✗ token: Discord does not know this token" in result.output
    assert "not.the.token" not in result.output


async def test_discord_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discord.http.Route.BASE", "http://127.0.0.1:1/api")
    result = await check()
    assert result.exit_code == 1
    assert "✗ token: Discord cannot be reached" in result.output


async def test_the_intent_is_off_at_discord(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUILDGPT_MESSAGE_CONTENT_INTENT", "true")
    assert "✓ message content intent: on" in (await check()).output
    house.fake.message_content = False
    result = await check()
    assert result.exit_code == 1
    assert "✗ message content intent: it is on in your settings but off at Discord" in result.output


async def test_a_permission_lacks(house: House) -> None:
    house.fake.add_guild("gardeners", bot_permissions=0).everyone.permissions = int(
        Permission.VIEW_CHANNEL | Permission.SEND_MESSAGES
    )
    result = await check()
    assert result.exit_code == 0
    [line] = [line for line in result.output.splitlines() if "gardeners" in line]
    assert line.startswith("! guild gardeners: I lack: ")
    assert "read message history" in line
    assert "view channel" not in line


async def test_in_no_guild_yet() -> None:
    async with FakeDiscord() as empty:
        with empty.redirected():
            result = await check()
    assert result.exit_code == 0
    assert "! guilds: I am in none yet: open the invite link below" in result.output


async def test_no_model(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUILDGPT_MODEL", str(gguf.with_name("tony.gguf")))
    result = await check()
    assert result.exit_code == 1
    assert "✗ model: there is no model called" in result.output
    assert "Did you mean" in result.output


async def test_a_file_that_is_no_model(gguf: Path) -> None:
    gguf.write_bytes(b"not a model")
    result = await check()
    assert result.exit_code == 1
    assert "✗ model:" in result.output


async def test_a_stump_of_a_model(gguf: Path, starter: Path) -> None:
    """Its head is whole, and its last tensors are not."""
    for size in (57 << 20, starter.stat().st_size - 1):
        with starter.open("rb") as whole:
            gguf.write_bytes(whole.read(size))
        result = await check()
        assert result.exit_code == 1
        assert f"✗ model: the file is cut off: it has {size:,} bytes" in result.output
        assert result.output.endswith("\nIt cannot start yet: model.\n")
        chat = await asyncio.to_thread(CliRunner().invoke, app, ["chat", str(gguf)])
        assert isinstance(chat.exception, EngineError)
        assert f"the file is cut off: it has {size:,} bytes" in str(chat.exception)
    gguf.unlink()
    gguf.symlink_to(starter)
    assert "✓ model" in (await check()).output


async def test_an_engine_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "xllamacpp.py").write_text(f"raise ImportError({loader!r})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = await check()
    assert result.exit_code == 1
    assert f"✗ engine: llama.cpp cannot start here: {loader}" in result.output
    assert "`apt-get install libgomp1`" in result.output
    assert "✓ model: tiny" in result.output  # nothing is wrong with that


async def test_a_store_that_cannot_be_opened(house: House) -> None:
    house.database.write_bytes(b"not a database " * 100)
    result = await check()
    assert result.exit_code == 1
    assert "✗ store: this file is not a database" in result.output


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://bot:S3cret@corp@h:port/guild", "the store's URL cannot be read"),
        ("postgresql://bot:S3cret/corp", "the store's URL cannot be read"),
        ("postgresql://bot:S3cret@h/guild?schema=public", "`schema` in the store's URL is no"),
        ("postgresql://bot:S3cret@h/guild?service=guild", "`service` in the store's URL is not"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_a_postgresql_that_cannot_be_opened(
    url: str, says: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUILDGPT_STORE", url)
    result = await check(*options)
    assert result.exit_code == 1
    assert says in result.output
    assert "S3cret" not in result.output
    assert "corp" not in result.output
    assert ("urllib.parse.quote" in result.output) == ("corp" in url)


# Starting it all the same


async def test_it_does_not_start_with_a_wrong_token(house: House) -> None:
    with pytest.raises(GuildError, match="does not know this token"):
        await house.open(token="not.the.token")


async def test_it_does_not_start_with_an_intent_that_is_off(house: House) -> None:
    house.fake.message_content = False
    with pytest.raises(GuildError, match="message content intent"):
        await house.open(message_content_intent=True)


async def test_a_token_that_is_reset_ends_it_in_words(house: House) -> None:
    await house.open()
    house.fake.drop(code=4004)
    await house.fake.until(lambda: house.ended)
    with pytest.raises(GuildError, match="code 4004"):
        await house.close()


async def test_without_a_token_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISCORD_TOKEN")
    result = await asyncio.to_thread(CliRunner().invoke, app, ["bot"])
    assert isinstance(result.exception, GuildError)
    assert "there is no bot token" in str(result.exception)


@pytest.mark.parametrize(("shards", "count"), [(None, 1), (3, 3), ("auto", 2)])
async def test_shards(house: House, shards: object, count: int) -> None:
    house.fake.gateway_server.shards = 2
    other = house.fake.add_guild("gardeners")
    roses = other.add_channel("roses")
    other.join(house.newcomer)
    await house.open(shards=shards)
    await house.fake.until(lambda: house.fake.connected == count)
    await house.ask("Here?")
    await house.ask("And here?", where=roses)
    await house.ask("And here?", where=house.fake.open_dm(house.newcomer))


async def test_the_system_text_is_counted(
    house: House, starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUILDGPT_MODEL", str(starter))
    monkeypatch.setenv("GUILDGPT_CONTEXT", "512")
    monkeypatch.setenv("GUILDGPT_SYSTEM", "You are a crab.")
    result = await check()
    assert result.exit_code == 0
    # In place of the system text of its own that the file's template has.
    assert re.search(r"✓ system: it takes 1\d of 512 tokens", result.output)
    monkeypatch.setenv("GUILDGPT_SYSTEM", "crab " * 400)
    result = await check()
    assert result.exit_code == 1
    assert re.search(r"✗ system: `system` takes \d{3} of the 512 tokens", result.output)
    assert "or raise `context`" in result.output
