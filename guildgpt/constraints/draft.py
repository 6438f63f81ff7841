"""A draft: what constraints ask of an answer put together, and an answer written by it.

The answer is not one that a person would give: it says nothing about the question. It is there to
show that some answer keeps all constraints of a prompt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import cycle, islice

from guildgpt.constraints.counting import has_word, sentences, words

# Clauses of few words, without marks; those with a word that is unwanted are left out.
CLAUSES = {
    "en": (
        "people often talk about it with their friends",
        "most visitors like what they see there",
        "nobody needs much time to learn this",
        "you can find more in any good book",
        "it was known long before our time",
    ),
    "de": ("das ist für die meisten Menschen nicht neu", "man kann es auch in der Stadt sehen"),
    "fr": ("c est une chose que les gens aiment", "on le trouve dans la ville et sur la place"),
    "es": ("es una cosa que le gusta a la gente", "se puede ver en la plaza y por las calles"),
    "it": ("è una cosa che piace alla gente", "si trova nella piazza e per le strade"),
}
LINKS = {
    "en": ("and", "while", "because"),
    "de": ("und", "weil"),
    "fr": ("et", "mais"),
    "es": ("y", "pero"),
    "it": ("e", "ma"),
}


@dataclass
class Draft:
    """What an answer is to be like; `None` and empty fields leave it open."""

    sentences: tuple[int, int | None] = (1, None)  # at least, at most
    words: tuple[int, int | None] = (1, None)
    language: str = "en"
    include: list[str] = field(default_factory=list)
    avoid: list[str] = field(default_factory=list)
    begin: str = ""
    end: str = ""
    last_line: str = ""
    mark: str = "."  # that ends a sentence
    items: int = 0
    bullet: str = "- "  # "" numbers the items
    paragraphs: int = 0
    keys: tuple[str, ...] = ()  # of a JSON object
    case: str = ""  # "lower", "upper"
    title: str = ""
    quotes: str = ""

    def bounded(self, name: str, relation: str, count: int) -> None:
        """Narrow `sentences` or `words` to at least, at most or exactly so many."""
        low, high = getattr(self, name)
        if relation != "at most":
            low = max(low, count)
        if relation != "at least":
            high = count if high is None else min(high, count)
        setattr(self, name, (low, high))

    def write(self) -> str:
        """An answer by it; whether it keeps all that was asked is for the checks to say."""
        if self.keys:
            count = max(self.sentences[0], len(self.keys))
            each = -(-self.words[0] // count)
            parts = [self._sentence(index, each) for index in range(count)]
            parts[0] = self._with_words(parts[0])
            said = _in_parts(parts, len(self.keys))
            text = json.dumps(dict(zip(self.keys, said, strict=True)), ensure_ascii=False)
            return self._cased(text)
        own = sum(sentences(part) for part in (self.end, self.last_line))
        count = max(self.sentences[0] - own, self.items, self.paragraphs, 1)
        each = -(-self.words[0] // count)
        parts = [self._sentence(index, each) for index in range(count)]
        parts[0] = self._with_words(parts[0])
        if self.begin:
            parts[0] = f"{self.begin} {parts[0]}"
        if self.end:
            parts[-1] = (
                f"{parts[-1]} {self.end}" if sentences(self.end) and self.end[-1] in ".!?"
                else f"{parts[-1][:-1]} {self.end}"
            )  # fmt: skip
        text = self._laid_out(parts)
        if self.last_line:
            text = f"{text}\n\n{self.last_line}"
        if self.quotes:
            text = f"{self.quotes[0]}{text}{self.quotes[1]}"
        if self.title:
            text = f"{self.title}\n\n{text}"
        return self._cased(text)

    def _laid_out(self, parts: list[str]) -> str:
        if self.items:
            rest, items = parts[: -self.items], parts[-self.items :]
            marks = (self.bullet or f"{number}. " for number in range(1, self.items + 1))
            lines = [f"{mark}{item}" for mark, item in zip(marks, items, strict=True)]
            return "\n".join([*([" ".join(rest)] if rest else []), *lines])
        if self.paragraphs:
            return "\n\n".join(_in_parts(parts, self.paragraphs))
        return " ".join(parts)

    def _sentence(self, index: int, least: int) -> str:
        """A sentence of at least so many words."""
        clauses = [one for one in CLAUSES[self.language] if not self._unwanted(one)]
        links = [one for one in LINKS[self.language] if not self._unwanted(one)]
        if not clauses or not links:
            return ""
        turn = islice(cycle(clauses), index % len(clauses), None)
        said = [next(turn)]
        count = len(words(said[0]))
        while count < least:
            said.append(f"{links[0]} {next(turn)}")
            count += len(words(said[-1]))
        text = " ".join(said)
        return f"{text[0].upper()}{text[1:]}{self.mark}"

    def _with_words(self, sentence: str) -> str:
        return " ".join([sentence[:-1], *self.include]) + self.mark if self.include else sentence

    def _unwanted(self, text: str) -> bool:
        return any(has_word(text, word) for word in self.avoid)

    def _cased(self, text: str) -> str:
        return {"lower": text.lower, "upper": text.upper}.get(self.case, text.strip)()


def _in_parts(said: list[str], count: int) -> list[str]:
    """So many texts of these sentences: all but the first are one sentence each."""
    first = len(said) - count + 1
    return [" ".join(said[:first]), *said[first:]]
