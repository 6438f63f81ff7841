"""Who may ask."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from openai import AuthenticationError

from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.errors import GuildError
from guildgpt.serve import guard
from guildgpt.serve.guard import LARGEST_BODY, LARGEST_OF_PAGE, Held
from guildgpt.serve.problems import Problem
from guildgpt.serve.run import ServeSettings, fair_queue, read_keys, read_public, serve
from guildgpt.serve.web.chats import LONGEST_QUESTION
from guildgpt.talk.waiting import TooMany

from .conftest import Served, serving
from .slow import Slow

KEYS = {"anna": "key-of-anna-0123456789", "ben": "key-of-ben-0123456789"}
BODY = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def locked(engine: LlamaCppEngine) -> Iterator[Served]:
    with serving(engine, keys=KEYS) as there:
        yield there


def asked(served: Served, **headers: str) -> httpx.Response:
    url = f"{served.url}/v1/chat/completions"
    return httpx.post(url, json=BODY, headers=headers, timeout=120)


def test_a_key_of_several(locked: Served) -> None:
    for key in KEYS.values():
        assert asked(locked, Authorization=f"Bearer {key}").status_code == 200
    assert [one.id for one in locked.client(KEYS["ben"]).models.list()]
    with pytest.raises(AuthenticationError) as refused:
        locked.client("key-of-nobody-0123456789").models.list()
    assert refused.value.code == "invalid_api_key"
    reply = asked(locked)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "didn't provide" in reply.json()["error"]["message"]


def test_health_needs_no_key_and_metrics_do(locked: Served) -> None:
    assert httpx.get(f"{locked.url}/healthz").json() == {"status": "ok"}
    ready = httpx.get(f"{locked.url}/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert [*ready.json()["versions"].values()] == ["ok"]
    assert httpx.get(f"{locked.url}/metrics").status_code == 401
    keyed = {"Authorization": f"Bearer {KEYS['anna']}"}
    assert "guildgpt_waiting 0.0" in httpx.get(f"{locked.url}/metrics", headers=keyed).text


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_from_elsewhere_can_do_nothing(served: Served, origin: str) -> None:
    reply = asked(served, Origin=origin)
    assert reply.status_code == 403
    assert "access-control-allow-origin" not in reply.headers
    preflight = httpx.options(f"{served.url}/v1/chat/completions", headers={"Origin": origin})
    assert preflight.status_code == 403


def test_a_page_of_our_own_may_ask(served: Served) -> None:
    assert asked(served, Origin=served.url).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_name_that_somebody_else_gave_this_address(served: Served, host: str) -> None:
    """A page can have its own name lead to loopback; with keys it cannot know one."""
    assert asked(served, Host=host).status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "[::1]:8000", "127.0.0.1:9"])
def test_names_of_loopback(served: Served, host: str) -> None:
    assert asked(served, Host=host).status_code == 200


def test_a_body_that_is_too_long(served: Served) -> None:
    long = b"x" * (LARGEST_BODY + 1)

    def streamed() -> Iterator[bytes]:  # without a length
        yield from (long[: 2**20] for _ in range(5))

    for content in (long, streamed()):
        reply = httpx.post(f"{served.url}/v1/chat/completions", content=content, timeout=60)
        assert reply.status_code == 413
        assert "bytes at most" in reply.json()["error"]["message"]


def test_what_is_refused_is_not_kept(served: Served) -> None:
    """An exception that is raised again and again holds all that was there when it was."""
    for _ in range(3):
        content = b"x" * (LARGEST_BODY + 1)
        reply = httpx.post(f"{served.url}/v1/chat/completions", content=content, timeout=60)
        assert reply.status_code == 413
        assert asked(served, Origin="https://evil.example").status_code == 403
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, Problem) and one.__traceback__]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", {}),
        (f"anna={KEYS['anna']}, ben={KEYS['ben']}", KEYS),
        (KEYS["anna"], {"key": KEYS["anna"]}),
    ],
)
def test_keys_are_read(text: str, keys: dict[str, str]) -> None:
    assert read_keys(text) == keys


@pytest.mark.parametrize("text", ["anna=short", f"a={KEYS['anna']},a={KEYS['ben']}", "short"])
def test_keys_that_are_none_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(GuildError) as refused:
        read_keys(text)
    assert "short=" not in str(refused.value)
    assert KEYS["anna"] not in str(refused.value)


async def test_a_key_that_floods_takes_no_place_of_another() -> None:
    queue = fair_queue(ServeSettings(models=[], slots=1, waiting=4, keys=KEYS))
    order = []

    async def ask(caller: str) -> None:
        async with queue.turn(guild=None, user=caller):
            order.append(caller)
            await asyncio.sleep(0)

    async with queue.turn(guild=None, user="anna"):
        asked = [asyncio.create_task(ask("anna")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TooMany):
            await ask("anna")
        asked += [asyncio.create_task(ask("ben")) for _ in range(2)]
        await asyncio.sleep(0)
    await asyncio.gather(*asked)
    assert order == ["anna", "ben", "anna", "ben"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.example"])
def test_open_to_others_it_needs_a_key(host: str) -> None:
    def say(line: str) -> Any:
        raise AssertionError(line)

    with pytest.raises(GuildError, match="without a key anybody there could"):
        serve(ServeSettings(models=["starter"], host=host), say)
    with pytest.raises(GuildError, match=r"chat.example.org can be reached by others"):
        serve(ServeSettings(models=["starter"], public=("chat.example.org",)), say)


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_what_a_proxy_passes_on_is_not_this_machines(served: Served, name: str) -> None:
    """Most proxies ask by the address that they were given: the name says nothing."""
    reply = asked(served, **{name: "1.2.3.4"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "proxy")


def test_names_of_a_proxy() -> None:
    assert read_public(["Chat.Example.org", " a.example:8443"]) == (
        "chat.example.org",
        "a.example:8443",
    )
    for name in ("", "https://a.example", "a.example/chat", "user@a.example", "a.example:x"):
        with pytest.raises(GuildError, match="no name of a server"):
            read_public([name])


def test_nobody_holds_all_memory_for_long_requests() -> None:
    """A caller may hold as much as is left free, so another always finds some room."""
    held = Held(1000)
    with held.by("anna") as anna, held.by("ben") as ben:
        anna(500)
        with pytest.raises(Problem, match="ask again later") as refused:
            anna(1)
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) > 0
        ben(250)
        with held.by("anna") as more, pytest.raises(Problem):
            more(1)
        assert held.bytes == 750
    with held.by("ben") as ben:
        ben(500)
    assert held.bytes == 0


def test_strangers_leave_each_other_room(
    engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their addresses: of IPv6, where one has many, by the network's half."""
    monkeypatch.setattr(guard, "MOST_HELD", 100_000)

    def asks(served: Served, address: str, bytes: int) -> int:
        headers = {"X-Forwarded-For": address, "Content-Type": "application/json"}
        url = f"{served.url}/api/invitation"
        return httpx.post(
            url, content=b"x" * bytes, headers=headers | {"Origin": served.url}
        ).status_code

    with serving(engine) as served:
        place = urlsplit(served.url)
        for slow, same, other in (
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
        ):
            with socket.create_connection((place.hostname, place.port)) as slowly:
                head = f"POST /api/invitation HTTP/1.1\r\nHost: {place.netloc}\r\n"
                head += f"Origin: {served.url}\r\nX-Forwarded-For: {slow}\r\n"
                head += "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
                slowly.sendall(head.encode() + b"x" * 50_000)
                while "guildgpt_held_bytes 50000.0" not in httpx.get(f"{served.url}/metrics").text:
                    pass
                assert asks(served, same, 1) == 429
                assert asks(served, other, 40_000) == 400  # it is no JSON, but it was read
            while "guildgpt_held_bytes 0.0" not in httpx.get(f"{served.url}/metrics").text:
                pass


def test_the_page_sends_less_than_programs(served: Served) -> None:
    def sent(path: str, bytes: int) -> httpx.Response:
        headers = {"Origin": served.url, "Content-Type": "application/json"}
        return httpx.post(f"{served.url}{path}", content=b"x" * bytes, headers=headers)

    reply = sent("/api/invitation", LARGEST_OF_PAGE + 1)
    assert reply.status_code == 413
    assert "524,288 bytes at most" in reply.json()["error"]["message"]
    assert sent("/api/invitation", LARGEST_OF_PAGE).status_code == 400
    assert sent("/v1/chat/completions", LARGEST_OF_PAGE + 1).status_code == 400
    longest = {"text": "\N{SLIGHTLY SMILING FACE}" * LONGEST_QUESTION, "parent": "x" * 64}
    assert len(json.dumps(longest, ensure_ascii=False).encode()) < LARGEST_OF_PAGE


async def test_long_requests_that_wait_have_bounded_room(
    engine: LlamaCppEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "MOST_HELD", 400_000)
    slow = Slow(engine.tokenizer)
    messages = [{"role": "user", "content": "Hi"}]
    long = {"messages": messages, "of_no_meaning": "x" * 60_000}
    with serving(slow, workers=1, waiting=50) as served:
        queue = served.asking.queue

        async def asks(body: dict[str, Any]) -> asyncio.Task[httpx.Response]:
            """Asks, and waits until it is refused or has its place."""
            places = queue.running + queue.waiting
            asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            while not asking.done() and queue.running + queue.waiting == places:
                await asyncio.sleep(0.01)
            return asking

        async with httpx.AsyncClient(base_url=served.url, timeout=120) as client:
            asked = [await asks(long) for _ in range(3)]
            assert not any(one.done() for one in asked)
            refused = (await asks(long)).result()
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            assert not (await asks({"messages": messages})).done()  # there is room for it
            for one in asyncio.all_tasks() - {asyncio.current_task()}:
                one.cancel()
        told = ""
        while "guildgpt_held_bytes 0.0" not in told:
            told = httpx.get(f"{served.url}/metrics").text
    assert (queue.running, queue.waiting) == (0, 0)
    assert 'guildgpt_requests_total{status="429"} 1.0' in told
