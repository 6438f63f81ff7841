"""Supervised fine-tuning: which weights it trains, which it leaves alone, and where it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from guildgpt.bases.base import Base, load_base
from guildgpt.bases.config import BaseConfig, ScratchConfig
from guildgpt.chat import CHATML, Conversation, Message
from guildgpt.data.examples import conversation_examples
from guildgpt.data.repeating import repeating_rows
from guildgpt.network.trunk import token_logprobs, trunk_for
from guildgpt.train.checkpoint import latest_checkpoint, save_checkpoint
from guildgpt.train.config import SftConfig
from guildgpt.train.next_token import sft

from .conftest import Remembering, job

SMALL = ScratchConfig(
    vocabulary=300, hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=64
)
ROWS = [
    Conversation((Message("user", f"What is {n}?"), Message("assistant", f"A number: {n}.")))
    for n in range(8)
]


def tuned(folder: Path, base: Base, watcher: Remembering, **settings: Any) -> Any:
    tokenizer = base.chat.tokenizer
    examples, _ = conversation_examples(ROWS, tokenizer, base.chat.template, context=64)
    settings = {"steps": 4, "batch_size": 4, "learning_rate": 0.02, "evaluations": 0, **settings}
    config = SftConfig(dtype="float32", **settings)  # bfloat16 would round what is frozen
    model, outcome = sft(base, examples, {}, config, job(folder, watcher))
    assert outcome.steps == config.steps
    return model


def fresh() -> Base:
    """A base whose vocabulary lists the chat tokens, but which never saw a chat."""
    torch.manual_seed(0)  # of the fresh weights
    config = BaseConfig(base="scratch", scratch=SMALL, context=64)
    return load_base(config, documents=["What is a number? " * 20])


@pytest.mark.parametrize("wanted", [False, True])
def test_known_chat_tokens_are_trained_with_adapters_only_if_asked(
    wanted: bool, tmp_path: Path, watcher: Remembering
) -> None:
    base = fresh()
    assert base.chat.new_tokens == []
    ids = [base.chat.tokenizer.token_id(token) for token in CHATML.control_tokens]
    before = base.model.get_input_embeddings().weight.detach().clone()
    model = tuned(tmp_path / "run", base, watcher, train_chat_tokens=wanted)
    changed = (model.get_input_embeddings().weight != before).any(dim=1)
    assert torch.nonzero(changed).flatten().tolist() == (sorted(ids) if wanted else [])
    assert watcher.losses[-1] < watcher.losses[0]


@pytest.mark.parametrize("chat_tokens", [False, True])
def test_a_run_that_an_earlier_version_began_goes_on(
    chat_tokens: bool, tmp_path: Path, watcher: Remembering
) -> None:
    """The adapter was then the one that peft calls `default`, as the checkpoint's names say."""
    settings: dict[str, Any] = {"train_chat_tokens": chat_tokens, "decay": "constant"}
    whole = tuned(tmp_path / "whole", fresh(), Remembering(), **settings)
    tuned(tmp_path / "cut", fresh(), Remembering(), steps=2, **settings)
    found, _ = latest_checkpoint(tmp_path / "cut" / "checkpoints")
    assert found
    earlier = {
        f"{name}.default" + (".weight" if "lora_" in name else ""): tensor
        for name, tensor in found.weights.items()
    }
    assert any("trainable_tokens" in name for name in earlier) == chat_tokens
    save_checkpoint(
        tmp_path / "cut" / "checkpoints", 2, earlier, found.optimizer, found.state, keep=1
    )
    resumed = tuned(tmp_path / "cut", fresh(), watcher, **settings)
    assert watcher.starts == [(4, 2)]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_sentence_said_again_becomes_less_likely(tmp_path: Path, watcher: Remembering) -> None:
    """And one said for the first time does not."""
    rows = [
        Conversation((Message("user", f"{n}?"), Message("assistant", "One two three four five.")))
        for n in range(4)
    ]
    base = fresh()
    examples, _ = conversation_examples(rows, base.chat.tokenizer, base.chat.template, context=64)
    again = repeating_rows(examples, base.chat.tokenizer, 1.0, context=128, seed=0)
    assert len(again) == 4
    chances = {}
    for weight in (0.0, 1.0):
        base = fresh()
        config = SftConfig(
            dtype="float32", steps=30, batch_size=8, learning_rate=0.02, evaluations=0,
            adapter="none", unlikelihood=weight,
        )  # fmt: skip
        place = job(tmp_path / str(weight), watcher)
        model, _ = sft(base, [*examples, *again], {}, config, place)
        trunk = trunk_for(model, torch.float32)
        with torch.no_grad():
            chances[weight] = [float(token_logprobs(trunk, some).exp().mean())
                               for some in (examples, again)]  # fmt: skip
    assert chances[1.0][0] > 0.3
    assert chances[0.0][1] > 20 * chances[1.0][1]
