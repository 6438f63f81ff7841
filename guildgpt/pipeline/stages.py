"""The stages, in the order in which a recipe may name them: a row says what each starts from, what
rows it reads, who trains it, and what it leaves.

`run_stage` in `run.py` takes every row down the same road; nothing else knows one stage from
another. To add one that reads rows of a kind known here (`kto` on `comparisons`, say), write its
loop in `train/`, name it and its section in `recipe.py`, and add its trainer (`trainers.py`) and a
row here. Rows of a new kind are made ready in `prepare.py` and counted in `plan.py`.
"""

from __future__ import annotations

from guildgpt.pipeline import trainers
from guildgpt.pipeline.stage import StageKind
from guildgpt.recipe import Stage

STAGES: dict[Stage, StageKind] = {
    "pretrain": StageKind("a base", "documents", trainers.train_on_documents, "a language model"),
    "sft": StageKind(
        "a base", "conversations", trainers.train_on_conversations, "a language model"
    ),
    "reward": StageKind(
        "a language model", "comparisons", trainers.train_to_score, "a reward model"
    ),
    "judge": StageKind(
        "a language model", "comparisons", trainers.train_to_score, "a reward model", judges=True
    ),
    "dpo": StageKind("a chat model", "comparisons", trainers.train_with_dpo, "a language model"),
    "grpo": StageKind("a chat model", "prompts", trainers.train_with_grpo, "a language model"),
    "ppo": StageKind("a chat model", "prompts", trainers.train_with_ppo, "a language model"),
}
