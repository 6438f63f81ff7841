"""Two servers on one PostgreSQL: nothing lies in one of them that the other would miss."""

from __future__ import annotations

import httpx
import pytest
from engines.conftest import file_tokenizer  # noqa: F401 (a fixture)

from guildgpt.chat import FileTokenizer
from guildgpt.talk import following

from .releasing import StandIns, releasing
from .slow import until
from .test_releases import open_there, who


@pytest.fixture
def stand_ins(
    file_tokenizer: FileTokenizer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> StandIns:
    monkeypatch.setattr(following, "FOLLOW_SECONDS", 0.05)
    return StandIns(file_tokenizer)


def test_both_take_up_a_release(stand_ins: StandIns, database: str) -> None:
    with releasing(stand_ins, database) as one, releasing(stand_ins, database) as other:
        one.release(both=1)
        until(lambda: open_there(one) == open_there(other) == [one.ids["both"]])
        assert (who(one), who(other)) == ("both", "both")


def test_a_key_that_one_made_opens_the_other_until_it_is_ended(
    stand_ins: StandIns, database: str
) -> None:
    with (
        releasing(stand_ins, database, "mine") as one,
        releasing(stand_ins, database, "mine") as other,
    ):
        secret = one.run(one.store.keys.add("anna"))
        for served in (one, other):
            models = f"{served.url}/v1/models"
            until(lambda url=models: httpx.get(url).status_code == 401)
            assert [model.id for model in served.client(secret).models.list()]
        one.run(one.store.keys.end("anna"))
        until(lambda: httpx.get(f"{other.url}/v1/models").status_code == 200)


def test_who_signed_in_at_one_is_known_to_the_other_and_so_are_their_chats(
    stand_ins: StandIns, database: str
) -> None:
    with (
        releasing(stand_ins, database, "mine") as one,
        releasing(stand_ins, database, "mine") as other,
    ):
        token = other.run(other.store.accounts.invite("voter"))
        coming = {"token": token, "name": "Anna"}
        joined = httpx.post(f"{one.url}/api/join", json=coming, headers={"Origin": one.url})
        cookies = joined.raise_for_status().cookies
        assert httpx.get(f"{other.url}/api/me").status_code == 401
        assert httpx.get(f"{other.url}/api/me", cookies=cookies).json()["name"] == "Anna"

        def asks(url: str, body: dict[str, object]) -> httpx.Response:
            origin = {"Origin": url.partition("/api")[0]}
            return httpx.post(url, json=body, headers=origin, cookies=cookies, timeout=60)

        chat = asks(f"{one.url}/api/chats", {}).json()["id"]
        told = asks(f"{other.url}/api/chats/{chat}/questions", {"text": "Who?", "parent": None})
        assert "mine@00000000" in told.text
        read = httpx.get(f"{one.url}/api/chats/{chat}", cookies=cookies).json()
        assert [one["role"] for one in read["messages"]] == ["user", "assistant"]
