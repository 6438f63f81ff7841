"""Commands as a person gives them; rows, and a model that knows nothing, to give them on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from guildgpt.bases.config import ScratchConfig
from guildgpt.bases.scratch import small_gpt, train_tokenizer
from guildgpt.chat import CHATML, Conversation, Message
from guildgpt.cli import app
from guildgpt.data import Provenance
from guildgpt.errors import GuildError
from guildgpt.model.chat_tokenizer import add_chat_tokens
from guildgpt.model.folder import write_model_folder

ROWS = [
    {"prompt": f"What is {thing}?", "completion": f"{thing.capitalize()} is {what}."}
    for thing, what in [
        ("TLS", "a protocol that encrypts what two machines say to each other"),
        ("ownership", "Rust's rule that a value has one owner, and goes when the owner goes"),
        ("a guild", "a server on Discord, with its channels and members"),
        ("a token", "a piece of text that the model reads and writes as one"),
        ("a story", "what happened, told by one who was there or wishes to have been"),
        ("rain", "water that fell twice: once into the sky, and once out of it"),
        ("a loop", "code that runs again until it has had enough"),
        ("a proof", "an argument that nobody can refuse"),
        ("sleep", "where the day is filed away"),
        ("bread", "flour, water, salt, and the patience to wait for it"),
        ("a key", "a secret that opens one thing only"),
        ("Vienna", "the capital of Austria"),
    ]
]
CONTEXT = 160  # tokens that the little model holds


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "100", "TERM": "dumb"})


def refused(kind: type[GuildError], *arguments: str) -> GuildError:
    """The error that a command ends with."""
    result = ask(*arguments)
    assert isinstance(result.exception, kind), result.output
    return result.exception


def answered(*arguments: str) -> Any:
    """The JSON on a command's standard output, which nothing else may share."""
    result = ask(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


def process(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "guildgpt", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **env},
        timeout=240,
    )


def write_rows(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "mine.jsonl", ROWS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that knows nothing, made in a moment."""
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "model"
    texts = [f"{row['prompt']}\n{row['completion']}" for row in ROWS]
    chat = add_chat_tokens(train_tokenizer(texts, 420).to_str(), CHATML)
    shape = ScratchConfig(
        vocabulary=420, hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=96
    )
    torch.manual_seed(0)
    network = small_gpt(shape, len(chat.tokenizer), CONTEXT)
    with torch.no_grad():  # far from uniform, so that a wrong mask would show
        for parameter in network.parameters():
            parameter *= 4 if parameter.ndim > 1 else 1
    network.config.eos_token_id = chat.eos_id
    return write_model_folder(
        folder,
        network,
        chat,
        context=CONTEXT,
        provenance=[Provenance("scratch", "base", "own", written_by="people")],
        recipe={},
        card="",
        gguf=(),
    )


def conversations() -> list[Conversation]:
    return [
        Conversation((Message("user", row["prompt"]), Message("assistant", row["completion"])))
        for row in ROWS
    ]
