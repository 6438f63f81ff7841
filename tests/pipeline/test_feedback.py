"""The road from text to feedback as a whole: what it leaves, stages alone, what is refused."""

from __future__ import annotations

import json
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from guildgpt.bases.base import Base
from guildgpt.chat import ChatTemplate, Message
from guildgpt.errors import GuildError, ModelError, RecipeError
from guildgpt.network.reward_model import load_reward_model
from guildgpt.pipeline.plan import dry_run
from guildgpt.pipeline.stage import Prepared, StageKind, StageRun, Trained
from guildgpt.pipeline.stages import STAGES as KINDS
from guildgpt.recipe import load_recipe
from guildgpt.report.before_after import headline
from guildgpt.report.report import read_report
from guildgpt.train import loop
from guildgpt.train.loop import Job, Outcome

from .road import STAGES, Road, alone, train

# --- the whole road ------------------------------------------------------------------------------


def test_every_stage_leaves_a_model_of_its_kind(road: Road) -> None:
    for stage in STAGES:
        folder = road.folder / stage
        assert (folder / "done.json").is_file()
        assert not (folder / "checkpoints").exists()
        names = {path.name for path in (folder / "model").iterdir()}
        assert {"model.safetensors", "tokenizer.json", "provenance.json", "README.md"} <= names
        assert ("reward.json" in names) == (stage in ("reward", "judge"))
    for stage in ("sft", "ppo"):
        AutoModelForCausalLM.from_pretrained(road.folder / stage / "model")
    for stage in ("reward", "judge"):
        AutoModelForSequenceClassification.from_pretrained(road.folder / stage / "model")
        assert not (road.folder / stage / "best.safetensors").exists()


def test_the_report_tells_the_whole_road(road: Road) -> None:
    report = road.report
    assert [stage.name for stage in report.stages] == STAGES
    assert {one.stage for one in report.preferences} == {"reward", "judge"}
    for one in report.preferences:
        assert one.figures.pairs > 0
        assert 0 <= one.figures.low <= one.figures.accuracy <= one.figures.high <= 1
    duel = report.head_to_head
    assert duel is not None
    assert duel.verdicts is not None
    assert duel.verdicts.comparisons == duel.verdicts.prompts == 8
    assert duel.reward_before is not None
    assert duel.judge_after is not None
    assert duel.kl is not None
    assert duel.agreement is not None
    assert 0 <= duel.agreement.low <= duel.agreement.share <= duel.agreement.high <= 1
    assert duel.judge_data
    assert all(" comparisons of " in one for one in duel.judge_data)
    assert duel.judge_words in road.printed
    assert duel.judge_words in headline(report)
    curves = report.stages[-1].metrics
    assert len(curves) == 3
    for name in ("reward", "kl", "entropy", "length", "cut", "loops", "explained_variance"):
        assert all(isinstance(row[name], float) for row in curves)
    assert read_report(road.folder / "ppo" / "model") == report
    page = (road.folder / "report.html").read_text()
    assert "ppo" in page
    assert "nats an answer" in road.printed


def test_one_can_talk_to_it_before_feedback(road: Road) -> None:
    line = f"in another terminal: guildgpt chat {road.folder / 'sft' / 'model'}"
    assert road.printed.count("in another terminal") == 1
    assert road.printed.index(line) < road.printed.index("tiny: reward")


def test_policy_and_rewards_were_trained(road: Road) -> None:
    def weights(stage: str) -> dict[str, torch.Tensor]:
        kind = AutoModelForSequenceClassification if stage != "sft" else AutoModelForCausalLM
        kind = AutoModelForCausalLM if stage in ("sft", "ppo") else kind
        model = kind.from_pretrained(road.folder / stage / "model")
        return dict(model.named_parameters())

    sft = weights("sft")
    for stage in ("reward", "judge", "ppo"):
        other = weights(stage)
        assert not torch.equal(
            other["model.layers.0.self_attn.q_proj.weight"],
            sft["model.layers.0.self_attn.q_proj.weight"],
        )
    assert not torch.equal(weights("reward")["score.weight"], weights("judge")["score.weight"])


def test_reward_and_judge_learned_from_different_comparisons(road: Road) -> None:
    plan = dry_run(load_recipe(road.recipe), Console(file=StringIO()))
    halves = [plan["stages"][stage]["comparisons"] for stage in ("reward", "judge")]
    source = plan["sources"]["pairs"]
    assert sum(halves) == source["train"]
    assert min(halves) > 5


def test_demonstrations_score_nothing_on_average(road: Road) -> None:
    from guildgpt.bases.base import load_base
    from guildgpt.pipeline.inputs import starts_from
    from guildgpt.pipeline.prepare import gather, prepare

    recipe = load_recipe(road.recipe)
    config = starts_from("reward", recipe, road.folder).base
    prepared = prepare("sft", recipe, gather(recipe, ["reward"], config), load_base(config).chat)
    rows = [example for some in prepared.held_out.values() for example in some]
    model = load_reward_model(road.folder / "reward" / "model", torch.float32, torch.device("cpu"))
    assert float(model.scores(rows).mean()) == pytest.approx(0, abs=1e-4)


def test_a_new_stage_is_a_trainer_and_a_row(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it takes the name and the section of one that is there."""

    def doubled(run: StageRun, base: Base, rows: Prepared, job: Job) -> Trained:
        with torch.no_grad():
            base.model.get_input_embeddings().weight.mul_(2)
        log = job.folder / "metrics.jsonl"
        log.write_text(json.dumps({"step": 1, "loss": float(len(rows.compared.train))}) + "\n")
        return Trained(base.model, Outcome(1, 9, 0.5, 18.0, 1, 0, log), notes=["twice as loud"])

    row = StageKind("comparisons", doubled)
    monkeypatch.setitem(KINDS, "dpo", row)
    report, _ = train(alone(road, tmp_path, "dpo"), tmp_path / "run")
    assert report.stages[0].metrics[0]["loss"] > 5  # type: ignore[operator]
    assert report.held_out
    model = tmp_path / "run" / "dpo" / "model"
    assert "twice as loud" in (model / "README.md").read_text()
    name = "model.embed_tokens.weight"
    before, after = (
        load_file(one / "model.safetensors")[name] for one in (road.folder / "sft" / "model", model)
    )
    assert torch.equal(after, 2 * before)


def test_what_is_finished_is_not_done_again(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None:
        raise AssertionError("it is all done")

    monkeypatch.setattr(loop._Stage, "take", nothing)
    before = written(road.folder)
    report, printed = train(road.recipe, road.folder)
    assert printed.count("is finished already") == len(STAGES)
    assert report.head_to_head == road.report.head_to_head
    assert written(road.folder) == before


def written(folder: Path) -> dict[Path, int]:
    """When each file of the models was written, but for what a rerun says anew."""
    anew = {"README.md", "report.json", "report.html"}
    files = [path for path in folder.glob("*/model/*") if path.name not in anew]
    assert len(files) > 20
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_stage_alone_needs_those_before_it(road: Road, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="starts from what `sft` leaves: not there"):
        train(road.recipe, tmp_path, ["ppo"])
    with pytest.raises(RecipeError, match="no stage `dpo`"):
        train(road.recipe, tmp_path, ["dpo"])


# --- other roads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["dpo", "grpo", "ppo"])
def test_a_policy_without_a_reward_model(road: Road, tmp_path: Path, stage: str) -> None:
    """DPO needs none, and the others may be paid by a program alone."""
    terms = {"dpo": "", "grpo": "group = 2\n"}.get(stage, "")
    if stage != "dpo":
        terms += (
            f"[{stage}.terms]\nlength = {{weight = 1.0, shortest = 2, longest = 4, slack = 4}}\n"
        )
    recipe = alone(road, tmp_path, stage, terms)
    report, _ = train(recipe, tmp_path / "run")
    assert [one.name for one in report.stages] == [stage]
    duel = report.head_to_head
    assert duel is not None
    assert duel.verdicts is None  # nobody judges
    assert duel.reward_after is None
    assert duel.kl is not None
    first = report.stages[0].metrics[0]
    assert ("reward_length" in first) == (stage != "dpo")
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / stage / "model")


def test_a_reward_model_by_its_path(road: Road, tmp_path: Path) -> None:
    path = road.folder / "reward" / "model"
    recipe = alone(road, tmp_path, "ppo", f'reward_model = "{path}"\nvalue_trunk = "reward"\n')
    report, _ = train(recipe, tmp_path / "run")
    assert report.head_to_head is not None
    assert report.head_to_head.reward_after is not None
    assert "reward_model" in report.stages[0].metrics[0]


def test_a_path_that_holds_no_reward_model(road: Road, tmp_path: Path) -> None:
    path = road.folder / "sft" / "model"
    recipe = alone(road, tmp_path, "ppo", f'reward_model = "{path}"\n')
    with pytest.raises(ModelError, match="not a reward model"):
        train(recipe, tmp_path / "run")


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_nothing_to_be_rewarded_by_is_told_before_anything_is_loaded(
    road: Road, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> None:
        raise AssertionError("too early")

    monkeypatch.setattr("guildgpt.pipeline.run.load_base", nothing)
    recipe = alone(road, tmp_path, stage)
    for go in (train, lambda path, _: dry_run(load_recipe(path), Console(file=StringIO()))):
        with pytest.raises(RecipeError, match=r"nothing that .* could be rewarded by") as caught:
            go(recipe, tmp_path / "run")
        assert f"{stage}.reward_model" in str(caught.value)


def test_a_value_head_without_states_to_read_is_told_before_anything_is_loaded(
    road: Road, tmp_path: Path
) -> None:
    recipe = alone(road, tmp_path, "ppo", 'value_trunk = "reward"\nterms.repetition.weight = 1\n')
    with pytest.raises(RecipeError, match="no reward model whose hidden states"):
        dry_run(load_recipe(recipe), Console(file=StringIO()))


def test_no_comparisons(road: Road, tmp_path: Path) -> None:
    recipe = alone(road, tmp_path, "dpo")
    lines = [line for line in recipe.read_text().splitlines() if "pairs.jsonl" not in line]
    recipe.write_text("\n".join(lines))
    with pytest.raises(GuildError, match="no comparisons to train `dpo` on"):
        train(recipe, tmp_path / "run")


# --- a dry run -----------------------------------------------------------------------------------


def test_a_dry_run_foretells_what_every_stage_does(road: Road) -> None:
    out = StringIO()
    plan = dry_run(load_recipe(road.recipe), Console(file=out, width=200))
    stages = plan["stages"]
    assert list(stages) == STAGES
    assert json.loads(json.dumps(plan)) == plan
    for stage in road.report.stages:
        assert stages[stage.name]["steps"] == stage.outcome.steps
    for stage in ("reward", "judge"):
        told = stages[stage]
        done = next(one for one in road.report.stages if one.name == stage)
        assert told["pairs"] == told["comparisons"] > 0
        assert told["tokens_seen"] == told["tokens"] == done.outcome.tokens  # one epoch
        assert told["held_out"] > 0
        assert f"{told['comparisons']} comparisons, {told['pairs']} pairs" in out.getvalue()
    ppo = stages["ppo"]
    assert (ppo["steps"], ppo["answers"]) == (3, 12)
    assert f"{ppo['prompts']} prompts" in out.getvalue()
    assert f"{ppo['prompts']:,} prompts to answer, 0 left out" in road.printed


def test_a_dry_run_reads_every_conversation_once(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is checked, fine-tuned on, scored and measured."""
    seen: Counter[tuple[Message, ...]] = Counter()
    render = ChatTemplate.render

    def counted(self: ChatTemplate, messages: Any, tokenizer: Any) -> Any:
        seen[tuple(messages)] += 1
        return render(self, messages, tokenizer)

    monkeypatch.setattr(ChatTemplate, "render", counted)
    dry_run(load_recipe(road.recipe), Console(file=StringIO()))
    answered = [times for messages, times in seen.items() if messages[-1].role == "assistant"]
    assert len(answered) > 10
    assert max(answered) == 1


def test_a_stage_counts_the_rows_that_it_reads(road: Road) -> None:
    reports = {
        stage: {
            item.name: report for item, report in read_report(road.folder / stage / "model").sources
        }
        for stage in ("sft", "reward", "ppo")
    }
    rows, pairs = reports["sft"]["rows"], reports["sft"]["pairs"]
    assert rows.train > 0
    assert (pairs.rows, pairs.train, pairs.held_out) == (0, 0, 0)
    assert reports["reward"]["rows"].train == 0
    assert reports["reward"]["pairs"].train > 0
    assert reports["ppo"]["rows"].train == rows.train
    assert reports["ppo"]["pairs"].train == reports["reward"]["pairs"].train
    assert "pairs: no rows for `sft`" in road.printed
    assert "rows: no rows for `reward`" in road.printed
    assert ": 0 to train on" not in road.printed


def test_a_dry_run_counts_prompts_that_are_too_long(road: Road) -> None:
    out = StringIO()
    whole = dry_run(load_recipe(road.recipe), Console(file=StringIO()))["stages"]["ppo"]
    limit = whole["longest"] - 1
    recipe = load_recipe(road.recipe, [f"ppo.max_prompt_tokens={limit}"])
    cut = dry_run(recipe, Console(file=out, width=200))["stages"]["ppo"]
    assert cut["longest"] <= limit
    assert cut["dropped"] == {"too long to be asked": whole["prompts"] - cut["prompts"]}
    assert "too long to be asked" in out.getvalue()
    with pytest.raises(RecipeError, match="no prompt fits"):
        dry_run(load_recipe(road.recipe, ["ppo.max_prompt_tokens=1"]), Console(file=out))
