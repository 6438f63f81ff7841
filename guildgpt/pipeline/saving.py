"""A trained stage's model folder, written so that nothing that took training is lost to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guildgpt.bases.locate import locate_base
from guildgpt.data.origin import Events
from guildgpt.data.provenance import Provenance
from guildgpt.errors import GuildError, ModelError
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.folder import model_card, speaks, write_model_folder
from guildgpt.model.lineage import read_lineage
from guildgpt.pipeline.folder import ADAPTER, is_disk_full
from guildgpt.pipeline.stage import Prepared, StageRun, Trained, in_short

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
    inherited: Events,
    *,
    gguf: Sequence[str] | None = None,
) -> None:
    """Write the model folder; where no GGUF can be made of it, without one. `inherited` is what the
    models it starts from learned from."""
    recipe, scores, outcome = run.recipe, run.kind.scores, trained.outcome
    if trained.adapter:
        (run.place / ADAPTER).write_bytes(trained.adapter)
    card = model_card(
        f"{recipe.name} ({run.stage})" if scores else recipe.name,
        provenance,
        stages=recipe.stages[: recipe.stages.index(run.stage) + 1],
        figures=[f"{outcome.tokens:,} tokens seen in {outcome.steps:,} steps", *trained.notes],
        **(SCORES if scores else {"introduction": speaks(chat.template)}),
    )
    if gguf is None:
        gguf = () if scores else recipe.export.gguf
    try:
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
            lineage=inherited.union(*(row.origin for row in rows.trained_on)),
        )
    except Exception as error:  # whatever stops the GGUF, the weights are worth more
        if is_disk_full(error):
            raise
        if not gguf:
            raise _unsaved(run, error) from error
        run.warn(f"There is no GGUF: {in_short(error)}")
        save_model(run, trained, chat, provenance, rows, inherited, gguf=())


def _unsaved(run: StageRun, error: Exception) -> GuildError:
    if isinstance(error, GuildError):
        return error
    return ModelError(
        f"`{run.stage}` is trained, and its model folder could not be written ({in_short(error)})",
        where=run.place / "model",
        remedy=f"Nothing is lost: what was trained is in {run.place / 'checkpoints'}. Once the "
        "cause is gone, the same command writes the folder without training again.",
    )


def inherited_by(run: StageRun) -> Events:
    """What the models that a stage starts from learned from: its base and its reward model."""
    events: Events = set()
    base, reward = run.start.base, run.start.reward
    if base.base not in ("scratch", "starter"):
        if (path := Path(base.base).expanduser()).is_file():
            events |= read_lineage(path)
        else:
            place = locate_base(base, weights=False)
            for folder in filter(None, (place.folder, place.adapter)):
                events |= read_lineage(folder)
    if reward:
        events |= read_lineage(reward)
    return events
