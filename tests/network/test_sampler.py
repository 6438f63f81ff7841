"""The sampler writes what transformers' `generate` writes, at the probabilities it states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guildgpt.data.examples import Example
from guildgpt.network.decoders import (
    CachedDecoder,
    LeanDecoder,
    RereadingDecoder,
    decoder_for,
)
from guildgpt.network.hats import Hats
from guildgpt.network.sampler import Sampled, Sampling, choose, sample
from guildgpt.network.trunk import PaddedTrunk, Trunk, token_logprobs, trunk_for

from .tiny import VOCABULARY, gemma2, gpt_neox, llama, mpt, recurrent, rows, with_lora

LENGTHS = [7, 1, 23, 2, 40, 23]
EOS = 5
KINDS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "llama with adapters": lambda: with_lora(llama()),
    "mpt": mpt,
    "gpt-neox": gpt_neox,
    "gemma 2": gemma2,
}


def prompts(lengths: list[int] = LENGTHS, seed: int = 0) -> list[list[int]]:
    return [ids.tolist() for ids in rows(lengths, seed)]


def trunk_of(kind: str) -> Trunk:
    return trunk_for(KINDS[kind](), torch.float32)


def generated(model: Any, prompt: list[int], steps: int) -> list[int]:
    """What transformers writes greedily, one row at a time."""
    ids = torch.tensor([prompt])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=steps,
        eos_token_id=EOS,
        pad_token_id=0,
    )
    return [int(token) for token in out[0, len(prompt) :]]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_those_of_transformers(kind: str) -> None:
    model = KINDS[kind]()
    answers = sample(
        trunk_for(model, torch.float32, "default"),
        prompts(),
        Sampling(24, 0),
        eos_id=EOS,
        seed=0,
        rows=4,
    )
    for prompt, answer in zip(prompts(), answers, strict=True):
        assert answer.ids.tolist() == generated(model, prompt, 24)
        assert answer.ended == (answer.ids[-1] == EOS)


def test_llama_decodes_lean_and_others_with_transformers_cache() -> None:
    assert isinstance(decoder_for(trunk_of("llama")), LeanDecoder)
    assert isinstance(decoder_for(trunk_of("mpt")), CachedDecoder)


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "jamba", "lfm2"])
def test_what_carries_a_state_along_is_read_without_padding(kind: str) -> None:
    """With padding on the left, the state of shorter rows began with it, and rows that had ended
    could not be left out."""
    model = recurrent(kind)
    asked = prompts([5, 2, 7, 1])

    @torch.no_grad()
    def written(prompt: list[int], eos: int) -> list[int]:
        ids = list(prompt)
        while len(ids) < len(prompt) + 6:
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] == eos:
                break
        return ids[len(prompt) :]

    eos = written(asked[0], -1)[1]  # so that a row ends while others go on
    trunk = trunk_for(model, torch.float32)
    answers = sample(trunk, asked, Sampling(6, 0), eos_id=eos, seed=0)
    assert [answer.ids.tolist() for answer in answers] == [written(one, eos) for one in asked]
    assert answers[0].ended
    expected = (CachedDecoder, RereadingDecoder)
    assert type(decoder_for(trunk)) in (expected if kind == "lfm2" else expected[1:])


def whole(prompt: list[int], answer: Sampled) -> Example:
    ids = np.array([*prompt, *answer.ids], dtype=np.int32)
    return Example(ids, np.arange(len(ids)) >= len(prompt), 0, "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_log_probabilities_are_those_of_the_training_pass(kind: str, temperature: float) -> None:
    trunk = trunk_of(kind)
    answers = sample(trunk, prompts(), Sampling(12, temperature), eos_id=EOS, seed=3)
    batch = [whole(p, a) for p, a in zip(prompts(), answers, strict=True)]
    with torch.no_grad():
        expected = token_logprobs(trunk, batch, temperature)
    got = np.concatenate([answer.logprobs for answer in answers])
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_does_not_depend_on_the_batch(kind: str) -> None:
    trunk = trunk_of(kind)
    many = prompts(LENGTHS * 3)
    sampling = Sampling(16, 1.3)
    at_once = sample(trunk, many, sampling, eos_id=EOS, seed=7, rows=len(many))
    by_two = sample(trunk, many, sampling, eos_id=EOS, seed=7, rows=2)
    assert [a.ids.tolist() for a in at_once] == [a.ids.tolist() for a in by_two]
    other = sample(trunk, many, sampling, eos_id=EOS, seed=8, rows=len(many))
    assert [a.ids.tolist() for a in at_once] != [a.ids.tolist() for a in other]


def test_finished_rows_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    step = LeanDecoder.step

    def watched(self: LeanDecoder, tokens: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(LeanDecoder, "step", watched)
    many = prompts(LENGTHS * 4)
    answers = sample(trunk_of("llama"), many, Sampling(40, 2.0), eos_id=EOS, seed=1)
    assert any(answer.ended for answer in answers)
    assert sizes[-1] < sizes[0] == len(many)
    assert sizes == sorted(sizes, reverse=True)
    # What left the batch is what was alone in it.
    alone = sample(trunk_of("llama"), many, Sampling(40, 2.0), eos_id=EOS, seed=1, rows=1)
    assert [a.ids.tolist() for a in alone] == [a.ids.tolist() for a in answers]


def test_a_row_that_never_ends_is_cut_and_says_so() -> None:
    answers = sample(trunk_of("llama"), prompts(), Sampling(9), eos_id=VOCABULARY + 1, seed=0)
    assert all(len(answer) == 9 and not answer.ended for answer in answers)


def test_the_sampler_wears_the_hat_it_is_given() -> None:
    from guildgpt.model.config import AdapterConfig

    plain = trunk_of("llama")
    hats = Hats(llama(), torch.float32, torch.device("cpu"))
    hats.add("policy", AdapterConfig(rank=4), seed=0)
    with torch.no_grad():
        for parameter in hats.parameters("policy").values():
            parameter.normal_(std=0.3)
    greedy = Sampling(16, 0)
    off = sample(hats.trunk(None), prompts(), greedy, eos_id=EOS, seed=0)
    on = sample(hats.trunk("policy"), prompts(), greedy, eos_id=EOS, seed=0)
    expected = sample(plain, prompts(), greedy, eos_id=EOS, seed=0)
    assert [a.ids.tolist() for a in off] == [a.ids.tolist() for a in expected]
    assert [a.ids.tolist() for a in on] != [a.ids.tolist() for a in off]
    padded = sample(
        PaddedTrunk(hats.model, torch.float32, "policy"), prompts(), greedy, eos_id=EOS, seed=0
    )
    assert [a.ids.tolist() for a in on] == [a.ids.tolist() for a in padded]


# --- drawing ----------------------------------------------------------------------------------


def distribution(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The probabilities (V,) that transformers' own logits processors give."""
    from transformers import TemperatureLogitsWarper

    scores = TemperatureLogitsWarper(sampling.temperature)(None, logits[None])
    return torch.softmax(scores[0].double(), -1)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1),
        Sampling(1, 0.5),
        Sampling(1, 1.5),
        Sampling(1, 3.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [90, 2500])
def test_tokens_are_drawn_as_often_as_they_should_be(sampling: Sampling, size: int) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = 2 * torch.randn(size, generator=generator)
    count = 20_000
    chance = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens, logprobs = [], []
    for part in chance.split(1000):
        drawn = choose(logits.repeat(len(part), 1), part, sampling)
        tokens.append(drawn[0])
        logprobs.append(drawn[1])
    expected = distribution(logits, sampling)
    share = torch.bincount(torch.cat(tokens), minlength=size).double() / count
    # Evenly spaced chances land in each token's interval up to one at each of its ends.
    torch.testing.assert_close(share, expected, rtol=0, atol=2.5 / count)
    torch.testing.assert_close(
        torch.cat(logprobs).double(), expected[torch.cat(tokens)].log(), rtol=1e-4, atol=1e-4
    )


@given(st.integers(1, 700), st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 1 - 2**-53]))
@settings(deadline=None, max_examples=60)
def test_only_possible_tokens_are_drawn(size: int, seed: int, chance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, size, generator=generator)
    logits[0, torch.rand(size, generator=generator) < 0.5] = float("-inf")
    logits[0, seed % size] = 0.0
    drawn_at = torch.tensor([chance], dtype=torch.float64)
    token, logprob = choose(logits.clone(), drawn_at, Sampling(1))
    assert torch.isfinite(logits[0, token])
    assert torch.isfinite(logprob)
