"""What a policy is asked: in training, and where it is judged afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from guildgpt.chat import Comparison, Conversation, Message, Rejected, Task
from guildgpt.data import Dataset, starter_prompts, starter_tasks
from guildgpt.data.constrained import questions, training_prompts
from guildgpt.data.origin import Events
from guildgpt.data.split import wording
from guildgpt.errors import RecipeError
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.recipe import Recipe, Stage
from guildgpt.rewards.config import TERM_OF, RewardTerms
from guildgpt.rewards.wanted import Wanted
from guildgpt.train.config import RolloutConfig
from guildgpt.train.rollout import Prompt
from guildgpt.train.schedule import shuffled


def prepare_prompts(
    stage: Stage, recipe: Recipe, dataset: Dataset, chat: ChatTokenizer
) -> tuple[list[Prompt], int]:
    """What a policy is asked in training, and how many prompts were left out as too long.

    Every train row's prompt, conversations first, then the starter's tasks where tests are a
    reward and no row has any; and the share with drawn constraints that the recipe asks for.
    RecipeError where nothing fits.
    """
    settings = recipe.settings(stage)
    assert isinstance(settings, RolloutConfig)
    prompts, wanted = prompts_and_rules(dataset, settings.terms)
    if "tests" in settings.terms.reads and not any(one.tests for one in wanted):
        for number, task in enumerate(starter_tasks(), start=1):
            prompts.append((Message("user", task.prompt),))
            wanted.append(Wanted(task.tests, where=f"starter task {number}"))
    limit = min(settings.max_prompt_tokens, recipe.model.context - settings.max_new_tokens)
    found, too_long = prompts_of(prompts, wanted, chat, limit)
    if settings.constrained_share:
        found, longer = _with_constrained(found, settings, recipe.seed, chat, limit)
        too_long += longer
    if not found:
        raise _none_fits(stage, recipe, prompts, chat, limit)
    origins: dict[tuple[Message, ...], Events] = {}
    for row in _prompted(dataset):
        origins.setdefault(row.prompt, set()).update(row.source.origin)
    return [
        replace(one, origin=frozenset(origins.get(one.messages, ()))) for one in found
    ], too_long


def _none_fits(
    stage: Stage,
    recipe: Recipe,
    prompts: Sequence[tuple[Message, ...]],
    chat: ChatTokenizer,
    limit: int,
) -> RecipeError:
    """The error for prompts of which none fits: what leaves so little room, how long they are."""
    settings = recipe.settings(stage)
    assert isinstance(settings, RolloutConfig)
    sizes = [len(chat.template.prompt(one, chat.tokenizer)) for one in prompts]
    there = f"; the shortest has {min(sizes):,}" if sizes else ""
    by_key = settings.max_prompt_tokens <= limit
    return RecipeError(
        f"no prompt fits into {limit:,} tokens{there}",
        where=f"{stage}.max_prompt_tokens" if by_key else f"{stage}.max_new_tokens",
        remedy="Raise it, or name sources with shorter prompts."
        if by_key
        else f"A context of {recipe.model.context:,} leaves no more beside an answer: lower it, or "
        "raise model.context, as far as the base's positions reach.",
    )


def _with_constrained(
    rows: list[Prompt], settings: RolloutConfig, seed: int, chat: ChatTokenizer, limit: int
) -> tuple[list[Prompt], int]:
    """Prompts of rows and drawn ones in the recipe's share, and how many of these were too long.

    Where the recipe says how many steps are taken there is a prompt for each place in them, so that
    no drawn one is asked twice; else every row's prompt is asked as often as `epochs` says.
    """
    share = settings.constrained_share
    if settings.steps:
        places = settings.steps * settings.prompts_a_step
    else:
        places = round(len(rows) / (1 - share)) if share < 1 else len(questions("train"))
    drawn = training_prompts(round(share * places), seed)
    turns = [(Message("user", one.prompt),) for one in drawn]
    wanted = [Wanted(constraints=one.constraints, where="a drawn prompt") for one in drawn]
    constrained, too_long = prompts_of(turns, wanted, chat, limit)
    count = places - len(drawn) if rows else 0
    return [rows[i] for i in shuffled(len(rows), range(count), seed)] + constrained, too_long


def prompts_of(
    asked: Sequence[tuple[Message, ...]], wanted: Sequence[Wanted], chat: ChatTokenizer, limit: int
) -> tuple[list[Prompt], int]:
    """Different prompts of at most `limit` tokens, and how many were longer; `wanted[i]` is what
    `asked[i]` asks of an answer."""
    first: dict[str, int] = {}
    for index, messages in enumerate(asked):
        first.setdefault(wording(messages), index)
    found = [
        Prompt(
            asked[index],
            tuple(chat.template.prompt(asked[index], chat.tokenizer)),
            wanted[index],
        )
        for index in first.values()
    ]
    prompts = [prompt for prompt in found if len(prompt.ids) <= limit]
    return prompts, len(found) - len(prompts)


def prompts_and_rules(
    dataset: Dataset, terms: RewardTerms
) -> tuple[list[tuple[Message, ...]], list[Wanted]]:
    """The train rows' prompts, and what the rows ask of an answer that the terms go by.

    Rows with such rules come first, since of equal prompts the first counts. DataError, with the
    row, for rules that cannot be read, and for constraints that its own answer breaks.
    """
    pairs = []
    for row in _prompted(dataset):
        rules = {key: value for key, value in row.source.rules.items() if key in terms.reads}
        pairs.append((row.prompt, Wanted.from_row(rules, str(row.source), _answer(row))))
    pairs.sort(key=lambda pair: not pair[1])
    return [prompt for prompt, _ in pairs], [wanted for _, wanted in pairs]


def judged_prompts(recipe: Recipe, dataset: Dataset) -> list[tuple[Message, ...]]:
    """What policies are judged on: prompts of held-out conversations and tasks, then the starter
    pack's."""
    judged = [row.prompt for rows in dataset.held_out.values() for row in rows]
    judged += [task.prompt for task in dataset.held_out_tasks]
    judged += [(Message("user", one.prompt),) for one in starter_prompts()]
    different = {tuple((m.role, m.content) for m in prompt): prompt for prompt in judged if prompt}
    return list(different.values())[: recipe.evaluate.judged_prompts]


def prompts_with_room(
    recipe: Recipe, dataset: Dataset, chat: ChatTokenizer
) -> list[tuple[Message, ...]]:
    """Those of `judged_prompts` that leave room for an answer; RecipeError where none does."""
    asked, tokens = judged_prompts(recipe, dataset), recipe.evaluate.max_tokens
    limit = recipe.model.context - tokens
    fits = [one for one in asked if len(chat.template.prompt(one, chat.tokenizer)) <= limit]
    if not fits:
        raise RecipeError(
            f"none of {len(asked):,} prompts that a policy is judged on leaves room for an answer "
            f"of {tokens:,} tokens in a context of {recipe.model.context:,}",
            where="evaluate.max_tokens",
            remedy=f"Lower it, to {max(recipe.model.context // 4, 1)} for example, or raise "
            "model.context.",
        )
    return fits


def unread_rules(recipe: Recipe, dataset: Dataset) -> list[str]:
    """A sentence for what rows bring that no stage of the recipe goes by."""
    settings = [recipe.settings(stage) for stage in recipe.stages]
    terms = [one.terms for one in settings if isinstance(one, RolloutConfig)]
    if not terms:
        count = len(dataset.train_tasks)
        unasked = f"{_rows(count)} without an answer, which only `grpo` and `ppo` learn from"
        return [unasked] if count else []
    warnings = []
    for key, term in TERM_OF.items():
        count = sum(key in row.source.rules for row in _prompted(dataset))
        if count and not any(key in one.reads for one in terms):
            warnings.append(
                f"{_rows(count)} with `{key}`, which counts for nothing without the term `{term}`"
            )
    return warnings


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _answer(row: Conversation | Rejected | Comparison | Task) -> str | None:
    """A row's own answer to its prompt, the best one where it has several; no bad one."""
    if isinstance(row, Rejected):
        return None
    if isinstance(row, Comparison):
        return row.answers[0].content
    rest = row.messages[len(row.prompt) :]
    return rest[0].content if rest else None


def _prompted(dataset: Dataset) -> list[Conversation | Rejected | Comparison | Task]:
    """The train rows whose prompts a policy is asked."""
    rows: tuple[Conversation | Rejected | Comparison | Task, ...]
    rows = (*dataset.train, *dataset.train_comparisons, *dataset.train_tasks)
    rows += (*dataset.train_rejected,)
    return [row for row in rows if row.prompt]
