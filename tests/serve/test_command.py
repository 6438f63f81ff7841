"""`guildgpt serve` as a process: signals, addresses, and a model that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from bases.families import BY_NAME, published_base
from bases.folders import PAST, config
from transformers import AutoTokenizer

from guildgpt.bases.base import load_base
from guildgpt.model.folder import write_model_folder
from tests.ports import free_port

ASKED = [{"role": "user", "content": "Tell me a story."}]
# So hot that hardly anything ends an answer but its length.
LONG = {
    "prompt": "The",
    "max_tokens": 400,
    "temperature": 5,
    "top_k": 0,
    "top_p": 1,
    "stream": True,
}


def command(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "guildgpt", "serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )


def test_the_command_serves_and_ends_at_a_signal(starter: Path) -> None:
    port = free_port()
    running = command("starter", "--port", port, "--context", 512)
    try:
        assert running.stdout
        told = ""
        while "API at " not in told:
            told = running.stdout.readline()
            assert told, "it did not start"
        assert f"http://127.0.0.1:{port}/v1" in told
        url = f"http://127.0.0.1:{port}/v1"
        body: dict[str, Any] = {"messages": ASKED, "max_tokens": 2}
        ready = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=60)
        assert ready.json()["ready"] is True
        assert httpx.post(f"{url}/chat/completions", json=body, timeout=120).status_code == 200
        second = command("starter", "--port", port)
        said, _ = second.communicate(timeout=120)
        assert second.returncode == 1
        assert f"port {port} of 127.0.0.1 is taken" in " ".join(said.split())
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=120)
        assert "Traceback" not in said
    finally:
        running.kill()
        running.wait()


@contextmanager
def running(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command while it serves, and where."""
    process = command(*arguments, "--port", free_port(), "--context", 512, **environment)
    try:
        assert process.stdout
        told = ""
        while "API at " not in told:
            told = process.stdout.readline()
            assert told, "it did not start"
        yield process, told.split()[-1]
    finally:
        process.kill()
        process.wait()


def test_on_every_address_it_says_one_to_go_to(starter: Path, tmp_path: Path) -> None:
    arguments = (starter, "--host", "0.0.0.0", "--store", tmp_path / "feedback.db")
    key = "key-of-anna-0123456789"
    with running(*arguments, GUILDGPT_SERVE_KEYS=f"anna={key}") as (process, url):
        assert "//127.0.0.1:" in url
        assert process.stdout
        assert "Others reach both" in process.stdout.readline()
        asked = httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=60)
        assert asked.status_code == 200
        assert httpx.get(f"{url}/models", timeout=60).status_code == 401


@pytest.mark.parametrize("name", ["llama-3.2", "granite-3.3"])
def test_a_model_is_asked_by_its_bases_own_template(tmp_path: Path, name: str) -> None:
    """As transformers writes it, its beginning of text included: the greedy answer to these ids."""
    base = load_base(config(published_base(tmp_path / "base", BY_NAME[name])))
    folder = write_model_folder(
        tmp_path / "model", base.model, base.chat, context=256, provenance=PAST, recipe={},
        card="# x", gguf=("F32",),
    )  # fmt: skip
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        ASKED, add_generation_prompt=True, return_dict=False
    )
    greedy = base.model.eval().generate(
        torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=base.chat.eos_id
    )[0, len(ids) :]
    body = {"messages": ASKED, "max_tokens": 8, "temperature": 0}
    with running(folder, "--store", tmp_path / "feedback.db") as (_, url):
        said = httpx.post(f"{url}/chat/completions", json=body, timeout=120).json()
    assert said["usage"]["prompt_tokens"] == len(ids)
    wanted = base.chat.tokenizer.decode(greedy.tolist()).rstrip("\ufffd")  # half a character
    assert wanted
    assert said["choices"][0]["message"]["content"] == wanted


def choices(line: str) -> list[dict[str, Any]]:
    return json.loads(line.removeprefix("data: ")).get("choices", [])


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_its_model_is_killed_within_a_stream_and_a_signal_ends_it_after_one(
    starter: Path, host: str
) -> None:
    with running(starter, "--host", host) as (process, url), httpx.Client(timeout=120) as client:
        with client.stream("POST", f"{url}/completions", json=LONG) as stream:
            lines = filter(None, stream.iter_lines())
            assert choices(next(lines))
            [model] = psutil.Process(process.pid).children()
            model.send_signal(signal.SIGKILL)
            *_, last = lines
        assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
        body = {"messages": ASKED, "max_tokens": 2}
        assert client.post(f"{url}/chat/completions", json=body).status_code == 200
        with client.stream("POST", f"{url}/completions", json=LONG | {"max_tokens": 60}) as stream:
            lines = filter(None, stream.iter_lines())
            assert choices(next(lines))
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)  # whoever is impatient waits all the same
            *_, end, done = lines
        assert choices(end)[0]["finish_reason"] == "length"
        assert done == "data: [DONE]"
        said, _ = process.communicate(timeout=120)
        assert "Traceback" not in said


def test_whoever_interrupts_it_twice_does_not_wait(starter: Path) -> None:
    with running(starter) as (process, url), httpx.Client(timeout=120) as client:
        [model] = psutil.Process(process.pid).children()
        with client.stream("POST", f"{url}/completions", json=LONG) as stream:
            lines = filter(None, stream.iter_lines())
            assert choices(next(lines))
            process.send_signal(signal.SIGINT)
            assert [choices(next(lines)) for _ in range(20)]  # it goes on
            process.send_signal(signal.SIGINT)
            heard: list[str] = []
            with suppress(httpx.RemoteProtocolError, httpx.ReadError):
                heard.extend(lines)
            assert "data: [DONE]" not in heard
        process.communicate(timeout=120)
        model.wait(60)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "there is no model called 'nowhere'"),
        (["keys", "add", "anna"], "keys is a command, and stands before all options"),
        (["--host", "192.0.2.1"], "192.0.2.1 is not to be had: Cannot assign requested address"),
        (["starter", "--store", "mysql://here/there"], "The store does not open"),
    ],
)
def test_what_a_newcomer_gets_wrong(arguments: list[str], says: str) -> None:
    process = command("--port", 0, *arguments)
    assert process.stdout
    said = ""
    while says not in " ".join(said.split()):
        said += (line := process.stdout.readline())
        assert line, said
    process.kill()
    process.communicate()
    assert "Traceback" not in said


def test_a_truncated_model(starter: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(starter.read_bytes()[:1_000_000])
    process = command(cut, "--port", 0)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "cut.gguf" in said
    assert "Traceback" not in said
