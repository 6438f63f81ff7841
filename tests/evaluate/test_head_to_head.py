"""Two models' answers to the same prompts, held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from network.tiny import gpt_neox, llama, with_lora

from guildgpt.bases.scratch import train_tokenizer
from guildgpt.chat import ChatTemplate, Message
from guildgpt.data.examples import Example
from guildgpt.evaluate.answers import Answers, write
from guildgpt.evaluate.head_to_head import divergence, head_to_head
from guildgpt.model.chat_tokenizer import ChatTokenizer, add_chat_tokens
from guildgpt.network.sampler import Sampled, Sampling
from guildgpt.network.trunk import token_logprobs, trunk_for

EOS = 2


class ByLength:
    """A judge that likes long answers; `noise` is what rounding might make of equal ones."""

    def __init__(self, noise: float = 0.0):
        self.noise = noise

    def scores(self, examples: Sequence[Example]) -> torch.Tensor:
        self.noise = -self.noise
        return torch.tensor([float(example.trained) + self.noise for example in examples])


def written(*answers: Sequence[int]) -> Answers:
    """Answers as ids after a prompt of three; those that end with `EOS` ended by themselves."""
    sampled, examples = [], []
    for ids in answers:
        ended = ids[-1] == EOS
        sampled.append(Sampled(np.array(ids, np.int32), np.zeros(len(ids), np.float32), ended))
        whole = np.array([7, 8, 9, *ids], np.int32)
        examples.append(Example(whole, np.arange(len(whole)) >= 3, 0, "written"))
    return Answers(tuple(examples), tuple(sampled), tuple(str(list(ids)) for ids in answers))


def test_worked_out_by_hand() -> None:
    before = written([5, 6, EOS], [5, 5, 5, 5], [6, EOS])
    after = written([5, 6, 7, EOS], [5, EOS], [6, EOS])
    found = head_to_head(before, after, judge=ByLength(), reward=ByLength(), kl=1.5)
    assert found.verdicts is not None
    assert (found.verdicts.wins, found.verdicts.losses, found.verdicts.ties) == (1, 1, 1)
    assert found.verdicts.prompts == 3
    assert (found.judge_before, found.judge_after) == (pytest.approx(3), pytest.approx(8 / 3))
    assert (found.reward_before, found.reward_after) == (found.judge_before, found.judge_after)
    assert found.kl == 1.5
    assert found.agreement is not None  # a judge agrees with itself
    assert (found.agreement.pairs, found.agreement.share) == (2, 1.0)
    assert "agrees with the reward model on 100.0% of 2 pairs" in found.judge_words
    assert found.measures_before.end_of_turn_rate == pytest.approx(2 / 3)
    assert found.measures_after.end_of_turn_rate == 1.0
    assert found.measures_after.tokens_mean == pytest.approx((3 + 1 + 1) / 3)


def test_equal_answers_tie_whatever_rounding_makes_of_their_scores() -> None:
    same = written([5, 6, EOS], [5, EOS])
    found = head_to_head(same, same, judge=ByLength(1e-5))
    assert found.verdicts is not None
    assert (found.verdicts.ties, found.verdicts.rate) == (2, 0.5)
    assert found.agreement is None
    assert "is not known" in found.judge_words


def test_without_a_judge_there_are_no_verdicts() -> None:
    found = head_to_head(written([5, EOS]), written([6, EOS]), judge=None)
    assert found.verdicts is None
    assert found.judge_after is None
    assert found.reward_after is None


def test_several_answers_to_a_prompt_count_as_one_draw() -> None:
    before = written(*[[5, EOS]] * 6)
    after = written(*[[5, 5, EOS]] * 6)
    found = head_to_head(before, after, judge=ByLength(), prompts=[4, 4, 4, 9, 9, 9])
    assert found.verdicts is not None
    assert (found.verdicts.comparisons, found.verdicts.prompts) == (6, 2)


# --- real models ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    texts = ["Where is the gate? Who keeps the lamp of the house?"]
    return add_chat_tokens(train_tokenizer(texts, 300).to_str(), ChatTemplate())


PROMPTS = [(Message("user", text),) for text in ("Where?", "Who keeps the lamp?", "Is it here?")]


@pytest.mark.parametrize("kind", [llama, gpt_neox])
def test_answers_are_written_after_their_prompts(kind: Any, chat: ChatTokenizer) -> None:
    trunk = trunk_for(kind(vocab_size=320), torch.float32)
    answers = write(trunk, chat, PROMPTS, Sampling(12, 1.0), seed=1)
    for prompt, example, one, text in zip(
        PROMPTS, answers.examples, answers.sampled, answers.texts, strict=True
    ):
        asked = chat.template.prompt(prompt, chat.tokenizer)
        end = [] if one.ended else [chat.eos_id]  # where a score is read
        assert example.ids.tolist() == [*asked, *one.ids.tolist(), *end]
        assert example.trained == len(one)
        assert text == chat.tokenizer.decode(one.ids.tolist())
    assert answers.lengths.tolist() == [len(one) for one in answers.sampled]


def test_the_divergence_is_that_of_the_challengers_own_answers(chat: ChatTokenizer) -> None:
    challenger = trunk_for(with_lora(llama(vocab_size=320)), torch.float32, "default")
    other = trunk_for(llama(vocab_size=320), torch.float32)
    answers = write(challenger, chat, PROMPTS * 3, Sampling(12, 1.3), seed=1)
    with torch.no_grad():
        sums = [
            float(token_logprobs(challenger, [e], 1.3).sum())
            - float(token_logprobs(other, [e], 1.3).sum())
            for e in answers.examples
        ]
    found = divergence(challenger, other, answers, 1.3, micro_tokens=50)
    assert found == pytest.approx(np.mean(sums), rel=1e-4)
    assert found > 1
    assert divergence(challenger, challenger, answers, 1.3, micro_tokens=50) == 0
