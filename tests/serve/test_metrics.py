"""What a server counts."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import pytest
from engines.conftest import file_tokenizer  # noqa: F401 (a fixture)
from openai import InternalServerError

from guildgpt.chat import FileTokenizer

from .releasing import StandIns, releasing
from .slow import until
from .test_serving import HEAD

ASKED = [{"role": "user", "content": "Tell me a story."}]


def test_answers_are_counted_by_who_wrote_them_and_how_they_ended(
    file_tokenizer: FileTokenizer,  # noqa: F811
    tmp_path: Path,
) -> None:
    stand_ins = StandIns(file_tokenizer)
    with releasing(stand_ins, tmp_path / "feedback.db", "mine") as served:
        client = served.client()

        def counted() -> dict[str, float]:
            lines = httpx.get(f"{served.url}/metrics", timeout=60).text.splitlines()
            pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
            return {name: float(value) for name, _, value in pairs}

        def answers(reason: str) -> float:
            mine = f'guildgpt_answers_total{{finish_reason="{reason}",version="mine@00000000"}}'
            return counted().get(mine, 0)

        reply = client.chat.completions.create(model="guildgpt", messages=ASKED, n=3)
        told = counted()
        assert answers("stop") == 3
        tokens = 'guildgpt_tokens_total{side="%s",version="mine@00000000"}'
        assert reply.usage
        assert told[tokens % "answer"] == reply.usage.completion_tokens
        assert told[tokens % "prompt"] == reply.usage.prompt_tokens
        assert told["guildgpt_first_token_seconds_count"] == 1
        assert told['guildgpt_version_open{version="mine@00000000"}'] == 1
        assert told['guildgpt_requests_total{status="200"}'] >= 1
        assert told["process_resident_memory_bytes"] > 0

        [engine] = stand_ins.engines
        engine.dies_after = 2
        with pytest.raises(InternalServerError, match="ask again"):
            client.chat.completions.create(model="guildgpt", messages=ASKED)
        assert answers("error") == 1

        engine.dies_after = None
        [*_, engine] = stand_ins.engines
        engine.words = 10**6
        body = json.dumps({"messages": ASKED, "stream": True}).encode()
        port = int(served.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(HEAD % len(body) + body)
            until(lambda: engine.running)
            while b"mine" not in line.recv(4096):
                pass
        until(lambda: answers("cancelled") == 1)
        assert counted()["guildgpt_answering"] == 0
