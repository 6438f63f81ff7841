"""What an operator sets for the bot: one TOML file, over it the environment. And what a guild sets.

The token is read like the rest, and shown nowhere: not in a repr, not in an error, not in a log.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from guildgpt import toml_file
from guildgpt.bot.operating.logs import without_secrets
from guildgpt.engines.served_at import KEY_VARIABLE, ServedAt
from guildgpt.errors import EngineError, GuildError
from guildgpt.feedback.people.policy import RULE_21
from guildgpt.feedback.storage.location import as_url, default_store
from guildgpt.text.words import WordMatcher

PREFIX = "GUILDGPT_"
TOKENS = ("GUILDGPT_TOKEN", "DISCORD_TOKEN")  # the first that is set counts; also with _FILE
# Ours, but no fields of these settings.
_OTHERS = ("GUILDGPT_CACHE", KEY_VARIABLE, "GUILDGPT_MEMBER_KEY", *TOKENS, "GUILDGPT_TOKEN_FILE")
_SECRET = ("token", "store")  # whose values no error shows
LONGEST_SYSTEM = 4000  # characters, what a modal can hold


class SettingsError(GuildError):
    """Settings that do not say something the bot can do."""


def _is_address(engine: str | None) -> str | None:
    try:
        if engine:
            ServedAt.read(engine)
    except EngineError as error:
        raise ValueError(error.what) from error
    return engine


class BotSettings(BaseSettings):
    """Everything an operator can set. Each is a key of the TOML file, or GUILDGPT_<KEY>."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    token: SecretStr = Field(
        SecretStr(""), description="The bot's token, from Discord's developer portal."
    )
    model: str | None = Field(
        None,
        description="A model folder, a GGUF file or `starter`; none: your latest model. What is "
        "released (`guildgpt versions`) goes before it.",
    )
    engine: Annotated[str | None, AfterValidator(_is_address)] = Field(
        None,
        description="The address of an OpenAI-compatible server that runs the model: vLLM, "
        "llama-server, GuildGPT. It serves each released version under the version's id, or one "
        f"alone. {KEY_VARIABLE} in the environment holds its key. None: the bot runs the model.",
    )
    store: Annotated[str, AfterValidator(as_url)] = Field(
        default_factory=default_store,
        min_length=1,
        repr=False,  # it may hold a password
        description="Where feedback is kept: an SQLite file, or postgresql://…",
    )
    system: str = Field(
        "",
        max_length=LONGEST_SYSTEM,
        description="What the model is told about itself; a guild's own text takes its place.",
    )
    temperature: float = Field(0.7, ge=0, le=5, description="0 always takes the likeliest token.")
    top_p: float = Field(0.95, gt=0, le=1, description="Of how much probability one is drawn.")
    max_tokens: int = Field(512, ge=1, description="Tokens of an answer at most.")
    context: int = Field(
        4096, ge=256, description="Tokens of a conversation at most, its answer included."
    )
    slots: int = Field(4, ge=1, description="Answers that the engine generates side by side.")
    threads: int | None = Field(
        None,
        ge=1,
        description="Cores that the engine computes on; none: those that are idle when it starts.",
    )
    workers: int = Field(4, ge=1, description="Questions that are answered at once; see `slots`.")
    shards: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None, description="A number of shards, or `auto` to ask Discord; none: no sharding."
    )
    health_host: str = Field("127.0.0.1", description="Address of the health endpoint.")
    health_port: int | None = Field(
        None, ge=0, le=65535, description="Its port; 0: any free one; none: no endpoint."
    )
    retention_days: int = Field(
        180, ge=1, description="Conversations older than that are dropped from the store."
    )
    left_guild_days: int = Field(
        30,
        ge=0,
        description="What was said in a server is dropped so many days after the bot was taken out "
        "of it; coming back in time keeps it.",
    )
    attachments: int = Field(4, ge=0, description="Text files read of one message; 0: none.")
    attachment_bytes: int = Field(32_768, ge=1, description="Of each file at most.")
    queue_bound: int = Field(
        100, ge=0, description="Questions that wait; further ones are told how long it would take."
    )
    waiting_per_user: int = Field(1, ge=1, description="Questions of one member that wait.")
    questions_per_user: int = Field(
        10, ge=1, description="Questions of one member in `questions_seconds`."
    )
    questions_seconds: float = Field(60.0, gt=0, description="See `questions_per_user`.")
    message_content_intent: bool = Field(
        False,
        description="Ask Discord for the text of messages that do not mention the bot, so that "
        "threads need no mention. It must be switched on in the developer portal as well.",
    )
    blocked_users: list[int] = Field([], description="Discord ids of people who get no answer.")
    blocked_words: list[str] = Field(
        [], description="Words and phrases that are neither answered nor shown."
    )
    moderation: bool = Field(True, description="Whether the built-in word list is used.")
    train_on_members: bool = Field(
        False,
        description="Whether the text of members who said `train` may leave in training exports. "
        f"{RULE_21} Switch it on only with that permission.",
    )
    feedback: bool = Field(True, description="Whether there are rating buttons under answers.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What is logged; never the text of a message."
    )
    log_json: bool = Field(False, description="Logs as one JSON object a line.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: Any,
        **named: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is called with: `load_settings` says whose environment counts."""
        return (init_settings,)

    @field_validator("token")
    @classmethod
    def _looks_like_a_token(cls, token: SecretStr) -> SecretStr:
        bare = token.get_secret_value().strip().removeprefix("Bot ").strip()
        if re.search(r"\s", bare):
            raise ValueError("a token is one word, without spaces")
        return SecretStr(bare)

    @field_validator("blocked_words")
    @classmethod
    def _can_be_looked_for(cls, words: list[str]) -> list[str]:
        WordMatcher(words)
        return words

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_lower_case(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level


class RoundPlan(BaseModel):
    """The rounds of one channel. Times are Discord's, in whole seconds since 1970."""

    model_config = ConfigDict(extra="allow", frozen=True)

    every: Literal["daily", "weekly"] | None = None
    next_at: int = 0
    """When the next one of these opens."""
    once: int | None = None
    """When one closes that is wanted now."""
    stopped: bool = False
    """They were switched off, for the bot may not write there."""


class GuildSettings(BaseModel):
    """What the admins of one guild set; None is the operator's choice.

    Keys of a newer version are kept as they are, so that going back and forth loses nothing.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    channels: list[int] = []
    """Where the bot answers; empty: everywhere it may write."""
    channels_deleted: bool = False
    """All that were on the list were deleted in Discord: it is empty for that."""
    system: Annotated[str, Field(max_length=LONGEST_SYSTEM)] | None = None
    channel_systems: dict[int, Annotated[str, Field(max_length=LONGEST_SYSTEM)]] = {}
    """The same for single channels and threads."""
    feedback: bool | None = None
    reports_channel: int | None = None
    """Where new reports are told; None: nowhere, `/reports` shows them."""
    rounds: dict[int, RoundPlan] = {}
    """The rounds of each channel that has any."""
    rounds_deleted: bool = False
    """A channel with rounds was deleted in Discord."""

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Settings as they are stored; a value that cannot be one counts as not set."""
        kept = dict(record)
        try:
            return cls.model_validate(kept)
        except ValidationError as error:
            for key in {problem["loc"][0] for problem in error.errors()}:
                kept.pop(str(key), None)
            return cls.model_validate(kept)


def load_settings(path: Path | None, environment: Mapping[str, str]) -> BotSettings:
    """The settings in a TOML file (if one is given), over them those of the environment.

    Variables: GUILDGPT_<KEY> (lists with commas), for the token DISCORD_TOKEN or GUILDGPT_TOKEN,
    or either with _FILE for a file that holds it; without any of these it is empty. Empty
    variables count as not set. Raises `SettingsError` with file and line, or the variable, and the
    nearest known key.
    """
    text = _read(path, "the settings") if path else ""
    values = toml_file.parse(
        text, path, SettingsError, example='model = "starter"', hidden=without_secrets
    )
    _look_for_typing_errors(environment)
    said = _Variables(environment)()
    variables = {key: PREFIX + key.upper() for key in said}
    if token := _token(environment):
        variables["token"], said["token"] = token

    def where(keys: Sequence[str]) -> str | None:
        in_file = f"{path}:{toml_file.line_of(text, keys)}" if path else None
        return variables.get(keys[0], in_file)

    try:
        return BotSettings.model_validate({**values, **said})
    except ValidationError as error:
        explained = toml_file.explained(
            error, BotSettings, SettingsError, where, flat=True, shown=_shown
        )
    raise explained  # outside the handler: what pydantic says would show the values


class _Variables(EnvSettingsSource):
    """The settings in an environment, without the blanks around them."""

    def __init__(self, environment: Mapping[str, str]):
        super().__init__(BotSettings)
        self.env_vars = {
            name.lower(): value if name == f"{PREFIX}SYSTEM" else value.strip()
            for name, value in environment.items()
            if name.startswith(PREFIX) and value.strip()
        }

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """A list: its values with commas between, or as TOML writes it."""
        if not value.startswith("["):
            return [part.strip() for part in value.split(",") if part.strip()]
        try:
            return tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            raise SettingsError(
                "this is no list",
                where=PREFIX + field_name.upper(),
                remedy="Write its values with commas between.",
            ) from None


def _look_for_typing_errors(environment: Mapping[str, str]) -> None:
    """Refuse a variable that is nearly one of ours; any other may belong to something else."""
    known = [PREFIX + key.upper() for key in BotSettings.model_fields if key != "token"]
    ours = {name for name, said in environment.items() if name.startswith(PREFIX) and said.strip()}
    for variable in sorted(ours - {*known, *_OTHERS}):
        if near := difflib.get_close_matches(variable, known, n=1, cutoff=0.8):
            raise SettingsError(
                "unknown variable", where=variable, remedy=f"Did you mean {near[0]}?"
            )


def _token(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable that gives the token, and the token."""
    for variable in TOKENS:
        if token := environment.get(variable, "").strip():
            return variable, token
        if file := environment.get(f"{variable}_FILE", "").strip():
            return f"{variable}_FILE", _read(Path(file), "the token", f"{variable}_FILE").strip()
    return None


def _read(path: Path, what: str, where: str | None = None) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        reason = "there is no such file"
    except OSError as error:
        reason = str(error.strerror)
    except UnicodeDecodeError:
        reason = "it is no text file"
    place = f"{where} ({path})" if where else path
    raise SettingsError(f"{what} cannot be read: {reason}", where=place)


def _shown(key: str, value: object) -> str:
    if key in _SECRET:
        return "not what it should be"
    return toml_file.shortened(without_secrets(repr(value)))
