"""Kinds of constraints on an answer's form: lengths, lists, JSON, letters, titles, commas."""

from __future__ import annotations

from random import Random
from typing import ClassVar, Literal, Self

from pydantic import Field

from guildgpt.constraints import counting, lists
from guildgpt.constraints.constraint import (
    Constraint,
    Count,
    Relation,
    compare,
    counted,
    fewer,
    near_count,
)
from guildgpt.constraints.draft import Draft


class Sentences(Constraint):
    """So many sentences, as `counting.sentences` counts them."""

    kind: Literal["sentences"] = "sentences"
    relation: Relation
    count: Count

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

    def nearly(self, answer: str) -> float:
        return near_count(counting.sentences(answer), self.count)

    def shape(self, draft: Draft) -> None:
        draft.bounded("sentences", self.relation, self.count)


class Words(Constraint):
    """At most or at least so many words, as `counting.words` counts them."""

    kind: Literal["words"] = "words"
    relation: Literal["at least", "at most"]
    count: Count

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

    def nearly(self, answer: str) -> float:
        return near_count(len(counting.words(answer)), self.count)

    def shape(self, draft: Draft) -> None:
        draft.bounded("words", self.relation, self.count)


class Bullets(Constraint):
    """Exactly so many items with a bullet, with this mark if one is named; other lines may stand
    around them."""

    kind: Literal["bullets"] = "bullets"
    count: Count
    mark: Literal["-", "*", "•", "+"] | None = None

    wordings = (
        "Give your answer as a list of exactly {points}.",
        "Answer with {points}, no more and no fewer.",
        "Use exactly {points}, each on its own line.",
        "Your answer must contain exactly {points}.",
        "Format it as {points}.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(count=random.randint(2, 6), mark=random.choice((None, "-", "*", "•", "+")))

    def said(self) -> dict[str, str]:
        points = counted(self.count, "bullet point", "bullet points")
        begin = "begins" if self.count == 1 else "begin"
        return {"points": f"{points} that {begin} with {self.mark}" if self.mark else points}

    def holds(self, answer: str) -> bool:
        marks = counting.bullets(answer)
        return len(marks) == self.count and (not self.mark or set(marks) == {self.mark})

    def nearly(self, answer: str) -> float:
        marks = counting.bullets(answer)
        if not marks:
            return 0.0
        as_asked = marks.count(self.mark) / len(marks) if self.mark else 1.0
        return near_count(len(marks), self.count) * (0.4 + 0.5 * as_asked)

    def shape(self, draft: Draft) -> None:
        draft.items = self.count
        draft.bullet = f"{self.mark or '-'} "


class Json(Constraint):
    """Nothing but a JSON object with these keys, as it is or in one block of code; each value says
    something."""

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
        value = counting.from_json(answer)
        if not isinstance(value, dict) or set(value) != set(self.keys):
            return False
        said = map(counting.texts_in, value.values())
        return all(any(map(counting.says_something, texts)) for texts in said)

    def nearly(self, answer: str) -> float:
        named = sum(f'"{key}"' in answer for key in self.keys) / len(self.keys)
        return 0.5 * answer.lstrip().startswith("{") + 0.4 * named

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

    def nearly(self, answer: str) -> float:
        capitals = sum(map(str.isupper, answer))
        return fewer(capitals) if capitals else 0.0

    def shape(self, draft: Draft) -> None:
        draft.case = "lower"


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
        left = self.brackets[: len(self.brackets) // 2]
        return counting.title(answer).startswith(left)

    def nearly(self, answer: str) -> float:
        left = self.brackets[: len(self.brackets) // 2]
        return 0.5 * answer.lstrip().startswith(left)

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
    _commas: ClassVar = ",،、，‚՝߸፣᠂᠈︐︑﹐﹑､⸲⸴⹁"

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls()

    def holds(self, answer: str) -> bool:
        return not set(self._commas).intersection(answer)

    def nearly(self, answer: str) -> float:
        return fewer(sum(answer.count(comma) for comma in self._commas))

    def shape(self, draft: Draft) -> None:
        """A draft has none."""
