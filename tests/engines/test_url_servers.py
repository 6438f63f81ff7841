"""Servers by URL that are not what they should be."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from guildgpt.chat import FileTokenizer
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.engines.served_at import ServedAt
from guildgpt.engines.server_link import ServerBusy
from guildgpt.engines.url_engine import UrlEngine
from guildgpt.errors import EngineDied, EngineError

Handler = BaseHTTPRequestHandler
ONE = {"data": [{"id": "guild"}]}


def reply(
    handler: Handler, body: bytes, status: int = 200, kind: str = "application/json", **more: str
) -> None:
    handler.send_response(status)
    more = {"Content_Type": kind, "Content_Length": str(len(body))} | more
    for name, value in more.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def server(
    models: Callable[[Handler], None],
    stream: Callable[[Handler], None] = lambda handler: None,
    wrap: Callable[[ThreadingHTTPServer], None] = lambda there: None,
) -> Iterator[str]:
    """A server whose models and whose streams are answered so; it takes ids."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            models(self)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/tokenize":
                reply(self, b"{}", 404)
            elif asked.get("stream"):
                stream(self)
            else:
                read = {"usage": {"prompt_tokens": len(asked["prompt"])}}
                reply(self, json.dumps(read).encode())

        def log_message(self, *told: object) -> None:
            pass

    there = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    wrap(there)
    thread = Thread(target=there.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{there.server_port}"
    finally:
        there.shutdown()
        there.server_close()


def listed(body: object) -> Callable[[Handler], None]:
    return lambda handler: reply(handler, json.dumps(body).encode())


def opened(address: str, tokenizer: FileTokenizer) -> UrlEngine:
    return UrlEngine(ServedAt.read(address), tokenizer, [2])


MODELS = {
    "a page": (
        lambda handler: reply(handler, b"<html>", kind="text/html"),
        r"no OpenAI-compatible server .*text/html",
    ),
    "a list of nothing": (listed({"data": []}), "serves 0 models"),
    "no list": (listed({"data": 4}), "no OpenAI-compatible server .*lists no models"),
    "no object": (listed([]), "no OpenAI-compatible server"),
    "models without names": (listed({"data": [{}]}), "no OpenAI-compatible server"),
    "a redirect": (
        lambda handler: reply(handler, b"", 308, Location="https://there.example/v1/models"),
        "see https://there.example/v1/models",
    ),
    "broken": (lambda handler: reply(handler, b"", 500), "nobody answers"),
    "half an answer": (lambda handler: reply(handler, b"{}", Content_Length="9"), "nobody answers"),
    "busy": (lambda handler: reply(handler, b"", 429, Retry_After="7"), "Ask again in 7 seconds"),
}


@pytest.mark.parametrize(("models", "words"), MODELS.values(), ids=MODELS)
def test_models_that_are_none(
    models: Callable[[Handler], None], words: str, file_tokenizer: FileTokenizer
) -> None:
    with server(models) as at, pytest.raises(EngineError, match=words):
        opened(f"http://{at}", file_tokenizer)


@pytest.mark.parametrize(
    "told", [{"max_model_len": 0}, {"max_model_len": "long"}, {"meta": "a"}, {"meta": {}}]
)
def test_a_context_that_is_none(told: dict[str, object], file_tokenizer: FileTokenizer) -> None:
    with server(listed({"data": [{"id": "guild"} | told]})) as at:
        assert opened(f"http://{at}", file_tokenizer).context == 4096


def events(*lines: bytes) -> Callable[[Handler], None]:
    return lambda handler: reply(handler, b"\n\n".join(lines), kind="text/event-stream")


GOOD = b'data: {"choices": [{"text": "a", "token_ids": [5]}]}'
STREAMS = {
    "closed within": events(GOOD),
    "done without an end": events(GOOD, b"data: [DONE]"),
    "garbage": events(GOOD, b"data: {garbage"),
    "a choice that is none": events(b'data: {"choices": [7]}'),
    "a text that is none": events(b'data: {"choices": [{"text": 7, "logprobs": 7}]}'),
    "choices that are null": events(b'data: {"choices": null}'),
    "an endless line": events(b'data: {"a": "' + b"a" * 2**20),
    "deep": events(b"data: {" + b'"a":{' * 10**5),
    "overload": lambda handler: reply(handler, b"", 503),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_streams_that_are_none(
    stream: Callable[[Handler], None], file_tokenizer: FileTokenizer
) -> None:
    with server(listed(ONE), stream) as at, pytest.raises(EngineDied):
        asyncio.run(complete(opened(f"http://{at}", file_tokenizer), [5], SamplingParams()))


@pytest.mark.parametrize(
    ("status", "after", "seconds"),
    [(429, "30", 30), (429, "Mon, 30 Nov 2026 18:00:00 GMT", 1), (503, "9999999", 3600)],
)
def test_a_server_that_takes_no_more_says_when_it_will(
    status: int, after: str, seconds: int, file_tokenizer: FileTokenizer
) -> None:
    def full(handler: Handler) -> None:
        reply(handler, b"", status, Retry_After=after)

    with server(listed(ONE), full) as at, pytest.raises(ServerBusy) as busy:
        asyncio.run(complete(opened(f"http://{at}", file_tokenizer), [5], SamplingParams()))
    assert busy.value.seconds == seconds


def test_a_redirected_question_goes_nowhere(file_tokenizer: FileTokenizer) -> None:
    """It would take the key and what members write along."""

    def away(handler: Handler) -> None:
        reply(handler, b"", 307, Location="https://there.example/")

    with server(listed(ONE), away) as at, pytest.raises(EngineError, match=r"see https://there"):
        asyncio.run(complete(opened(f"http://{at}", file_tokenizer), [5], SamplingParams()))


@pytest.mark.skipif(not shutil.which("openssl"), reason="nothing makes a certificate here")
def test_a_certificate_that_nobody_vouches_for(
    tmp_path: Path, file_tokenizer: FileTokenizer
) -> None:
    certificate = tmp_path / "own.pem"
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    subprocess.run(
        ["openssl", *asked.split(), "-keyout", certificate, "-out", tmp_path / "public.pem"],
        check=True,
        capture_output=True,
    )
    certificate.write_text(certificate.read_text() + (tmp_path / "public.pem").read_text())

    def secured(there: ThreadingHTTPServer) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        there.socket = context.wrap_socket(there.socket, server_side=True)

    with (
        server(listed(ONE), wrap=secured) as at,
        pytest.raises(EngineError, match="cannot be trusted: self-signed certificate") as no,
    ):
        opened(f"https://{at}", file_tokenizer)
    assert "SSL_CERT_FILE" in str(no.value)
    with server(listed(ONE)) as at, pytest.raises(EngineError, match="cannot be trusted"):
        opened(f"https://{at}", file_tokenizer)  # no TLS is spoken there
