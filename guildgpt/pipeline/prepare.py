"""A recipe's data on its way to the model: read, held against the policy, turned into token ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from guildgpt.bases import licences
from guildgpt.bases.config import BaseConfig
from guildgpt.bases.locate import locate_base
from guildgpt.chat import Comparison, Conversation, Message, Task
from guildgpt.data import (
    Dataset,
    Document,
    Provenance,
    build,
    check,
    load,
    read_documents,
    starter_tasks,
)
from guildgpt.data.dataset import SourceReport
from guildgpt.data.documents import document_side, documents_provenance
from guildgpt.data.examples import Example, conversation_examples, document_examples
from guildgpt.data.origin import Events
from guildgpt.data.preview import check_trainable
from guildgpt.data.rankings import Ranking, rankings, without_held_out_prompts
from guildgpt.data.split import digest, in_first_half
from guildgpt.data.starter import starter_prompts
from guildgpt.errors import DataError, RecipeError
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.network.reward_model import require_classifier_for
from guildgpt.pipeline.inputs import reward_folder
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import Recipe, Stage
from guildgpt.rewards.combined import Rewards
from guildgpt.rewards.config import RewardTerms
from guildgpt.rewards.wanted import Wanted
from guildgpt.train.config import RolloutConfig, TrainConfig
from guildgpt.train.rollout import Prompt, prompts_of


@dataclass(frozen=True)
class Gathered:
    """What some stages of a recipe learn from, as text, and what the policy says of it."""

    dataset: Dataset
    documents: list[Document]
    provenance: list[Provenance]  # base first, then every source
    warnings: list[str]


@dataclass(frozen=True)
class Compared:
    """Comparisons as token ids."""

    train: list[Ranking] = field(default_factory=list)
    held_out: dict[str, list[Ranking]] = field(default_factory=dict)  # by source
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Prepared:
    """One stage's rows as token ids, and the sources that it learns from.

    Stages that learn from feedback may measure or read conversations, too; none need be there.
    """

    conversations: list[Conversation]
    train: list[Example]
    held_out: dict[str, list[Example]]
    dropped: Counter[str]
    sources: list[tuple[Provenance, SourceReport]]
    compared: Compared = field(default_factory=Compared)  # of stages that learn from comparisons
    prompts: list[Prompt] = field(default_factory=list)  # of stages that write their own answers
    too_long: int = 0  # prompts that were left out

    @property
    def trained_on(self) -> Sequence[Example | Ranking | Prompt]:
        """The rows that the stage learns from."""
        return self.prompts or self.compared.train or self.train


def gather(recipe: Recipe, stages: Sequence[Stage], base: BaseConfig) -> Gathered:
    """Read what `stages` need, starting from `base`, before any weights are loaded.

    PolicyError if the recipe's policy refuses the base or a source, RecipeError if a stage has
    nothing to learn from.
    """
    for stage in stages:
        _check_rewarded(stage, recipe)
        _check_room(stage, recipe)
    reads = {STAGES[stage].reads for stage in stages}
    documents: list[Document] = []
    if "documents" in reads or base.base == "scratch":
        documents = _read_documents(recipe)
    reading = reads != {"documents"}
    if reading and not recipe.data.sources:
        raise RecipeError(
            "there are no sources to fine-tune on",
            where="data.sources",
            remedy="Name some, such as `starter` or `jsonl:PATH`.",
        )
    loaded = [load(spec) for spec in recipe.data.sources] if reading else []
    dataset = build(
        loaded,
        held_out=recipe.data.held_out,
        held_out_limit=recipe.data.held_out_limit,
        seed=recipe.seed,
    )
    for stage in stages:
        _check_rows(stage, dataset, recipe.settings(stage))
        if STAGES[stage].scores and (folder := _local_folder(base)):
            require_classifier_for(folder)
    provenance = base_provenance(base) + dataset.provenance
    if documents:
        provenance.append(_documents_provenance(recipe, documents))
    warnings = check(recipe.policy, provenance) + [line for one in loaded for line in one.warnings]
    warnings += _unread_rules(recipe, dataset)
    return Gathered(dataset, documents, provenance, warnings)


def prepare(stage: Stage, recipe: Recipe, data: Gathered, chat: ChatTokenizer) -> Prepared:
    """A stage's rows as token ids; DataError or RecipeError where nothing is left to train on."""
    reads = STAGES[stage].reads
    if reads == "documents":
        return _prepare_documents(recipe, data, chat)
    rows = _prepare_conversations(stage, recipe, data, chat)
    if reads == "comparisons":
        return replace(rows, compared=_prepare_comparisons(stage, recipe, data, chat))
    if reads == "prompts":
        prompts, too_long = _prepare_prompts(stage, recipe, data, chat)
        return replace(rows, prompts=prompts, too_long=too_long)
    return rows


def _prepare_comparisons(
    stage: Stage, recipe: Recipe, data: Gathered, chat: ChatTokenizer
) -> Compared:
    """A stage's comparisons; DataError where there are none.

    With a judge in the recipe, comparisons are shared out: one half trains the reward model and
    DPO, the other the judge. A train row whose prompt is held out too is left out.
    """
    rows, overlapping = without_held_out_prompts(
        data.dataset.train_comparisons, data.dataset.held_out_comparisons
    )
    if "judge" in recipe.stages:
        rows = [row for row in rows if in_first_half(row) != STAGES[stage].judges]
    shape = (chat.tokenizer, chat.template)
    train, dropped = rankings(rows, *shape, context=recipe.model.context)
    if overlapping:
        dropped["whose prompt is held out too"] = overlapping
    if not train:
        raise _no_comparisons(stage, dropped)
    held_out: dict[str, list[Ranking]] = {}
    found, _ = rankings(data.dataset.held_out_comparisons, *shape, context=recipe.model.context)
    for ranking in found:
        held_out.setdefault(ranking.source, []).append(ranking)
    return Compared(train, held_out, dropped)


def _check_rewarded(stage: Stage, recipe: Recipe) -> None:
    """RecipeError where nothing could reward the answers of a stage that writes some."""
    settings = recipe.settings(stage)
    if not isinstance(settings, RolloutConfig) or reward_folder(stage, recipe, Path()):
        return
    if not Rewards(settings.terms).names:
        raise RecipeError(
            f"there is nothing that `{stage}` could be rewarded by",
            where="stages",
            remedy=f"Put `reward` before it, name {stage}.reward_model, or give {stage}.terms.",
        )


def _local_folder(base: BaseConfig) -> Path | None:
    """Where a base in transformers' form lies; the others are Llama-shaped."""
    if base.base in ("scratch", "starter") or base.base.endswith(".gguf"):
        return None
    return locate_base(base, weights=False)[0]


def _check_room(stage: Stage, recipe: Recipe) -> None:
    """RecipeError where the context leaves no room for what a policy is to write: told before an
    earlier stage is trained, after which the recipe could not be changed."""
    context, settings = recipe.model.context, recipe.settings(stage)
    answers = {}
    if isinstance(settings, RolloutConfig):
        answers[f"{stage}.max_new_tokens"] = settings.max_new_tokens
    if STAGES[stage].changes_answers:
        answers["evaluate.max_tokens"] = recipe.evaluate.max_tokens
    for key, tokens in answers.items():
        if tokens >= context:
            raise RecipeError(
                f"answers of {tokens:,} tokens leave no room for a question in a context of "
                f"{context:,}",
                where=key,
                remedy=f"Lower it, to {context // 2} for example, or raise model.context.",
            )


def _check_rows(stage: Stage, dataset: Dataset, settings: TrainConfig) -> None:
    """DataError for a stage that the sources have no rows for, or rows with rules that cannot be
    read, before an earlier one is trained."""
    comparisons, reads = dataset.train_comparisons, STAGES[stage].reads
    if reads == "conversations" and not dataset.train:
        raise DataError(
            "there are no conversations to fine-tune on"
            + (f", only {len(comparisons):,} comparisons" if comparisons else ""),
            where="data.sources",
            remedy="Name a source that has some, or leave `sft` out of `stages`: comparisons train "
            "`reward` and `dpo`.",
        )
    if reads == "comparisons" and not comparisons:
        raise _no_comparisons(stage)
    if isinstance(settings, RolloutConfig):
        _asked(dataset, settings.terms)


def _unread_rules(recipe: Recipe, dataset: Dataset) -> list[str]:
    """A sentence for what rows bring that no stage of the recipe goes by."""
    settings = [recipe.settings(stage) for stage in recipe.stages]
    terms = [one.terms for one in settings if isinstance(one, RolloutConfig)]
    if not terms:
        count = len(dataset.train_tasks)
        unasked = f"{_rows(count)} without an answer, which only `grpo` and `ppo` learn from"
        return [unasked] if count else []
    warnings = []
    for key, term in (("tests", "verify"), ("format", "format")):
        count = sum(key in row.source.rules for row in _prompted(dataset))
        if count and not any(key in one.reads for one in terms):
            warnings.append(
                f"{_rows(count)} with `{key}`, which counts for nothing without the term `{term}`"
            )
    return warnings


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _no_comparisons(stage: Stage, dropped: Counter[str] | None = None) -> DataError:
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in (dropped or {}).items())
    return DataError(
        f"there are no comparisons to train `{stage}` on" + (f" ({reasons})" if reasons else ""),
        where="data.sources",
        remedy="Name a source that has some, such as `starter`, `oasst1`, or JSON lines with "
        "prompt, chosen and rejected.",
    )


def _prepare_prompts(
    stage: Stage, recipe: Recipe, data: Gathered, chat: ChatTokenizer
) -> tuple[list[Prompt], int]:
    """What a policy is asked in training, and how many prompts were left out as too long.

    Every train row's prompt, conversations first, then the starter's tasks where tests are a
    reward and no row has any. RecipeError where nothing fits.
    """
    settings = recipe.settings(stage)
    assert isinstance(settings, RolloutConfig)
    asked, wanted = _asked(data.dataset, settings.terms)
    if "tests" in settings.terms.reads and not any(one.tests for one in wanted):
        for number, task in enumerate(starter_tasks(), start=1):
            asked.append((Message("user", task.prompt),))
            wanted.append(Wanted(task.tests, where=f"starter task {number}"))
    prompts, too_long = prompts_of(
        asked,
        chat.tokenizer,
        chat.template,
        limit=min(settings.max_prompt_tokens, recipe.model.context - settings.max_new_tokens),
        wanted=wanted,
    )
    if not prompts:
        raise RecipeError(
            "no prompt fits",
            where=f"{stage}.max_prompt_tokens",
            remedy="Raise it, or model.context.",
        )
    origins: dict[tuple[Message, ...], Events] = {}
    for row in _prompted(data.dataset):
        origins.setdefault(row.prompt, set()).update(row.source.origin)
    return [
        replace(one, origin=frozenset(origins.get(one.messages, ()))) for one in prompts
    ], too_long


def _prompted(dataset: Dataset) -> list[Conversation | Comparison | Task]:
    """The train rows whose prompts a policy is asked."""
    rows: list[Conversation | Comparison | Task] = []
    rows += dataset.train
    rows += dataset.train_comparisons
    rows += dataset.train_tasks
    return [row for row in rows if row.prompt]


def _asked(dataset: Dataset, terms: RewardTerms) -> tuple[list[tuple[Message, ...]], list[Wanted]]:
    """The train rows' prompts, and what the rows ask of an answer that the terms go by.

    Rows with such rules come first, since of equal prompts the first counts. DataError, with the
    row, for rules that cannot be read.
    """
    pairs = []
    for row in _prompted(dataset):
        rules = {key: value for key, value in row.source.rules.items() if key in terms.reads}
        pairs.append((row.prompt, Wanted.from_row(rules, str(row.source))))
    pairs.sort(key=lambda pair: not pair[1])
    return [prompt for prompt, _ in pairs], [wanted for _, wanted in pairs]


def judged_prompts(recipe: Recipe, data: Gathered) -> list[tuple[Message, ...]]:
    """What policies are judged on: prompts of held-out conversations and tasks, then the starter
    pack's."""
    held_out = [row.prompt for rows in data.dataset.held_out.values() for row in rows]
    held_out += [task.prompt for task in data.dataset.held_out_tasks]
    asked = held_out + [(Message("user", one.prompt),) for one in starter_prompts()]
    different = {tuple((m.role, m.content) for m in prompt): prompt for prompt in asked if prompt}
    return list(different.values())[: recipe.evaluate.judged_prompts]


def base_provenance(config: BaseConfig) -> list[Provenance]:
    """What a base is made of, told without fetching or reading its weights."""
    if config.base == "scratch":
        return [licences.SCRATCH]
    if config.base == "starter":
        return [licences.STARTER]
    path = Path(config.base).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        licence, author = config.licence or "unknown", config.written_by or "unknown"
        return [Provenance(path.stem, "base", licence, path.name, written_by=author)]
    return locate_base(config, weights=False)[1]


def _read_documents(recipe: Recipe) -> list[Document]:
    if not recipe.pretrain.documents:
        raise RecipeError(
            "pretraining, and a base from scratch, need plain text",
            where="pretrain.documents",
            remedy="Name text files, or folders of *.txt and *.md.",
        )
    return read_documents(recipe.pretrain.documents, separator=recipe.pretrain.separator)


def _documents_provenance(recipe: Recipe, documents: Sequence[Document]) -> Provenance:
    return documents_provenance(
        documents,
        licence=recipe.pretrain.licence,
        written_by=recipe.pretrain.written_by,
        attribution=recipe.pretrain.attribution,
        held_out=recipe.pretrain.held_out,
    )


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
    item = _documents_provenance(recipe, data.documents)
    report = SourceReport(
        rows=len(data.documents),
        train=len(sides["train"]),
        held_out=len(held_out),
        unused=len(sides["held_out"]) - len(held_out),
    )
    return Prepared([], train, {item.name: kept_out}, Counter(), [(item, report)])


def _prepare_conversations(
    stage: Stage, recipe: Recipe, data: Gathered, chat: ChatTokenizer
) -> Prepared:
    context = recipe.model.context
    check_trainable(data.dataset.train, chat.tokenizer, chat.template)
    train, dropped = conversation_examples(
        data.dataset.train,
        chat.tokenizer,
        chat.template,
        context=context,
        too_long=recipe.sft.too_long,
    )
    if not train and STAGES[stage].reads == "conversations":
        raise RecipeError(
            "no row fits into the context",
            where="model.context",
            remedy=f"Raise it above {context}.",
        )
    held_out = {
        name: conversation_examples(rows, chat.tokenizer, chat.template, context=context)[0]
        for name, rows in data.dataset.held_out.items()
    }
    sources = list(zip(data.dataset.provenance, data.dataset.report.values(), strict=True))
    return Prepared(data.dataset.train, train, held_out, dropped, sources)
