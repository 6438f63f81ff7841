"""The kinds of constraints that are never drawn for training, only for measuring."""

from __future__ import annotations

import re
from random import Random
from typing import Annotated, Literal, Self

from pydantic import Field

from guildgpt.constraints import counting, lists
from guildgpt.constraints.constraint import Constraint, Count, counted
from guildgpt.constraints.draft import Draft


class UpperCase(Constraint):
    """No small letter, and at least one capital one."""

    kind: Literal["upper_case"] = "upper_case"

    wordings = (
        "Write everything in capital letters.",
        "Your whole answer must be in UPPER CASE.",
        "Use capital letters only.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls()

    def holds(self, answer: str) -> bool:
        return answer == answer.upper() and answer != answer.lower()

    def shape(self, draft: Draft) -> None:
        draft.case = "upper"


class Paragraphs(Constraint):
    """Exactly so many paragraphs, as `counting.paragraphs` counts them."""

    kind: Literal["paragraphs"] = "paragraphs"
    count: Count

    wordings = (
        "Write exactly {paragraphs}, with an empty line between them.",
        "Your answer must have {paragraphs}, set apart by blank lines.",
        "Divide the answer into exactly {paragraphs} with blank lines between.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(count=random.randint(2, 4))

    def said(self) -> dict[str, str]:
        return {"paragraphs": counted(self.count, "paragraph", "paragraphs")}

    def holds(self, answer: str) -> bool:
        return counting.paragraphs(answer) == self.count

    def shape(self, draft: Draft) -> None:
        draft.paragraphs = self.count


class Numbered(Constraint):
    """A list of exactly so many numbered items, from 1 on."""

    kind: Literal["numbered"] = "numbered"
    count: Count

    wordings = (
        "Answer with a numbered list of exactly {items}.",
        "Give {items}, numbered 1., 2. and so on.",
        "Your answer must be a numbered list with {items}.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(count=random.randint(2, 5))

    def said(self) -> dict[str, str]:
        return {"items": counted(self.count, "item", "items")}

    def holds(self, answer: str) -> bool:
        return counting.numbers(answer) == list(range(1, self.count + 1))

    def shape(self, draft: Draft) -> None:
        draft.items, draft.bullet = self.count, ""


class Quoted(Constraint):
    """The whole answer stands in double quotation marks, straight or curly, and has none inside."""

    kind: Literal["quoted"] = "quoted"

    wordings = (
        "Put your whole answer in double quotation marks.",
        "Wrap the entire answer in double quotation marks.",
        "The first and the last character of your answer must be a double quotation mark.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls()

    def holds(self, answer: str) -> bool:
        return bool(re.fullmatch(r'\s*(?:"(?:[^"\\]|\\.)*"|“[^“”]*”)\s*', answer, re.DOTALL))

    def shape(self, draft: Draft) -> None:
        draft.quotes = '""'


class Postscript(Constraint):
    """The last line, or paragraph, begins with a mark such as `P.S.`."""

    kind: Literal["postscript"] = "postscript"
    mark: Literal["P.S.", "PS:", "Note:"]

    wordings = (
        "At the end add a postscript that begins with {mark}",
        "After the answer, on a new line, write a short remark that begins with {mark}",
        "Add a last line to your answer that starts with {mark}",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(mark=random.choice(("P.S.", "PS:", "Note:")))

    def holds(self, answer: str) -> bool:
        before, found, after = answer.strip().rpartition(f"\n{self.mark}")
        last = not re.search(r"\n[ \t]*\n", after)
        return bool(found and last and counting.words(before) and counting.words(after))

    def shape(self, draft: Draft) -> None:
        draft.last_line = f"{self.mark} there is more to say."


class Question(Constraint):
    """The answer ends with a question mark."""

    kind: Literal["question"] = "question"

    wordings = (
        "End your answer with a question.",
        "The last sentence of your answer must be a question.",
        "Finish with a question to the reader.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls()

    def holds(self, answer: str) -> bool:
        return answer.rstrip(" \n\t\"'”’)*_").endswith(("?", "？"))

    def shape(self, draft: Draft) -> None:
        draft.mark = "?"


class Repeats(Constraint):
    """A word that occurs at least so many times, in whatever case."""

    kind: Literal["repeats"] = "repeats"
    word: str = Field(pattern=r"\S")
    count: Annotated[Count, Field(ge=2)]

    wordings = (
        'Use the word "{word}" at least {times}.',
        'The word "{word}" must occur at least {times} in your answer.',
        'Mention "{word}" at least {times}.',
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(word=random.choice(lists.WORDS), count=random.randint(2, 3))

    def said(self) -> dict[str, str]:
        return {"word": self.word, "times": counted(self.count, "time", "times")}

    def holds(self, answer: str) -> bool:
        return counting.times(answer, self.word) >= self.count

    def shape(self, draft: Draft) -> None:
        draft.include += [self.word] * self.count


class Bold(Constraint):
    """At least so many passages in bold, as Markdown has it: `**like this**`."""

    kind: Literal["bold"] = "bold"
    count: Count

    wordings = (
        "Set at least {parts} of your answer in bold, like **this**.",
        "Put {parts} or more in bold with two asterisks on each side: **bold**.",
        "Highlight at least {parts} with **bold** type.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls(count=random.randint(1, 3))

    def said(self) -> dict[str, str]:
        return {"parts": counted(self.count, "word", "words")}

    def holds(self, answer: str) -> bool:
        return len(re.findall(r"\*\*[^*\n]*\w[^*\n]*\*\*", answer)) >= self.count

    def shape(self, draft: Draft) -> None:
        draft.include += ["**here**"] * self.count


class OneLine(Constraint):
    """No line break but at the ends."""

    kind: Literal["one_line"] = "one_line"

    wordings = (
        "Write everything on a single line.",
        "Do not use line breaks.",
        "Your answer must be one line without any line break.",
    )

    @classmethod
    def draw(cls, random: Random) -> Self:
        return cls()

    def holds(self, answer: str) -> bool:
        return len(answer.strip().splitlines()) == 1

    def shape(self, draft: Draft) -> None:
        """A plain draft is one line."""


HELD_OUT: tuple[type[Constraint], ...] = (
    UpperCase,
    Paragraphs,
    Numbered,
    Quoted,
    Postscript,
    Question,
    Repeats,
    Bold,
    OneLine,
)
