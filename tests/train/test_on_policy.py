"""Where reinforcement learning starts, what it leaves alone, and what it does not pass over."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network.tiny import examples, gpt_neox, llama, mpt

from guildgpt.errors import GuildError
from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.network.reward_model import RewardModel, scalar_head
from guildgpt.network.sampler import Sampled
from guildgpt.network.trunk import LeanTrunk, PaddedTrunk, token_logprobs, trunk_for
from guildgpt.train.config import GrpoConfig, PpoConfig, RolloutConfig
from guildgpt.train.grpo import Grpo
from guildgpt.train.guards import WATCHED
from guildgpt.train.on_policy import SAMPLES, Method, OnPolicy
from guildgpt.train.ppo import Ppo, value_model
from guildgpt.train.rollout import (
    Episode,
    PolicySampler,
    Rollout,
    Scale,
    Scorer,
    Scores,
    collect,
)

from . import policies
from .conftest import Remembering, job
from .policies import (
    EOS,
    SETTINGS,
    Letters,
    asked,
    grpo,
    hats_of,
    outspoken,
    paid_for_one_token,
    paid_for_small_ids,
    ppo,
)

LORA = AdapterConfig(rank=4, alpha=8)
KINDS: dict[str, Callable[[], Any]] = {"llama": llama, "mpt": mpt, "gpt-neox": gpt_neox}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def shaken_hat(hats: Hats, name: str) -> None:
    """A hat that makes a difference."""
    hats.add(name, LORA, seed=7)
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter in hats.parameters(name).values():
            parameter.normal_(std=0.05, generator=generator)


def objective(hats: Hats, form: str, folder: Path, **changes: Any) -> OnPolicy:
    """A method about to begin, its policy a hat that was trained already."""
    shaken_hat(hats, "policy")
    # Passes of some rows each, so that order and padding have a chance to go wrong.
    settings = {**SETTINGS, "batch_size": 12, "lora": LORA, "micro_tokens": 60, **changes}
    if form == "grpo":
        return on_policy(Grpo(GrpoConfig(**settings)), hats, paid_for_one_token, folder)
    shaken_hat(hats, "reward")
    reward = RewardModel(hats.trunk("reward"), scalar_head(hats.width, seed=1))

    def scorer(episodes: Sequence[Episode]) -> Scores:
        found, states = reward.scores_and_states([episode.example for episode in episodes])
        scores = found.double().numpy()
        return Scores(scores, {"model": scores}, states)

    trunk = "reward" if form == "head on the reward model" else "own"
    config = PpoConfig(**settings, value_trunk=trunk)  # type: ignore[arg-type]
    value = value_model(hats, reward, config, 0)
    return on_policy(Ppo(config, value), hats, scorer, folder)


def on_policy(method: Method, hats: Hats, scorer: Scorer, folder: Path) -> OnPolicy:
    sampler = PolicySampler(hats.trunk("policy"), method.config, EOS)
    rest: tuple[Any, ...] = (Letters(), EOS, job(folder, Remembering()))
    return OnPolicy(method, hats, asked(), sampler, scorer, *rest)


@EVERY_KIND
@pytest.mark.parametrize("form", ["grpo", "value model", "head on the reward model"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_update_starts_where_the_answers_were_written(
    tmp_path: Path, kind: str, form: str, temperature: float
) -> None:
    hats = hats_of(KINDS[kind]())
    method = objective(hats, form, tmp_path, temperature=temperature)
    assert isinstance(method.policy, LeanTrunk if kind == "llama" else PaddedTrunk)
    first = next(iter(method.updates(0)))
    assert len(first) > 1
    losses = [method.loss(batch) for batch in first]
    assert all(bool(torch.isfinite(loss)) for loss in losses)
    for ratio, kl, clipped in ([noted[n] for n in _FIGURES] for noted in method.noted):
        assert float(ratio) == pytest.approx(1, abs=1e-4)
        assert float(kl) == pytest.approx(0, abs=1e-4)
        assert float(clipped) == 0
    if form == "head on the reward model":  # its states were kept for the right tokens
        for batch in first:
            assert isinstance(method.method, Ppo)
            now = method.method.value.now(batch.examples, batch.states)
            torch.testing.assert_close(now, batch.extra["values"], rtol=1e-4, atol=1e-5)


_FIGURES = ("ratio", "approx_kl", "clip_fraction")


@pytest.mark.parametrize("passes", [1, 4])
def test_in_bfloat16_it_starts_at_a_ratio_of_exactly_one(tmp_path: Path, passes: int) -> None:
    method = objective(hats_of(llama(), torch.bfloat16), "grpo", tmp_path, passes=passes)
    for batch in next(iter(method.updates(0))):
        method.loss(batch)
    assert all(float(noted["ratio"]) == 1.0 for noted in method.noted)


def test_a_single_update_computes_no_log_probabilities_of_its_own_again(tmp_path: Path) -> None:
    for passes in (1, 2):
        method = objective(hats_of(llama(), torch.bfloat16), "grpo", tmp_path, passes=passes)
        rollout = method.collect(0)
        drawn = np.concatenate([episode.sampled.logprobs for episode in rollout.episodes])
        again = rollout.logprobs[rollout.mask]
        assert np.array_equal(drawn, again) == (passes == 1)
        np.testing.assert_allclose(drawn, again, atol=0.5)


def test_answers_to_one_prompt_are_neighbours_in_an_update(tmp_path: Path) -> None:
    method = objective(hats_of(llama()), "grpo", tmp_path, group=4, micro_tokens=10_000)
    (batch,) = next(iter(method.updates(0)))
    prompts = [tuple(example.ids[:5].tolist()) for example in batch.examples]
    assert len(set(prompts)) == 3
    assert [len(list(run)) for _, run in groupby(prompts)] == [4, 4, 4]


def test_value_states_are_those_of_a_pass_of_their_own(tmp_path: Path) -> None:
    """Read by the way while answers are scored, or computed again: the same values."""
    values = {}
    for form in ("value model", "head on the reward model"):
        method = objective(hats_of(llama()), form, tmp_path)
        rollout = method.collect(0)
        values[form] = method.method.advantages(rollout, 0.0).extra["values"]
    one, other = values.values()
    assert one.any()
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# --- the reference -------------------------------------------------------------------------------


@EVERY_KIND
def test_without_its_hat_the_policy_is_the_model_it_came_from_bit_for_bit(
    tmp_path: Path, watcher: Remembering, kind: str
) -> None:
    batch = examples([9, 2, 31, 5, 17])
    with torch.no_grad():
        before = token_logprobs(trunk_for(KINDS[kind](), torch.float32), batch)
    hats = ppo(
        tmp_path,
        watcher,
        hats=hats_of(KINDS[kind]()),
        scorer=paid_for_small_ids,
        steps=3,
        batch_size=8,
    )
    untouched = KINDS[kind]().state_dict()
    for name, tensor in hats.base.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, untouched[name.replace(".base_layer", "")]), name
    with torch.no_grad():
        off = token_logprobs(hats.trunk(None), batch)
        on = token_logprobs(hats.trunk("policy"), batch)
    assert torch.equal(off, before)
    assert not torch.allclose(on, before, atol=1e-3)


def test_the_divergence_that_is_logged_is_that_from_the_reference(
    tmp_path: Path, watcher: Remembering
) -> None:
    ppo(tmp_path, watcher, scorer=paid_for_small_ids, steps=4)
    kl = [step["kl"] for step in watcher.steps]
    assert kl[0] == pytest.approx(0, abs=1e-4)  # the policy is still the reference
    assert kl[-1] > 0.1
    assert all(step["kl_k3"] >= 0 for step in watcher.steps)


# --- the rollout ---------------------------------------------------------------------------------


def rolled_out(hats: Hats, scorer: Any, **changes: Any) -> Rollout:
    config = RolloutConfig(**{**SETTINGS, **changes})
    policy = hats.trunk("policy")
    sampler = PolicySampler(policy, config, EOS)
    rest: tuple[Any, ...] = (policy, hats.trunk(None), Letters(), EOS, config)
    return collect(asked(), sampler, scorer, *rest, seed=3)


def five(episodes: Sequence[Episode]) -> Scores:
    return Scores(np.full(len(episodes), 5.0), {})


def test_only_answers_that_were_cut_get_the_penalty_in_place_of_their_score() -> None:
    hats = hats_of(llama())
    shaken_hat(hats, "policy")
    rollout = rolled_out(hats, five, missing_eos=-2.0, max_new_tokens=40, temperature=2.0)
    ended = np.array([episode.sampled.ended for episode in rollout.episodes])
    assert 0 < ended.sum() < len(ended)
    np.testing.assert_array_equal(rollout.scores, np.where(ended, 5.0, -2.0))
    np.testing.assert_array_equal(rollout.scored.total, 5.0)  # for the log
    for episode, one in zip(rollout.episodes, ended, strict=True):
        assert (episode.sampled.ids[-1] == EOS) == one
        assert EOS not in episode.ids
    left = rolled_out(hats, five, missing_eos="score", max_new_tokens=40, temperature=2.0)
    np.testing.assert_array_equal(left.scores, 5.0)


def lengths(episodes: Sequence[Episode]) -> Scores:
    return Scores(np.array([100.0 + len(episode.ids) for episode in episodes]), {})


def test_normalized_scores_are_spreads_above_the_mean_of_the_first_answers() -> None:
    hats = hats_of(llama())
    shaken_hat(hats, "policy")
    settings = {"normalize": True, "max_new_tokens": 40, "temperature": 2.0}
    free = rolled_out(hats, lengths, missing_eos="score", **settings)
    assert free.scores.mean() == pytest.approx(0, abs=1e-9)
    assert free.scores.std() == pytest.approx(1)
    np.testing.assert_allclose(
        free.scores * free.scored.total.std() + free.scored.total.mean(), free.scored.total
    )
    # What was cut has no say in its own score, and a scale that was found is kept.
    first = rolled_out(hats, lengths, missing_eos=-0.5, **settings)
    ended = np.array([episode.sampled.ended for episode in first.episodes])
    np.testing.assert_allclose(first.scores, np.where(ended, free.scores, -0.5))
    assert first.scale == free.scale != Scale()
    # Equal scores have no spread to be divided by.
    same = rolled_out(hats, five, missing_eos="score", **settings)
    np.testing.assert_array_equal(same.scores, 0.0)


def test_the_scale_of_the_first_iteration_is_kept_and_survives_a_checkpoint(
    tmp_path: Path,
) -> None:
    def made() -> OnPolicy:
        hats = hats_of(llama())
        shaken_hat(hats, "policy")
        config = GrpoConfig(**{**SETTINGS, "normalize": True, "batch_size": 8, "group": 4})
        return on_policy(Grpo(config), hats, lengths, tmp_path)

    one = made()
    first = one.collect(0)
    assert one.collect(1).scale == first.scale == Scale.of(first.scored.total)
    other = made()
    other.restore(json.loads(json.dumps(one.state())))
    assert other.collect(1).scale == first.scale
    np.testing.assert_array_equal(other.collect(2).scores, one.collect(2).scores)


@pytest.mark.parametrize("adaptive", [True, False])
def test_the_price_and_the_guards_memory_go_through_a_checkpoint(
    tmp_path: Path, adaptive: bool
) -> None:
    first, second = (
        objective(hats_of(llama()), "grpo", tmp_path, kl={"beta": 0.15, "adaptive": adaptive})
        for _ in range(2)
    )
    for kl in (3.0, 20.0, 7.1):
        first.kl.update(kl, 32)
        first.guards.check(dict.fromkeys(WATCHED, kl))
    assert second.kl.beta == 0.15
    second.restore(json.loads(json.dumps(first.state())))
    assert (first.kl.beta != 0.15) == adaptive
    assert second.guards.history == first.guards.history
    for one in (first, second):
        one.kl.update(4.4, 32)
    assert second.kl.beta == first.kl.beta
    second.restore({**first.state(), "kl": {}})  # as 0.1.0 wrote it of a fixed price


class OtherEngine:
    """It answers with one to six tokens and an end of turn, and knows no log-probabilities."""

    exact = False

    def __init__(self) -> None:
        self.asked: list[list[tuple[int, ...]]] = []

    def __call__(self, prompts: Sequence[Sequence[int]], seed: int) -> list[Sampled]:
        self.asked.append([tuple(prompt) for prompt in prompts])
        generator = np.random.default_rng(seed)
        answers = []
        for _ in prompts:
            ids = generator.integers(4, 60, generator.integers(1, 7), dtype=np.int32)
            ids = np.append(ids, np.int32(EOS))
            answers.append(Sampled(ids, np.full(len(ids), np.nan, np.float32), True))
        return answers


def test_another_engine_can_write_the_answers() -> None:
    """What it wrote is learned from, at the log-probabilities that the policy gives it."""
    hats = hats_of(llama())
    shaken_hat(hats, "policy")
    config = RolloutConfig(**{**SETTINGS, "temperature": 0.7})
    policy, engine = hats.trunk("policy"), OtherEngine()
    rest: tuple[Any, ...] = (policy, hats.trunk(None), Letters(), EOS, config)
    rollout = collect(asked(), engine, five, *rest, seed=3)
    assert engine.asked == [[prompt.ids for prompt in asked()]]
    written = OtherEngine()(engine.asked[0], 3)
    for row, (episode, wanted) in enumerate(zip(rollout.episodes, written, strict=True)):
        assert episode.ids == tuple(wanted.ids[:-1].tolist())
        with torch.no_grad():
            own = token_logprobs(policy, [episode.example], 0.7).numpy()
        np.testing.assert_allclose(rollout.logprobs[row, : len(wanted)], own, rtol=1e-3, atol=2e-4)


def test_a_policy_learns_from_what_another_engine_wrote(
    tmp_path: Path, watcher: Remembering
) -> None:
    engine = OtherEngine()
    hats = grpo(tmp_path, watcher, sampler=engine, scorer=paid_for_small_ids, steps=3)
    assert [len(set(prompts)) for prompts in engine.asked] == [8, 8, 8]
    assert all(np.isfinite(step["loss"]) for step in watcher.steps)
    assert watcher.steps[0]["kl"] == pytest.approx(0, abs=1e-3)
    assert any(p.detach().any() for n, p in hats.parameters("policy").items() if "lora_B" in n)


@EVERY_KIND
@pytest.mark.parametrize("temperature", [0.6, 1.8])
def test_the_temperature_divides_the_logits_of_policy_and_reference(
    kind: str, temperature: float
) -> None:
    """Against transformers' own logits, an answer at a time."""
    hats = hats_of(KINDS[kind]())
    hats.add("policy", LORA, seed=0)  # it changes nothing yet
    rollout = rolled_out(hats, five, temperature=temperature)
    model = KINDS[kind]()
    for row, episode in enumerate(rollout.episodes):
        ids = torch.tensor([*episode.prompt.ids, *episode.sampled.ids])
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, :-1] / temperature
        wanted = torch.log_softmax(logits, -1).gather(1, ids[1:, None])[:, 0].numpy()
        count = len(episode.sampled)
        for found in (rollout.logprobs, rollout.ref):
            np.testing.assert_allclose(found[row, :count], wanted[-count:], rtol=1e-3, atol=2e-4)
            assert not found[row, count:].any()


# --- what is not a number ------------------------------------------------------------------------


def test_a_score_that_is_no_number_ends_the_run_and_is_named(
    tmp_path: Path, watcher: Remembering
) -> None:
    def broken(episodes: Sequence[Episode]) -> Scores:
        scores = paid_for_one_token(episodes).total
        bad = np.where(np.arange(len(scores)) == 5, np.nan, scores)
        return Scores(bad, {"wanted": scores, "odd": bad})

    for train in (ppo, grpo):
        with pytest.raises(GuildError, match=r"1 of 32 answers score nan \(.*odd nan\)"):
            train(tmp_path, watcher, scorer=broken)
    assert not watcher.steps


def test_a_loss_that_is_no_number_ends_the_run_before_it_does_harm(
    tmp_path: Path, watcher: Remembering
) -> None:
    hats = hats_of(outspoken())
    calls = []

    def poisoning(episodes: Sequence[Episode]) -> Scores:
        calls.append(len(episodes))
        if len(calls) == 3:  # after the answers were written, before they are learned from
            with torch.no_grad():
                next(iter(hats.parameters("policy").values())).fill_(float("nan"))
        return paid_for_one_token(episodes)

    with pytest.raises(GuildError, match=r"the loss is nan .* at step 3"):
        ppo(tmp_path, watcher, hats=hats, scorer=poisoning)
    assert len(watcher.steps) == 2
    assert (tmp_path / "checkpoints" / "step-0000002").is_dir()
    assert not (tmp_path / "checkpoints" / "step-0000003").exists()


def test_a_guard_ends_the_run(tmp_path: Path, watcher: Remembering) -> None:
    with pytest.raises(GuildError, match="KL runaway"):
        ppo(tmp_path, watcher, scorer=paid_for_small_ids, guards={"max_kl": 0.5})
    assert 3 <= len(watcher.steps) < 40


# --- samples -------------------------------------------------------------------------------------


class Killed(Exception):
    """In place of the signal: test_feedback_resume.py sends that."""


class Mortal(Remembering):
    """Dies after a step's figures are logged, before they are in a checkpoint."""

    def __init__(self, step: int):
        super().__init__()
        self.last = step

    def stepped(self, metrics: Mapping[str, float]) -> None:
        super().stepped(metrics)
        if metrics["step"] == self.last:
            raise Killed


@pytest.mark.parametrize("minutes", [0, 9], ids=["from a checkpoint", "from the beginning"])
def test_samples_are_there_once_after_a_resume(
    tmp_path: Path, watcher: Remembering, minutes: int
) -> None:
    settings = {"steps": 6, "batch_size": 8, "show_every": 2, "checkpoint_minutes": minutes}
    ppo(tmp_path / "whole", watcher, **settings)
    for step in (3, 5):
        with pytest.raises(Killed):
            ppo(tmp_path / "cut", Mortal(step), **settings)
    ppo(tmp_path / "cut", Remembering(), **settings)
    whole, cut = ((tmp_path / name / SAMPLES).read_text() for name in ("whole", "cut"))
    assert cut == whole
    rows = [json.loads(line) for line in whole.splitlines()]
    assert [row["step"] for row in rows] == [1, 1, 3, 3, 5, 5, 6, 6]
    assert len(watcher.notes) == len(rows)


# --- answers that were cut -----------------------------------------------------------------------


def test_what_was_cut_while_it_went_well_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = objective(hats_of(outspoken()), "grpo", tmp_path, missing_eos="leave_out")
    looping = method.collect(0).episodes[1]
    monkeypatch.setattr("guildgpt.train.rollout.loops", lambda ids: tuple(ids) == looping.ids)
    rollout = method.collect(0)
    expected = [one.sampled.ended or one.ids == looping.ids for one in rollout.episodes]
    assert rollout.kept.tolist() == expected
    assert expected[1]
    assert 0 < sum(expected) < len(expected)  # else nothing is shown here
    np.testing.assert_array_equal(rollout.scores, rollout.scored.total)  # and none is fined

    [update, *_] = list(method.updates(0))
    seen = [tuple(one.ids.tolist()) for batch in update for one in batch.examples]
    kept = [tuple(one.example.ids.tolist()) for one in rollout.episodes if one.sampled.ended]
    kept.append(tuple(looping.example.ids.tolist()))
    assert sorted(seen) == sorted(kept)


@pytest.mark.parametrize("train", [ppo, grpo])
def test_an_iteration_in_which_all_was_cut_teaches_nothing(
    tmp_path: Path,
    watcher: Remembering,
    train: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("guildgpt.train.rollout.loops", lambda ids: False)
    monkeypatch.setattr(policies, "EOS", 63)  # which is never drawn here
    settings = {"missing_eos": "leave_out", "max_new_tokens": 1, "steps": 2, "normalize": True}
    hats = train(tmp_path, watcher, 0, **settings)
    assert [step["left_out"] for step in watcher.steps] == [1.0, 1.0]
    assert [step["loss"] for step in watcher.steps] == [0.0, 0.0]
    fresh = hats_of(outspoken())
    fresh.add("policy", SETTINGS["lora"], seed=0)
    for name, parameter in hats.parameters("policy").items():
        assert torch.equal(parameter, fresh.parameters("policy")[name])
