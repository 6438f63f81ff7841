"""The API does what its own description says, whatever comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from guildgpt.engines.llamacpp import LlamaCppEngine

from .conftest import Served, serving
from .slow import Slow

KEY = "key-of-anna-0123456789"
HEADERS = {"Authorization": f"Bearer {KEY}"}
NOTHING_TO_BREAK = ("/v1/models", "/v1/embeddings")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def quick(engine: LlamaCppEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An engine that answers two words at once: its server is what is tried."""
    writer = Slow(engine.tokenizer, words=2)
    writer.pause = 0
    store = tmp_path_factory.mktemp("store") / "feedback.db"
    with serving(writer, keys={"anna": KEY}, store=f"sqlite:///{store}") as there:
        yield there


@pytest.fixture(scope="module")
def described(quick: Served) -> Any:
    return schemathesis.openapi.from_url(f"{quick.url}/openapi.json", headers=HEADERS)


OPERATIONS = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/{id}"),
    ("DELETE", "/v1/responses/{id}"),
    ("GET", "/v1/responses/{id}/input_items"),
    ("POST", "/v1/embeddings"),
]


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (*operation, mode)
        for operation in OPERATIONS
        for mode in schemathesis.GenerationMode
        if not (mode is schemathesis.GenerationMode.NEGATIVE and operation[1] in NOTHING_TO_BREAK)
    ],
)
def test_whatever_comes_is_answered_as_described(
    described: Any, method: str, path: str, mode: schemathesis.GenerationMode
) -> None:
    @given(described[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def answered(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=HEADERS, checks=CHECKS, timeout=60)

    answered()


def test_the_description_needs_the_key_and_tells_of_it(quick: Served) -> None:
    assert httpx.get(f"{quick.url}/openapi.json").status_code == 401
    told = httpx.get(f"{quick.url}/openapi.json", headers=HEADERS).json()
    assert "/v1/responses" in told["paths"]
    for path in told["paths"].values():
        for operation in path.values():
            assert operation["security"] == [{"HTTPBearer": []}]
            assert set(operation["responses"]) == {"200", "4XX", "5XX"}
