"""A recipe's data on its way to the model: read, held against the policy, turned into token ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from guildgpt.bases import licences
from guildgpt.bases.base import check_context
from guildgpt.bases.config import BaseConfig
from guildgpt.bases.locate import Place, locate_base
from guildgpt.bases.replit import is_replit
from guildgpt.data import (
    Document,
    Provenance,
    SourceReport,
    build,
    check,
    load,
    read_documents,
)
from guildgpt.data.dataset import Kind, sum_of
from guildgpt.data.documents import document_side, documents_provenance
from guildgpt.data.examples import Example, document_examples
from guildgpt.data.repeating import repeating_rows
from guildgpt.data.split import digest
from guildgpt.errors import DataError, RecipeError
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.gguf import why_no_gguf
from guildgpt.model.json_file import json_if_any
from guildgpt.network.proof import rehearse
from guildgpt.pipeline.checks import (
    check_adapter,
    check_rewarded,
    check_room,
    check_rows,
    no_comparisons,
    no_demonstrations,
    no_ratings,
    wears_adapters,
)
from guildgpt.pipeline.prompts import prepare_prompts, prompts_with_room, unread_rules
from guildgpt.pipeline.reading import Reading
from guildgpt.pipeline.stage import Compared, Gathered, Prepared, RatedRows
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import Recipe, Stage
from guildgpt.train.config import DpoConfig, RolloutConfig


def gather(recipe: Recipe, stages: Sequence[Stage], base: BaseConfig) -> Gathered:
    """Read what `stages` need, starting from `base`, before any weights are loaded.

    PolicyError if the recipe's policy refuses the base or a source, RecipeError if a stage has
    nothing to learn from.
    """
    check_adapter(stages[0], recipe, base)
    for stage in stages:
        check_rewarded(stage, recipe)
        check_room(stage, recipe)
    reads = {STAGES[stage].reads for stage in stages}
    documents: list[Document] = []
    notices: list[str] = []
    if "documents" in reads or base.base == "scratch":
        documents = _read_documents(recipe, notices)
    reading = reads != {"documents"}
    if reading and not recipe.data.sources:
        raise RecipeError(
            "there are no sources to fine-tune on",
            where="data.sources",
            remedy="Name some, such as `starter` or a file of rows: mine.jsonl",
        )
    loaded = [load(spec) for spec in recipe.data.sources] if reading else []
    dataset = build(
        loaded,
        held_out=recipe.data.held_out,
        held_out_limit=recipe.data.held_out_limit,
        seed=recipe.seed,
    )
    for stage in stages:
        check_rows(stage, dataset, recipe.settings(stage))
    place, provenance = _found(base)
    if place and not is_replit(json_if_any(place.folder / "config.json")):
        model = rehearse(place.folder, adapters=wears_adapters(stages, recipe))
        check_context(model.config, base)
        notices += _without_gguf(recipe, stages, model, place)
    provenance += dataset.provenance
    if documents:
        provenance.append(
            documents_provenance(
                documents,
                licence=recipe.pretrain.licence,
                written_by=recipe.pretrain.written_by,
                attribution=recipe.pretrain.attribution,
                held_out=recipe.pretrain.held_out,
            )
        )
    warnings = check(recipe.policy, provenance) + notices
    warnings += [line for one in loaded for line in one.warnings]
    warnings += unread_rules(recipe, dataset)
    bad_rows = [line for one in loaded for line in one.notes.bad]
    return Gathered(dataset, documents, provenance, warnings, bad_rows)


def prepare(
    stage: Stage,
    recipe: Recipe,
    data: Gathered,
    chat: ChatTokenizer,
    read: Reading | None = None,
) -> Prepared:
    """A stage's rows as token ids; DataError or RecipeError where nothing is left to train on.

    `read` has what was made for other stages already.
    """
    reads, read = STAGES[stage].reads, read or Reading(recipe, data, chat)
    if reads == "documents":
        return _prepare_documents(recipe, data, chat)
    if STAGES[stage].changes_answers:
        prompts_with_room(recipe, data.dataset, chat)
    rows = _prepare_conversations(stage, read)
    rows = replace(rows, demonstrations=_demonstrations(stage, read))
    if reads == "comparisons":
        return replace(rows, compared=_prepare_comparisons(stage, read))
    if reads == "ratings":
        return replace(rows, rated=_prepare_ratings(stage, read))
    if reads == "prompts":
        prompts, too_long = prepare_prompts(stage, recipe, data.dataset, chat)
        return replace(rows, prompts=prompts, too_long=too_long)
    return _with_repeating(rows, recipe, chat)


def foresee(stage: Stage, read: Reading) -> None:
    """DataError or RecipeError for what a stage would lack once it came to it: pairs and prompts
    that fit, room for answers. Asked while nothing is trained yet."""
    recipe, data, chat = read.recipe, read.data, read.chat
    kind, settings = STAGES[stage], recipe.settings(stage)
    if kind.reads == "comparisons":
        _prepare_comparisons(stage, read)
    if kind.reads == "ratings":
        _prepare_ratings(stage, read)
    if isinstance(settings, RolloutConfig):
        prepare_prompts(stage, recipe, data.dataset, chat)
    _demonstrations(stage, read)
    if kind.changes_answers:
        prompts_with_room(recipe, data.dataset, chat)


def _demonstrations(stage: Stage, read: Reading) -> list[Example]:
    """Conversations that a stage shows beside its own rows; RecipeError where it should, and there
    are none."""
    settings = read.recipe.settings(stage)
    if not isinstance(settings, RolloutConfig | DpoConfig) or not settings.demonstrations.weight:
        return []
    if not read.demonstrations:
        raise no_demonstrations(stage)
    return read.demonstrations


def _with_repeating(rows: Prepared, recipe: Recipe, chat: ChatTokenizer) -> Prepared:
    """Fine-tuning's rows, and those from which it learns not to repeat itself."""
    config, context = recipe.sft, recipe.model.context
    if not config.unlikelihood:
        return rows
    share, seed = config.repeating, recipe.seed
    more = repeating_rows(rows.train, chat.tokenizer, share, context=context, seed=seed)
    return replace(rows, train=[*rows.train, *more])


def _prepare_comparisons(stage: Stage, read: Reading) -> Compared:
    """A stage's comparisons; DataError where there are none.

    With a judge in the recipe, comparisons are shared out: one half trains the reward model and
    DPO, the other the judge.
    """
    train, dropped = read.comparisons(_half(stage, read.recipe))
    if not train:
        raise no_comparisons(stage, dropped)
    return Compared(train, read.held_out_comparisons, dropped)


def _prepare_ratings(stage: Stage, read: Reading) -> RatedRows:
    """A stage's answers called good or bad, of the same comparisons; DataError where there are
    none."""
    train, dropped = read.ratings(_half(stage, read.recipe))
    if not train:
        raise no_ratings(stage, dropped)
    return RatedRows(train, read.held_out_ratings, dropped)


def _half(stage: Stage, recipe: Recipe) -> bool | None:
    return None if "judge" not in recipe.stages else not STAGES[stage].judges


def _without_gguf(
    recipe: Recipe, stages: Sequence[Stage], model: Any, place: Place
) -> Iterator[str]:
    """A line where none can be made of this base, with what follows from it."""
    wanted = recipe.export.gguf and not all(STAGES[stage].scores for stage in stages)
    if wanted and (why := why_no_gguf(model, place.folder, place.tokenizer)):
        yield (
            f"there will be no GGUF ({why}): `guildgpt chat`, `vote` and the bot will answer with "
            "this model through torch, which is several times slower"
        )


def _found(base: BaseConfig) -> tuple[Place | None, list[Provenance]]:
    """Where a base in transformers' form lies (the others are Llama-shaped), and what a base is
    made of, without fetching or reading its weights."""
    if base.base == "scratch":
        return None, [licences.SCRATCH]
    if base.base == "starter":
        return None, [licences.STARTER]
    path = Path(base.base).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        item = Provenance(path.stem, "base", origin=path.name)
        return None, [licences.stated(base, item)]
    place = locate_base(base, weights=False)
    return place, place.provenance


def _read_documents(recipe: Recipe, notices: list[str]) -> list[Document]:
    if not recipe.pretrain.documents:
        raise RecipeError(
            "pretraining, and a base from scratch, need plain text",
            where="pretrain.documents",
            remedy="Name text files, or folders of *.txt and *.md.",
        )
    paths, separator = recipe.pretrain.documents, recipe.pretrain.separator
    return read_documents(paths, separator=separator, notices=notices)


def _prepare_documents(recipe: Recipe, data: Gathered, chat: ChatTokenizer) -> Prepared:
    context = recipe.model.context
    sides: dict[str, list[Document]] = {"train": [], "held_out": []}
    for document in data.documents:
        sides[document_side(document, recipe.pretrain.held_out)].append(document)
    if not sides["train"]:
        raise DataError(
            "no document is left to train on",
            where="pretrain.held_out",
            remedy="Lower it, or add documents.",
        )
    held_out = sides["held_out"]
    if (limit := recipe.data.held_out_limit) is not None and len(held_out) > limit:
        held_out = sorted(held_out, key=lambda one: digest("held out", one.text))[:limit]
    train, kept_out = (
        document_examples(some, chat.tokenizer, chat.pad_id, context=context)
        for some in (sides["train"], held_out)
    )
    item = data.provenance[-1]
    report = SourceReport(
        rows=len(data.documents),
        train=len(sides["train"]),
        held_out=len(held_out),
        unused=len(sides["held_out"]) - len(held_out),
    )
    return Prepared([], train, {item.name: kept_out}, Counter(), [(item, report)])


def _read_by(stage: Stage, reports: Mapping[Kind, SourceReport]) -> SourceReport:
    """What became of the rows that a stage reads; prompts are taken from those of every kind."""
    reads = STAGES[stage].reads
    if reads in ("conversations", "comparisons"):
        return reports[reads]
    return sum_of(reports.values())


def _prepare_conversations(stage: Stage, read: Reading) -> Prepared:
    (train, dropped), dataset = read.conversations, read.data.dataset
    if not train and STAGES[stage].reads == "conversations":
        raise _no_room(read)
    sources = [
        (item, _read_by(stage, reports))
        for item, reports in zip(dataset.provenance, dataset.reports.values(), strict=True)
    ]
    return Prepared(dataset.train, train, read.held_out, dropped, sources)


def _no_room(read: Reading) -> RecipeError:
    """The error for conversations of which none fits: how long the shortest is."""
    chat, context = read.chat, read.context
    whole = (
        len(rendered.ids)
        for row in read.data.dataset.train
        for rendered, _ in chat.template.lessons(row.messages, chat.tokenizer)
    )
    return RecipeError(
        f"no row fits into a context of {context:,} tokens; the shortest has {min(whole):,}",
        where="model.context",
        remedy="Raise it, as far as the base's positions reach, or shorten the rows.",
    )
