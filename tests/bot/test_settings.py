"""Settings: from a file and the environment, every fault in words, and never the token."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from guildgpt.bot.operating.settings import (
    RULE_21,
    BotSettings,
    GuildSettings,
    SettingsError,
    load_settings,
)
from guildgpt.errors import GuildError

# In the form of a token, of no bot.
TOKEN = "MTIzNDU2Nzg5MDEyMzQ1Njc4.GAAAAA.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bot.toml"
    path.write_text('# mine\nmodel = "starter"\n\nblocked_users = [1, 2]\n', encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "line",
    [
        'store = ["postgresql://bot:S3cret@corp@host/guild"]',
        'store = { url = "postgresql://bot:S3cret/corp@host/guild" }',
        'store = "host=db password=S3cret"',
        "store = 'postgresql:bot:S3cret@host/guild'",
        'store = "postgresql://bot:S3cret@corp@host/guild',
        "store = postgresql://bot:S3cret@corp@host/guild",
    ],
)
def test_no_error_shows_the_stores_password(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "bot.toml", f"slots = 2\n{line}\n")
    with pytest.raises(GuildError) as caught:
        load_settings(path, {})
    shown = "".join(traceback.format_exception(caught.value))
    assert "S3cret" not in shown
    assert "corp" not in shown


def test_settings_do_not_show_the_stores_password() -> None:
    url = "postgresql://bot:S3cret@host/guild"
    loaded = load_settings(None, {"GUILDGPT_STORE": f" {url}\n"})
    assert loaded.store == url
    assert "S3cret" not in repr(loaded) + str(loaded)


def refused(path: Path | None, environment: dict[str, str] | None = None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environment or {})
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    return caught.value


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_those_of_a_careful_operator() -> None:
    loaded = load_settings(None, {})
    assert loaded.token.get_secret_value() == ""
    assert loaded.model is None
    assert loaded.store.startswith("sqlite:///")
    assert loaded.store.endswith("feedback.db")
    assert not loaded.train_on_members
    assert not loaded.message_content_intent
    assert loaded.moderation
    assert loaded.health_port is None
    assert loaded.health_host == "127.0.0.1"


def test_every_setting_is_described_and_the_rule_stands_beside_its_switch() -> None:
    for name, field in BotSettings.model_fields.items():
        assert field.description, name
    assert RULE_21 in (BotSettings.model_fields["train_on_members"].description or "")


def test_the_environment_goes_over_the_file(file: Path) -> None:
    loaded = load_settings(
        file,
        {
            "DISCORD_TOKEN": f" {TOKEN}\n",
            "GUILDGPT_TEMPERATURE": "0.2",
            "GUILDGPT_SHARDS": "auto",
            "GUILDGPT_LOG_LEVEL": "DEBUG",
            "GUILDGPT_LOG_JSON": "yes",
            "GUILDGPT_BLOCKED_USERS": "123456789012345678, 7",
            "GUILDGPT_BLOCKED_WORDS": '["one, two", "three"]',
            "GUILDGPT_STORE": "/var/lib/bot/feedback.db",
            "GUILDGPT_SYSTEM": " Be brief. ",
            "GUILDGPT_MODEL": "",  # docker compose passes on what is not set as empty
            "GUILDGPT_CACHE": "/tmp",
            "GUILDGPT_MEMBER_KEY": "ab" * 32,
            "GUILDGPT_ANOTHER_PROGRAM": "1",
            "HOME": "/root",
        },
    )
    assert loaded.token.get_secret_value() == TOKEN
    assert loaded.model == "starter"
    assert loaded.temperature == 0.2
    assert loaded.shards == "auto"
    assert (loaded.log_level, loaded.log_json) == ("debug", True)
    assert loaded.blocked_users == [123456789012345678, 7]
    assert loaded.blocked_words == ["one, two", "three"]
    assert loaded.store == "sqlite:////var/lib/bot/feedback.db"
    assert loaded.system == " Be brief. "
    assert load_settings(file, {"GUILDGPT_SHARDS": "4"}).shards == 4
    assert load_settings(file, {}).blocked_users == [1, 2]


def test_the_token_from_wherever_it_lies(tmp_path: Path) -> None:
    secret = written(tmp_path / "token", f"Bot {TOKEN}\n")
    for variable in ("DISCORD_TOKEN", "GUILDGPT_TOKEN"):
        assert load_settings(None, {variable: TOKEN}).token.get_secret_value() == TOKEN
        loaded = load_settings(None, {f"{variable}_FILE": str(secret)})
        assert loaded.token.get_secret_value() == TOKEN
    both = load_settings(None, {"GUILDGPT_TOKEN": TOKEN, "DISCORD_TOKEN": "another"})
    assert both.token.get_secret_value() == TOKEN
    in_file = load_settings(written(tmp_path / "a.toml", f'token = "{TOKEN}"\n'), {})
    assert in_file.token.get_secret_value() == TOKEN
    error = refused(None, {"DISCORD_TOKEN_FILE": str(tmp_path / "none")})
    assert error.what == "the token cannot be read: there is no such file"
    assert error.where == f"DISCORD_TOKEN_FILE ({tmp_path / 'none'})"
    secret.write_bytes(b"\xff\xfe\x00")
    assert "it is no text file" in refused(None, {"DISCORD_TOKEN_FILE": str(secret)}).what


def test_the_token_is_shown_nowhere(tmp_path: Path) -> None:
    loaded = load_settings(None, {"DISCORD_TOKEN": TOKEN})
    for shown in (repr(loaded), str(loaded), loaded.model_dump_json(), f"{loaded.model_dump()}"):
        assert TOKEN not in shown
    path = tmp_path / "bot.toml"
    refused(None, {"DISCORD_TOKEN": f"{TOKEN} {TOKEN}"})
    refused(written(path, f'token = ["{TOKEN}"]'), {})
    refused(written(path, f'tokn = "{TOKEN}"'), {})
    refused(written(path, f'token = "{TOKEN}'), {})
    refused(written(path, f'health_port = "{TOKEN}"'), {})
    refused(written(path, f'token = "{TOKEN}"\nslots = 0'), {})
    with pytest.raises(ValidationError) as caught:
        BotSettings(token=[TOKEN])  # type: ignore[arg-type]
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "what", "remedy"),
    [
        (
            "temprature = 1",
            1,
            "unknown key `temprature`",
            "Did you mean `temperature`? Known here: ",
        ),
        (
            "\n\n[bot]\nmodel = 'x'",
            3,
            "unknown key `bot`",
            "Known here: token, model, ",
        ),
        ("zzz = 1", 1, "unknown key `zzz`", "Known here: "),
        (
            "# slots\nslots = 'x'",
            2,
            "`slots` is 'x': input should be a valid integer",
            "`slots`: Ans",
        ),
        ("slots = 0", 1, "`slots` is 0: input should be greater than or equal to 1", "`slots`: "),
        ("top_p = 1.5", 1, "`top_p` is 1.5: input should be less than", "`top_p`: "),
        ("shards = 'many'", 1, "`shards` is 'many': ", "`shards`: A number of shards, or `auto`"),
        ("log_level = 'loud'", 1, "`log_level` is 'loud': input should be 'debug', ", ""),
        ("blocked_users = ['x']", 1, "`blocked_users` is 'x': ", "`blocked_users`: Discord ids"),
        ("blocked_users = 'x'", 1, "`blocked_users` is 'x': input should be a valid list", ""),
        ("blocked_words = ['!']", 1, "`blocked_words` is ['!']: '!' holds no letters", ""),
        ("token = 'a b'", 1, "`token` is not what it should be: a token is one word", "`token`: "),
        ("model = true", 1, "`model` is True: input should be a valid string", "`model`: "),
    ],
)
def test_what_is_wrong_in_the_file_is_said_in_words(
    tmp_path: Path, text: str, line: int, what: str, remedy: str
) -> None:
    path = written(tmp_path / "bot.toml", text)
    error = refused(path)
    assert error.where == f"{path}:{line}"
    assert error.what.startswith(what)
    assert (error.remedy or "").startswith(remedy)


def test_several_problems_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "bot.toml", "slots = 0\nworkers = 0\nblocked_users = ['x', 'y']\n")
    assert refused(path).what.endswith("(and 2 more problems)")


def test_what_is_wrong_in_the_environment_is_said_with_its_variable() -> None:
    error = refused(None, {"GUILDGPT_SLOTS": "many"})
    assert (error.where, error.what[:20]) == ("GUILDGPT_SLOTS", "`slots` is 'many': i")
    error = refused(None, {"GUILDGPT_LOGLEVEL": "debug"})
    assert error.where == "GUILDGPT_LOGLEVEL"
    assert error.remedy == "Did you mean GUILDGPT_LOG_LEVEL?"
    assert refused(None, {"GUILDGPT_BLOCKED_WORDS": "[a"}).what == "this is no list"
    assert refused(None, {"DISCORD_TOKEN": "a b"}).where == "DISCORD_TOKEN"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = refused(tmp_path / "none.toml")
    assert missing.what == "the settings cannot be read: there is no such file"
    assert "cannot be read" in refused(tmp_path).what
    broken = refused(written(tmp_path / "b.toml", "model = 'x'\nslots =\n"))
    assert broken.where == f"{tmp_path / 'b.toml'}:2"
    assert broken.what.startswith("this is not TOML: ")
    (tmp_path / "b.toml").write_bytes(b"\xef\xbb\xbfslots = 2\r\n")
    assert load_settings(tmp_path / "b.toml", {}).slots == 2


def test_settings_do_not_change() -> None:
    loaded = load_settings(None, {})
    with pytest.raises(ValidationError):
        loaded.slots = 9  # type: ignore[misc]


def test_a_guilds_settings_go_into_the_store_and_come_back() -> None:
    assert GuildSettings().model_dump(exclude_defaults=True) == {}
    mine = GuildSettings(channels=[5], system="Be kind.", feedback=False)
    assert mine.model_dump(exclude_defaults=True) == {
        "channels": [5],
        "system": "Be kind.",
        "feedback": False,
    }
    assert GuildSettings.from_dict(mine.model_dump(exclude_defaults=True)) == mine


def test_what_a_newer_version_wrote_is_kept() -> None:
    stored = {"system": "x", "colour": {"of": "buttons"}}
    assert GuildSettings.from_dict(stored).model_dump(exclude_defaults=True) == stored


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["channels", "system", "feedback", "new", "model_x"]), json_values
    )
)
def test_no_stored_value_breaks_a_guild(stored: dict[str, object]) -> None:
    once = GuildSettings.from_dict(stored)
    assert GuildSettings.from_dict(once.model_dump(exclude_defaults=True)) == once
    assert set(stored) - {"channels", "system", "feedback"} <= set(
        once.model_dump(exclude_defaults=True)
    )
