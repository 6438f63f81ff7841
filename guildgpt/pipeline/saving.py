"""What a stage leaves: the model folder, with its card, its records and its lineage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guildgpt.bases.locate import locate_base
from guildgpt.data.origin import Events
from guildgpt.data.provenance import Provenance
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.folder import model_card, write_model_folder
from guildgpt.model.lineage import read_lineage
from guildgpt.pipeline.folder import is_disk_full
from guildgpt.pipeline.stage import Prepared, StageRun, Trained, in_short

ADAPTER = "policy.safetensors"
SCORES = {
    "task": "text-classification",
    "introduction": "It scores answers: the higher, the better people would like it. Read the "
    "score at the end-of-turn token, and use differences between answers to one prompt.",
}


def save_model(
    run: StageRun,
    trained: Trained,
    chat: ChatTokenizer,
    provenance: Sequence[Provenance],
    rows: Prepared,
) -> None:
    """Write the model folder; where no GGUF can be made of it, without one."""
    recipe, scores, outcome = run.recipe, run.kind.scores, trained.outcome
    if trained.adapter:
        (run.place / ADAPTER).write_bytes(trained.adapter)
    card = model_card(
        f"{recipe.name} ({run.stage})" if scores else recipe.name,
        chat,
        provenance,
        stages=recipe.stages[: recipe.stages.index(run.stage) + 1],
        figures=[f"{outcome.tokens:,} tokens seen in {outcome.steps:,} steps", *trained.notes],
        **(SCORES if scores else {}),
    )

    def write(gguf: Sequence[str]) -> None:
        write_model_folder(
            run.place / "model",
            trained.model,
            chat,
            context=recipe.model.context,
            provenance=provenance,
            recipe=recipe.model_dump(mode="json"),
            card=card,
            dtype=recipe.export.dtype,
            gguf=gguf,
            metrics=outcome.metrics,
            files=trained.files,
            lineage=_inherited(run).union(*(row.origin for row in rows.trained_on)),
        )

    gguf = () if scores else recipe.export.gguf
    try:
        write(gguf)
    except Exception as error:  # whatever stops the GGUF, the weights are worth more
        if is_disk_full(error) or not gguf:
            raise
        run.warn(f"There is no GGUF: {in_short(error)}")
        write(())


def _inherited(run: StageRun) -> Events:
    """What the models that a stage starts from learned from: its base and its reward model."""
    events: Events = set()
    base, reward = run.start.base, run.start.reward
    if base.base not in ("scratch", "starter"):
        path = Path(base.base).expanduser()
        events |= read_lineage(path if path.exists() else locate_base(base, weights=False)[0])
    if reward:
        events |= read_lineage(reward)
    return events
