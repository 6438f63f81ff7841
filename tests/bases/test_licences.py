"""What a base says of itself: its licence, and what it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guildgpt.bases.base import load_base
from guildgpt.bases.locate import locate_base
from guildgpt.errors import DataError

from .folders import (
    PAST,
    config,
    logits,
    own_folder,
)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# A model\n", "Apache-2.0"),
        ('---\ntags: [x]\nlicense: "mit"\n---\n', "MIT"),
        ("---\nlicence: 'CC-BY-SA-4.0'\n---\n", "CC-BY-SA-4.0"),
        ("---\nlicense: llama3.2\n---\n", "llama3.2"),
        ("---\nlicense:\n- mit\n---\n", "unknown"),
        ("# A model\n---\nlicense: mit\n---\n", "unknown"),
        ("license: mit\n", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_licence_is_read_from_the_cards_header(
    tmp_path: Path, card: str | None, licence: str
) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    (item,) = locate_base(config(tmp_path)).provenance
    assert item.licence == licence
    (item,) = locate_base(config(tmp_path, licence="bsd-3-clause")).provenance
    assert item.licence == "BSD-3-Clause"


def test_a_card_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\nlicense: mit\n---\nGr\xfc\xdfe")
    assert locate_base(config(tmp_path)).provenance[0].licence == "MIT"


def test_a_model_folder_of_ours_brings_its_past(tmp_path: Path) -> None:
    model = own_folder(tmp_path / "model")
    base = load_base(config(tmp_path / "model", licence="mit"))
    assert base.provenance == PAST
    assert base.chat.new_tokens == []
    assert torch.equal(logits(base.model), logits(model))


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"sources": []}', '{"sources": 3}'])
def test_a_broken_past_is_an_unknown_one(tmp_path: Path, record: str) -> None:
    (tmp_path / "provenance.json").write_text(record)
    items = locate_base(config(tmp_path)).provenance
    assert [item.licence for item in items] == ["unknown"]


@pytest.mark.parametrize("item", ["3", '{"nom": "x"}'])
def test_a_past_of_another_version_is_told_of(tmp_path: Path, item: str) -> None:
    (tmp_path / "provenance.json").write_text(f'{{"sources": [{item}]}}')
    with pytest.raises(DataError, match="provenance"):
        locate_base(config(tmp_path))
