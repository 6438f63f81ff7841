"""Sampling beside transformers' `generate`, and a whole RLHF iteration beside TRL's RLOOTrainer.

Same model (the starter), same prompts, same adapters (rank 16 on all linear layers), same reward
model (the starter with a scalar head), 32 answers of 64 tokens in groups of 4, one update pass. No
answer ends early on either side: the end-of-turn token is taken away, so that the work is the same.
Each side runs in a process of its own, in turn; medians and the ratio pair by pair are printed. The
peers run in the faster of bfloat16 and float32, which is tried first.

    pip install -r bench/requirements.txt
    python bench/rlhf.py [sampling] [iteration] [--repeat 3] [--steps 3] [--layers 15]

With `--layers` the adapters of both sides are on so many of the uppermost layers alone. With
`--threads 1` an iteration is timed in seconds of the processor, which hold on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.peers import Side, Watch, as_child, clock_for, pairs, peak_resident, resident, run_side

ANSWERS, GROUP, NEW_TOKENS = 32, 4, 64
LAYERS = 30  # of the starter
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NEVER = 49_151  # a token of the starter's that stands for an end of turn that does not come


def prompts(count: int) -> list[list[int]]:
    """Token ids of the starter pack's held-out questions."""
    from guildgpt.bases.base import load_tokenizer
    from guildgpt.bases.config import BaseConfig
    from guildgpt.chat import Message
    from guildgpt.data import starter_prompts

    chat = load_tokenizer(BaseConfig())[0]
    asked = [(Message("user", one.prompt),) for one in starter_prompts()]
    ids = [chat.template.prompt(messages, chat.tokenizer) for messages in asked]
    return sorted(ids, key=len)[:count]


def base_folder() -> Path:
    """The starter as a folder of safetensors."""
    from guildgpt.bases.config import BaseConfig
    from guildgpt.bases.locate import locate_base

    return locate_base(BaseConfig()).folder


def our_sampling(dtype: str) -> dict[str, float]:
    """GuildGPT's sampler."""
    import torch

    from guildgpt.bases.base import read_model
    from guildgpt.network.sampler import Sampling, sample
    from guildgpt.network.trunk import trunk_for

    kind = getattr(torch, dtype)
    trunk = trunk_for(read_model(base_folder()).to(kind), kind)
    asked = prompts(ANSWERS)
    times = []
    for seed in range(4):
        begun = time.perf_counter()
        found = sample(trunk, asked, Sampling(NEW_TOKENS), eos_id=NEVER, seed=seed, rows=ANSWERS)
        times.append(time.perf_counter() - begun)
    return {"tokens_per_second": sum(map(len, found)) / statistics.median(times[1:])}


def hf_sampling(dtype: str) -> dict[str, float]:
    """transformers' `generate`."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_folder(), dtype=getattr(torch, dtype)).eval()
    asked = prompts(ANSWERS)
    longest = max(map(len, asked))
    ids = torch.zeros(len(asked), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(asked):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    times = []
    for seed in range(4):
        torch.manual_seed(seed)
        begun = time.perf_counter()
        with torch.no_grad():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                pad_token_id=0,
            )
        times.append(time.perf_counter() - begun)
    made = (out.shape[1] - longest) * len(asked)
    return {"tokens_per_second": made / statistics.median(times[1:])}


def our_iteration(work: str, dtype: str, steps: str, layers: str, threads: str) -> dict[str, float]:
    """GuildGPT's RLOO, a whole step of the loop."""
    import torch

    from guildgpt.bases.base import load_base
    from guildgpt.bases.config import BaseConfig
    from guildgpt.model.config import AdapterConfig
    from guildgpt.network.hats import Hats
    from guildgpt.network.reward_model import load_reward_model
    from guildgpt.network.world import World
    from guildgpt.rewards.terms import Rewards
    from guildgpt.train.config import GrpoConfig
    from guildgpt.train.grpo import Grpo
    from guildgpt.train.loop import Job
    from guildgpt.train.on_policy import train_on_policy
    from guildgpt.train.rollout import Prompt, Scoring

    kind = getattr(torch, dtype)
    device = torch.device("cpu")
    base = load_base(BaseConfig(context=512))
    hats = Hats(base.model, kind, device)
    reward = load_reward_model(Path(work) / "reward", kind, device)
    config = GrpoConfig(
        steps=int(steps),
        batch_size=ANSWERS,
        group=GROUP,
        baseline="leave_one_out",
        max_new_tokens=NEW_TOKENS,
        passes=1,
        lora=AdapterConfig(layers=int(layers)),
        missing_eos="score",
        checkpoint_minutes=1e6,
        show_every=0,
        dtype=dtype,  # type: ignore[arg-type]
        guards={"max_kl": 1e9, "max_cut": 1.0, "max_loops": 1.0},  # type: ignore[arg-type]
    )
    asked = [Prompt((), tuple(ids)) for ids in prompts(ANSWERS)]
    watch = Watch(clock_for(int(threads)))
    with tempfile.TemporaryDirectory() as folder:
        before = resident()
        train_on_policy(
            Grpo(config),
            hats,
            asked,
            Scoring(reward, 1.0, Rewards(config.terms)),
            base.chat.tokenizer,
            NEVER,
            Job(Path(folder), 0, watch, World()),  # type: ignore[arg-type]
        )
    return {
        "seconds": statistics.median(watch.seconds()),
        "memory_gib": (peak_resident() - before) / 2**30,
        "tokens": statistics.mean(m["length"] for m in watch.seen),
    }


def trl_iteration(work: str, dtype: str, steps: str, layers: str, threads: str) -> dict[str, float]:
    """TRL's RLOOTrainer, generation, scoring and update."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl import RLOOConfig, RLOOTrainer  # type: ignore[import-not-found]

    kind = getattr(torch, dtype)
    folder = base_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(NEVER)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    texts = [tokenizer.decode(ids) for ids in prompts(ANSWERS)]
    reward = AutoModelForSequenceClassification.from_pretrained(
        Path(work) / "reward", num_labels=1, dtype=kind
    )
    times: list[float] = []
    clock = clock_for(int(threads))

    class Timer(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.start = clock()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(clock() - self.start)

    lengths: list[float] = []
    with tempfile.TemporaryDirectory() as out:
        trainer = RLOOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=kind),
            reward_funcs=reward,
            args=RLOOConfig(
                output_dir=out,
                per_device_train_batch_size=ANSWERS,
                num_generations=GROUP,
                max_completion_length=NEW_TOKENS,
                num_iterations=1,
                max_steps=int(steps),
                learning_rate=1e-4,
                beta=0.05,
                temperature=1.0,
                bf16=kind is torch.bfloat16,
                use_cpu=True,
                gradient_checkpointing=False,
                report_to="none",
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=Dataset.from_list([{"prompt": text} for text in texts]),
            processing_class=tokenizer,
            reward_processing_classes=tokenizer,
            peft_config=LoraConfig(
                r=16,
                lora_alpha=32,
                target_modules=LINEAR,
                layers_to_transform=list(range(LAYERS))[-int(layers) :],
                task_type="CAUSAL_LM",
            ),
            callbacks=[Timer()],
        )
        before = resident()
        trainer.train()
        lengths = [
            row["completions/mean_length"]
            for row in trainer.state.log_history
            if "completions/mean_length" in row
        ]
    return {
        "seconds": statistics.median(times[1:]),
        "memory_gib": (peak_resident() - before) / 2**30,
        "tokens": statistics.mean(lengths),
    }


def write_reward_model(folder: Path) -> None:
    """The starter with a scalar head, in the form that both sides load."""
    from guildgpt.bases.base import load_base
    from guildgpt.bases.config import BaseConfig
    from guildgpt.network.reward_model import RewardRecord, classifier, scalar_head

    base = load_base(BaseConfig(context=512))
    width = base.model.get_input_embeddings().weight.shape[1]
    model = classifier(base.model, scalar_head(width, seed=0), base.chat)
    model.save_pretrained(folder)
    record = RewardRecord(0.0, "", {})
    (folder / "reward.json").write_text(json.dumps(vars_of(record)))


def vars_of(record: Any) -> dict[str, Any]:
    """A record's fields."""
    return {name: getattr(record, name) for name in record.__slots__}


SIDES: dict[str, Side] = {
    "our_sampling": our_sampling,
    "hf_sampling": hf_sampling,
    "our_iteration": our_iteration,
    "trl_iteration": trl_iteration,
}


def main() -> None:
    """Measure and print."""
    if as_child(SIDES):
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["sampling", "iteration"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--layers", type=int, default=LAYERS, help="with adapters, from the top")
    parser.add_argument("--threads", type=int, default=2, help="of an iteration; see peers.py")
    parser.add_argument(
        "--peer", choices=["bfloat16", "float32"], help="the faster one; else tried"
    )
    given = parser.parse_args()
    from guildgpt.network.hardware import describe, native_bfloat16
    from guildgpt.network.world import World

    device = World().device
    native = native_bfloat16(device)
    print(f"{describe(device)}; native bfloat16: {native}")
    mine = "bfloat16" if native else "float32"
    if "sampling" in given.what:
        tried = {
            dtype: run_side(__file__, "hf_sampling", dtype)["tokens_per_second"]
            for dtype in ("bfloat16", "float32")
        }
        best = max(tried, key=lambda dtype: tried[dtype])
        print(f"generate: {', '.join(f'{v:.0f} tokens/s in {k}' for k, v in tried.items())}")
        pairs(
            f"sampling ({mine} beside {best})",
            lambda: run_side(__file__, "our_sampling", mine),
            lambda: run_side(__file__, "hf_sampling", best),
            "tokens_per_second",
            given.repeat,
        )
    if "iteration" in given.what:
        with tempfile.TemporaryDirectory() as work:
            write_reward_model(Path(work) / "reward")
            more = given.layers, given.threads
            seconds = {
                dtype: run_side(__file__, "trl_iteration", work, dtype, 2, *more)["seconds"]
                for dtype in (() if given.peer else ("bfloat16", "float32"))
            }
            best = given.peer or min(seconds, key=lambda dtype: seconds[dtype])
            print(f"TRL: {', '.join(f'{v:.1f} s in {k}' for k, v in seconds.items()) or best}")
            pairs(
                f"iteration ({mine} beside {best}, adapters on {given.layers} of {LAYERS} layers)",
                lambda: run_side(__file__, "our_iteration", work, mine, given.steps, *more),
                lambda: run_side(__file__, "trl_iteration", work, best, given.steps, *more),
                "seconds",
                given.repeat,
                less_is_better=True,
            )


if __name__ == "__main__":
    main()
