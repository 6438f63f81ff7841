"""The kinds of constraints that training draws from."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from guildgpt.constraints import counting, lists
from guildgpt.constraints.constraint import Constraint, Relation, compare, counted
from guildgpt.constraints.draft import Draft
from guildgpt.constraints.languages import NAMES, language_of


class Sentences(Constraint):
    """So many sentences, as `counting.sentences` counts them."""

    kind: Literal["sentences"] = "sentences"
    relation: Relation
    count: int = Field(ge=1)

    wordings = (
        "Answer in {relation} {sentences}.",
        "Your answer must have {relation} {sentences}.",
        "Use {relation} {sentences}.",
        "Write {relation} {sentences}.",
        "The reply should be {relation} {sentences} long.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        relation: Relation = random.choice(("at least", "at most", "exactly", "exactly"))
        return cls(relation=relation, count=random.randint(1 + (relation == "at least"), 5))

    def said(self) -> dict[str, str]:
        return {
            "relation": self.relation,
            "sentences": counted(self.count, "sentence", "sentences"),
        }

    def holds(self, answer: str) -> bool:
        return compare(counting.sentences(answer), self.relation, self.count)

    def shape(self, draft: Draft) -> None:
        draft.bounded("sentences", self.relation, self.count)


class Words(Constraint):
    """At most or at least so many words, as `counting.words` counts them."""

    kind: Literal["words"] = "words"
    relation: Literal["at least", "at most"]
    count: int = Field(ge=1)

    wordings = (
        "Use {relation} {count} words.",
        "Answer in {relation} {count} words.",
        "Your answer should have {relation} {count} words.",
        "Write {relation} {count} words.",
        "The length of the reply: {relation} {count} words.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        if random.random() < 0.6:
            return cls(relation="at most", count=random.randint(10, 60))
        return cls(relation="at least", count=random.randint(20, 70))

    def holds(self, answer: str) -> bool:
        return compare(len(counting.words(answer)), self.relation, self.count)

    def shape(self, draft: Draft) -> None:
        draft.bounded("words", self.relation, self.count)


class Bullets(Constraint):
    """Exactly so many items with a bullet; other lines may stand around them."""

    kind: Literal["bullets"] = "bullets"
    count: int = Field(ge=1)

    wordings = (
        "Give your answer as a list of exactly {points}.",
        "Answer with {points}, no more and no fewer.",
        "Use exactly {points}, each on its own line, such as: - like this",
        "Your answer must contain exactly {points} (lines that begin with - or *).",
        "Format it as {points}.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(count=random.randint(2, 6))

    def said(self) -> dict[str, str]:
        return {"points": counted(self.count, "bullet point", "bullet points")}

    def holds(self, answer: str) -> bool:
        return counting.bullets(answer) == self.count

    def shape(self, draft: Draft) -> None:
        draft.items = self.count


class Json(Constraint):
    """Nothing but a JSON object with these keys, as it is or in one block of code."""

    kind: Literal["json"] = "json"
    keys: tuple[str, ...] = Field(min_length=1)

    wordings = (
        "Answer with a JSON object that has the keys {keys}, and nothing else.",
        "Your whole answer must be JSON with exactly these keys: {keys}.",
        "Reply in JSON only. The keys are {keys}.",
        "Wrap the answer in a JSON object; its keys: {keys}.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(keys=tuple(random.sample(lists.KEYS, random.randint(1, 3))))

    def said(self) -> dict[str, str]:
        *before, last = (f'"{key}"' for key in self.keys)
        return {"keys": f"{', '.join(before)} and {last}" if before else last}

    def holds(self, answer: str) -> bool:
        block = re.fullmatch(r"```\w*[ \t]*\n(.*?)\n?```", answer.strip(), re.DOTALL)
        try:
            value: Any = json.loads(block[1] if block else answer)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and set(value) == set(self.keys)

    def shape(self, draft: Draft) -> None:
        draft.keys = self.keys


class LowerCase(Constraint):
    """No capital letter, and at least one small one."""

    kind: Literal["lower_case"] = "lower_case"

    wordings = (
        "Write everything in lower case letters.",
        "Use no capital letters.",
        "Your whole answer must be in lowercase.",
        "Do not use a single capital letter.",
        "Only lower case letters are allowed.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls()

    def holds(self, answer: str) -> bool:
        return answer == answer.lower() and answer != answer.upper()

    def shape(self, draft: Draft) -> None:
        draft.case = "lower"


class Word(Constraint):
    """A word that must occur as a whole word, in whatever case."""

    kind: Literal["word"] = "word"
    word: str = Field(pattern=r"\S")

    wordings = (
        'Use the word "{word}".',
        'The word "{word}" must occur in your answer.',
        'Include the word "{word}" somewhere.',
        'Make sure that "{word}" appears in the answer.',
        "Mention the word {word}.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(word=random.choice(lists.WORDS))

    def holds(self, answer: str) -> bool:
        return counting.has_word(answer, self.word)

    def shape(self, draft: Draft) -> None:
        draft.include.append(self.word)


class NoWord(Constraint):
    """A word that must not occur as a whole word, in whatever case."""

    kind: Literal["no_word"] = "no_word"
    word: str = Field(pattern=r"\S")

    wordings = (
        'Do not use the word "{word}".',
        'Avoid the word "{word}".',
        'The word "{word}" must not occur in your answer.',
        'Write without the word "{word}".',
        'Leave out the word "{word}".',
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(word=random.choice(lists.COMMON_WORDS))

    def holds(self, answer: str) -> bool:
        return not counting.has_word(answer, self.word)

    def shape(self, draft: Draft) -> None:
        draft.avoid.append(self.word)


class Begins(Constraint):
    """The answer begins with a phrase, letter by letter, at a word's end."""

    kind: Literal["begins"] = "begins"
    phrase: str = Field(pattern=r"^\S(.*\S)?$")

    wordings = (
        'Begin your answer with "{phrase}".',
        'Start with the words "{phrase}".',
        'The first words of your answer must be "{phrase}".',
        'Your reply has to begin with: "{phrase}"',
        'Open with "{phrase}".',
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(phrase=random.choice(lists.BEGINNINGS))

    def holds(self, answer: str) -> bool:
        return bool(re.match(rf"\s*{re.escape(self.phrase)}(?!\w)", answer))

    def shape(self, draft: Draft) -> None:
        draft.begin = self.phrase


class Ends(Constraint):
    """The answer ends with a phrase, letter by letter, that begins at a word's beginning."""

    kind: Literal["ends"] = "ends"
    phrase: str = Field(pattern=r"^\S(.*\S)?$")

    wordings = (
        'End your answer with "{phrase}"',
        'The last words of your answer must be "{phrase}"',
        'Finish with exactly this phrase: "{phrase}"',
        'Close with "{phrase}" and write nothing after it.',
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(phrase=random.choice(lists.ENDINGS))

    def holds(self, answer: str) -> bool:
        return bool(re.search(rf"(?<!\w){re.escape(self.phrase)}\s*\Z", answer))

    def shape(self, draft: Draft) -> None:
        draft.end = self.phrase


class Title(Constraint):
    """The first line is a title in brackets of a kind, and more follows below it."""

    kind: Literal["title"] = "title"
    brackets: Literal["[]", "<<>>", "{}"]

    wordings = (
        "Put a title in {name}, such as {example}, on the first line.",
        "Begin with a title wrapped in {name}, like {example}, on a line of its own.",
        "Give your answer a title in {name}: {example}. It stands above the text.",
        "Above the answer there must be a title in {name}, for example {example}.",
    )
    _names: ClassVar = {
        "[]": "square brackets", "<<>>": "double angular brackets", "{}": "curly brackets",
    }  # fmt: skip

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(brackets=random.choice(("[]", "<<>>", "{}")))

    def said(self) -> dict[str, str]:
        return {"name": self._names[self.brackets], "example": self._around("My title")}

    def holds(self, answer: str) -> bool:
        half = len(self.brackets) // 2
        left, right = re.escape(self.brackets[:half]), re.escape(self.brackets[half:])
        return bool(re.fullmatch(rf"{left}[^\n]*\w[^\n]*{right}", counting.title(answer)))

    def shape(self, draft: Draft) -> None:
        draft.title = self._around("About it")

    def _around(self, text: str) -> str:
        half = len(self.brackets) // 2
        return f"{self.brackets[:half]}{text}{self.brackets[half:]}"


class NoCommas(Constraint):
    """No comma, of whatever script."""

    kind: Literal["no_commas"] = "no_commas"

    wordings = (
        "Do not use any commas.",
        "Write without commas.",
        "Your answer must not contain a comma.",
        "Avoid commas altogether.",
        "No commas are allowed.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls()

    def holds(self, answer: str) -> bool:
        return not set(",،，、").intersection(answer)

    def shape(self, draft: Draft) -> None:
        """A draft has none."""


class Language(Constraint):
    """The language of the answer, as `languages.language_of` tells it: one of five."""

    kind: Literal["language"] = "language"
    language: Literal["en", "de", "fr", "es", "it"]

    wordings = (
        "Answer in {name}.",
        "Write your answer in {name}.",
        "Please reply in {name} only.",
        "The answer must be in {name}.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(language=random.choice(("de", "fr", "es", "it")))

    def said(self) -> dict[str, str]:
        return {"name": NAMES[self.language]}

    def holds(self, answer: str) -> bool:
        return language_of(answer) == self.language

    def shape(self, draft: Draft) -> None:
        draft.language = self.language


KNOWN: tuple[type[Constraint], ...] = (
    Sentences,
    Words,
    Bullets,
    Json,
    LowerCase,
    Word,
    NoWord,
    Begins,
    Ends,
    Title,
    NoCommas,
    Language,
)
