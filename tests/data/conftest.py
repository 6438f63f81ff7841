"""Small stand-ins for real files, a tokenizer trained on the spot, and the real data's folder."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from fake_hub import hub
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from guildgpt.chat import CHATML, FileTokenizer

__all__ = ["hub"]

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"

WriteLines = Callable[..., Path]


@pytest.fixture
def write_lines(tmp_path: Path) -> WriteLines:
    """Writes rows (objects, or lines as they are) to a file, gzipped if its name says so."""

    def write(name: str, rows: Iterable[Any]) -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        text = "".join(f"{line}\n" for line in lines).encode()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return path

    return write


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Paths of the real files; a test that needs one is skipped where it is missing."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f"the development data's {name} is not beside this checkout")
        return path

    return find


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> FileTokenizer:
    """A byte-level BPE so small that most characters beyond ASCII take several tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(CHATML.control_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["user assistant system hello the answer is yes"], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return FileTokenizer(path)
