"""Prompts with constraints: a question about a topic, and demands on the answer drawn for it.

Topics and the frames they are asked in are shared out: what is asked in training is never asked
where constraints are measured. Nor are the kinds of `guildgpt.constraints.held_out` ever trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from guildgpt.constraints.constraint import Constraint
from guildgpt.constraints.drawing import ask, draw
from guildgpt.constraints.held_out import HELD_OUT
from guildgpt.constraints.trained import TRAINED
from guildgpt.data.files import read_records
from guildgpt.data.split import Side, normalised
from guildgpt.data.starter import FOLDER

FRAMES: dict[Side, tuple[str, ...]] = {
    "train": (
        "Tell me about {topic}.",
        "Explain {topic} to somebody who has never heard of it.",
        "What should everybody know about {topic}?",
        "Describe {topic}.",
        "What makes {topic} interesting?",
        "How would you describe {topic} to a child?",
        "What is special about {topic}?",
        "Give a newcomer a first idea of {topic}.",
        "What comes to mind when you think of {topic}?",
        "Say something useful about {topic}.",
    ),
    "held_out": (
        "What do you know about {topic}?",
        "Introduce {topic} to the readers of a local magazine.",
        "Why do people care about {topic}?",
        "What would you tell a curious visitor about {topic}?",
        "I want to learn about {topic}. Where do I begin?",
        "Write about {topic} for a school newspaper.",
        "What is there to say about {topic}?",
    ),
}
SETS: dict[str, tuple[type[Constraint], ...]] = {"known kinds": TRAINED, "held-out kinds": HELD_OUT}


@dataclass(frozen=True, slots=True)
class ConstrainedPrompt:
    """A question without its constraints, the prompt with them in words, and they themselves."""

    question: str
    prompt: str
    constraints: tuple[Constraint, ...]


def questions(side: Side) -> list[str]:
    """Every question of a side, always in the same order."""
    rows = [row for _, row in read_records(FOLDER / "topics.jsonl")]
    topics = [row["topic"] for row in rows if row["side"] == side]
    return [frame.format(topic=topic) for topic in topics for frame in FRAMES[side]]


def training_prompts(count: int, seed: int) -> list[ConstrainedPrompt]:
    """So many different prompts of the known kinds; another seed draws other ones."""
    return _drawn("train", TRAINED, count, f"train {seed}")


def held_out_prompts(count: int) -> dict[str, list[ConstrainedPrompt]]:
    """The first `count` prompts to measure on, of the known and of the held-out kinds; the same
    for every model and every seed."""
    return {
        name: _drawn("held_out", kinds, count, f"measure {name}") for name, kinds in SETS.items()
    }


def _drawn(
    side: Side, kinds: Sequence[type[Constraint]], count: int, seed: str
) -> list[ConstrainedPrompt]:
    """Different prompts, each from a seed of its own: where the rules change, others stay."""
    found: dict[str, ConstrainedPrompt] = {}
    for place, question in enumerate(_endless(questions(side), Random(seed))):
        if len(found) >= count:
            break
        random = Random(f"{seed} {place}")
        constraints = draw(random, kinds)
        prompt = ask(question, constraints, random)
        found.setdefault(normalised(prompt), ConstrainedPrompt(question, prompt, constraints))
    return list(found.values())


def _endless(items: Sequence[str], random: Random) -> Iterator[str]:
    """All of them in a shuffled order, then in another one, and so on."""
    while True:
        yield from random.sample(items, len(items))
