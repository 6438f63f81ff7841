"""Tokens a second of supervised fine-tuning, side by side with TRL's SFTTrainer.

Same model (the starter), same rows (220 to 290 tokens), same batch of 4, adapters of rank 16 on all
linear layers or all weights. Each side runs in a process of its own, in turn, several times; the
medians and the ratio are printed. TRL runs at its best setting: no gradient checkpointing, and the
faster of bfloat16 and float32, which is tried first. With `--threads 1` seconds are the
processor's, which hold on a busy machine.

    pip install -r bench/requirements.txt
    python bench/sft.py --data dolly:PATH [--repeat 3] [--steps 6] [--peer-python PATH]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.peers import Watch, as_child, clock_for, pairs, peak_resident, resident, run_side

BATCH = 4
SHORTEST, LONGEST = 220, 290


def rows(source: str, count: int) -> list[dict[str, Any]]:
    """Conversations of one exchange whose ids, in the starter's ChatML, are of similar length."""
    from guildgpt.bases.base import load_tokenizer
    from guildgpt.bases.config import BaseConfig
    from guildgpt.data import SourceSpec, load

    chat = load_tokenizer(BaseConfig())[0]
    found = []
    for conversation in load(SourceSpec.parse(source)).conversations:
        length = len(chat.template.render(conversation.messages, chat.tokenizer).ids)
        if len(conversation.messages) == 2 and SHORTEST <= length <= LONGEST:
            found.append({"messages": [m.as_dict() for m in conversation.messages]})
        if len(found) == count:
            return found
    raise SystemExit(f"{source} has only {len(found)} rows of {SHORTEST} to {LONGEST} tokens")


def ours(work: str, mode: str, dtype: str, steps: str, threads: str) -> dict[str, float]:
    """GuildGPT's own SFT stage."""
    from guildgpt.bases.base import load_base
    from guildgpt.bases.config import BaseConfig
    from guildgpt.chat import Conversation, Message
    from guildgpt.data.examples import conversation_examples
    from guildgpt.network.hardware import peak_flops
    from guildgpt.network.world import World
    from guildgpt.train.config import SftConfig
    from guildgpt.train.loop import Job
    from guildgpt.train.next_token import sft

    watch = Watch(clock_for(int(threads)))
    base = load_base(BaseConfig(context=512))
    conversations = [
        Conversation(tuple(Message(**m) for m in json.loads(line)["messages"]))
        for line in Path(work, "rows.jsonl").read_text().splitlines()
    ]
    examples, _ = conversation_examples(
        conversations, base.chat.tokenizer, base.chat.template, context=512
    )
    config = SftConfig(
        adapter="lora" if mode == "lora" else "none",
        batch_size=BATCH,
        micro_tokens=100_000,
        steps=int(steps),
        evaluations=0,
        dtype="auto" if dtype == "auto" else dtype,  # type: ignore[arg-type]
        checkpoint_minutes=1e6,
        learning_rate=1e-5,
    )
    with tempfile.TemporaryDirectory() as folder:
        before = resident()
        world = World()
        kind = world.dtype(config.dtype)
        peak = peak_flops(world.device, kind, clock=watch.clock)
        sft(base, examples, {}, config, Job(Path(folder), 0, watch, world))  # type: ignore[arg-type]
        # A busy machine shows less than it has.
        peak = max(peak, peak_flops(world.device, kind, clock=watch.clock))
    seen, seconds = watch.seen, watch.seconds()
    # The loop's own rates are of the wall's seconds.
    per_flop = [m["tokens_per_second"] / m["flops_per_second"] for m in seen[1:]]
    tokens = [after["tokens"] - before["tokens"] for before, after in pairwise(seen)]
    rates = [n / t for n, t in zip(tokens, seconds, strict=True)]
    return {
        "tokens_per_second": statistics.median(rates),
        "share_of_peak": statistics.median(
            rate / each for rate, each in zip(rates, per_flop, strict=True)
        )
        / peak,
        "memory_gib": (max(m["memory_bytes"] for m in seen) - before) / 2**30,
        "loss": statistics.mean(m["loss"] for m in seen),
    }


def trl(work: str, mode: str, dtype: str, steps: str, threads: str) -> dict[str, float]:
    """TRL's SFTTrainer, timed step by step."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]

    clock = clock_for(int(threads))
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    folder = Path(work, "base").read_text()
    loaded = [
        json.loads(line)["messages"] for line in Path(work, "rows.jsonl").read_text().splitlines()
    ]
    data = Dataset.from_list([{"prompt": m[:1], "completion": m[1:]} for m in loaded])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = Path(work, "template.jinja").read_text()
    times: list[float] = []
    tokens: list[int] = []

    class Timer(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.start = clock()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(clock() - self.start)

    class Counting(SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            tokens.append(int(inputs["attention_mask"].sum()))
            return super().training_step(model, inputs, *args, **kwargs)

    with tempfile.TemporaryDirectory() as out:
        trainer = Counting(
            model=AutoModelForCausalLM.from_pretrained(
                folder, dtype=kind if mode == "lora" else torch.float32
            ),
            args=SFTConfig(
                output_dir=out,
                per_device_train_batch_size=BATCH,
                max_steps=int(steps),
                learning_rate=1e-5,
                bf16=kind is torch.bfloat16,
                use_cpu=True,
                gradient_checkpointing=False,
                max_length=512,
                report_to="none",
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
            )
            if mode == "lora"
            else None,
            callbacks=[Timer()],
        )
        before = resident()
        trainer.train()
        memory = peak_resident() - before
    speeds = [n / t for n, t in zip(tokens[1:], times[1:], strict=True)]
    return {
        "tokens_per_second": statistics.median(speeds),
        "memory_gib": memory / 2**30,
        "loss": statistics.mean(row["loss"] for row in trainer.state.log_history if "loss" in row),
    }


def main() -> None:
    """Measure and print."""
    if as_child({"ours": ours, "trl": trl}):
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="dolly", help="dolly:PATH or another SOURCE")
    parser.add_argument("--mode", choices=["lora", "full"], action="append")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", choices=["bfloat16", "float32"], help="TRL's format; else tried")
    parser.add_argument("--peer-python", default=sys.executable)
    given = parser.parse_args()

    from guildgpt.bases.config import BaseConfig
    from guildgpt.bases.locate import locate_base
    from guildgpt.chat import CHATML
    from guildgpt.network.hardware import describe, native_bfloat16
    from guildgpt.network.world import World

    device = World().device
    print(f"{describe(device)}; native bfloat16: {native_bfloat16(device)}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        lines = [json.dumps(row) for row in rows(given.data, BATCH * given.steps)]
        (work / "rows.jsonl").write_text("\n".join(lines))
        (work / "base").write_text(str(locate_base(BaseConfig()).folder))
        (work / "template.jinja").write_text(CHATML.jinja)

        def side(name: str, mode: str, dtype: str, steps: int = given.steps) -> dict[str, float]:
            python = given.peer_python if name == "trl" else ""
            more = (work, mode, dtype, steps, given.threads)
            return run_side(__file__, name, *more, python=python)

        for mode in given.mode or ["lora", "full"]:
            tried = {
                dtype: side("trl", mode, dtype, 3)["tokens_per_second"]
                for dtype in (() if given.peer else ("bfloat16", "float32"))
            }
            for dtype, rate in tried.items():
                print(f"{mode}: TRL in {dtype} makes {rate:.0f} tokens/s")
            best = given.peer or max(tried, key=lambda dtype: tried[dtype])
            pairs(
                f"{mode} (TRL in {best})",
                partial(side, "ours", mode, "auto"),
                partial(side, "trl", mode, best),
                "tokens_per_second",
                given.repeat,
            )


if __name__ == "__main__":
    main()
