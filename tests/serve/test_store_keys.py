"""Keys in the store: a server that runs takes them, and forgets them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from openai import AuthenticationError, RateLimitError

from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.errors import GuildError
from guildgpt.feedback.storage.location import KEY_VARIABLE
from guildgpt.feedback.store import Store
from guildgpt.serve.run import ServeSettings, serve

from .conftest import STORE_KEY, Served, serving
from .slow import Slow, until

T = TypeVar("T")
BODY = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


class Elsewhere:
    """The store as another process has it: a command's, say."""

    def __init__(self, url: str):
        self.url = url

    def __call__(self, work: Callable[[Store], Awaitable[T]]) -> T:
        async def run() -> T:
            async with await Store.open(self.url, key=STORE_KEY) as store:
                return await work(store)

        return asyncio.run(run())


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(f"sqlite:///{tmp_path / 'feedback.db'}")


@pytest.fixture
def quick(engine: LlamaCppEngine) -> Slow:
    writer = Slow(engine.tokenizer, words=2)
    writer.pause = 0
    return writer


@pytest.fixture
def there(quick: Slow, elsewhere: Elsewhere) -> Iterator[Served]:
    with serving(quick, store=elsewhere.url) as opened:
        yield opened


def status(served: Served, key: str = "") -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"{served.url}/v1/chat/completions"
    return httpx.post(url, json=BODY, headers=headers, timeout=60).status_code


def test_from_the_first_key_on_everybody_needs_one(there: Served, elsewhere: Elsewhere) -> None:
    assert status(there) == 200
    secret = elsewhere(lambda store: store.keys.add("lab"))
    until(lambda: status(there) == 401, 10)
    assert status(there, secret) == 200
    assert [one.id for one in there.client(secret).models.list()]
    with pytest.raises(AuthenticationError):
        there.client("gg-of-nobody").models.list()
    elsewhere(lambda store: store.keys.end("lab"))
    until(lambda: status(there, secret) != 401 and status(there) == 200, 10)


def test_a_key_that_was_taken_away_is_refused_within_seconds(
    there: Served, elsewhere: Elsewhere
) -> None:
    secrets = [elsewhere(lambda store, name=name: store.keys.add(name)) for name in "ab"]  # type: ignore[misc]
    until(lambda: status(there, secrets[0]) == 200 and status(there) == 401, 10)
    elsewhere(lambda store: store.keys.end("a"))
    until(lambda: status(there, secrets[0]) == 401, 10)
    assert status(there, secrets[1]) == 200


def test_limits_are_told_as_clients_know_them(there: Served, elsewhere: Elsewhere) -> None:
    secret = elsewhere(lambda store: store.keys.add("lab", 2, 1000))
    until(lambda: status(there) == 401, 10)
    client = there.client(secret)

    def ask_on() -> None:
        for _ in range(10):  # a minute may end on the way, but not four
            client.responses.create(model="guildgpt", input="Hi")

    with pytest.raises(RateLimitError) as refused:
        ask_on()
    assert refused.value.code == "rate_limit_exceeded"
    assert "2 times a minute" in refused.value.message
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    assert [one.id for one in client.models.list()]  # looking costs nothing


def test_limits_hold_for_two_servers_together(
    there: Served, quick: Slow, elsewhere: Elsewhere
) -> None:
    secret = elsewhere(lambda store: store.keys.add("lab", tokens_per_day=60))
    with serving(quick, store=elsewhere.url) as other:
        until(lambda: status(there) == status(other) == 401, 10)
        answered = 0
        while answered < 100:
            told = [status(one, secret) for one in (there, other)]
            answered += told.count(200)
            if told == [429, 429]:
                break
        assert 0 < answered < 20  # of some ten tokens each
    [used] = elsewhere(lambda store: store.keys.used_today()).values()
    assert used["requests"] == answered
    assert used["tokens"] >= 60


def test_what_is_asked_is_counted_in_streams_too(there: Served, elsewhere: Elsewhere) -> None:
    secret = elsewhere(lambda store: store.keys.add("lab"))
    until(lambda: status(there) == 401, 10)
    client = there.client(secret)
    stream = client.chat.completions.create(
        model="guildgpt",
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    usages = [chunk.usage for chunk in stream if chunk.usage]
    [usage] = usages
    until(lambda: status(there, secret) == 200 and elsewhere(lambda s: s.keys.used_today()), 10)
    [used] = elsewhere(lambda store: store.keys.used_today()).values()
    assert used["tokens"] >= usage.total_tokens


@pytest.mark.parametrize("let_in", ["key", "link"])
def test_open_to_others_with_keys_in_the_store_alone(
    elsewhere: Elsewhere, let_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on as far as to its model, which is none."""
    monkeypatch.setenv(KEY_VARIABLE, "6f" * 32)
    elsewhere.url = elsewhere.url.replace("feedback", "other")
    settings = ServeSettings(models=["no such model"], host="0.0.0.0", port=0, store=elsewhere.url)
    with pytest.raises(GuildError, match="without a key anybody there could") as refused:
        serve(settings, lambda line: None)
    assert "guildgpt serve keys add" in str(refused.value.remedy)

    async def let() -> None:
        async with await Store.open(elsewhere.url, key=b"o" * 32) as store:
            await (store.keys.add("lab") if let_in == "key" else store.accounts.invite("voter"))

    asyncio.run(let())
    with pytest.raises(GuildError, match="no such model"):
        serve(settings, lambda line: None)
