"""Whether an answer repeats what has been taken back: a rule that would rather say yes.

A text is known again by its traces: every run of three words of it (of six letters in scripts
without spaces), and every distinctive word. Distinctive is a word of seven letters or more, one of
two or more signs with a digit among them, such as a password or a house number, and one that begins
with a capital inside a sentence, such as a name. An answer quotes what is gone if one of its traces
stands in the answer, and nowhere in what else the answer was told.

Case, width, accents and invisible characters make no difference. What is said in other words, or
spelled out letter by letter, is not recognised.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from guildgpt.text.visible import clean

Trace = tuple[str, ...]
RUN = 3  # words
LONG = 7  # letters
# Scripts that put no space between words: there a letter counts as half a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}\U00020000-\U0003ffff]|[^\W_{_UNSPACED}]+")
_SENTENCE_ENDS = re.compile(r"[.!?\u3002:\n]")


def quotes(answer: str, gone: Iterable[str], kept: Iterable[str]) -> bool:
    """Whether an answer that was told all these texts repeats one that is gone."""
    wanted = set().union(*map(traces, gone))
    return bool((wanted & marks(answer)).difference(*map(marks, kept)))


def traces(text: str) -> set[Trace]:
    """By what the text is known again."""
    return _runs([word for word, _ in _words(text)]) | distinctive(text)


def distinctive(text: str) -> set[Trace]:
    """Only the words of it that are distinctive by themselves."""
    return {(word,) for word, is_distinctive in _words(text) if is_distinctive}


def name_traces(name: str) -> set[Trace]:
    """By what somebody's name is known again: each word of it."""
    return {(word,) for word, _ in _words(name) if len(word) > 2}


def marks(text: str) -> set[Trace]:
    """Every trace that stands in the text, whatever text it is of."""
    words = [word for word, _ in _words(text)]
    return _runs(words) | {(word,) for word in words}


def _runs(words: list[str]) -> set[Trace]:
    """Every run of words that is long enough to be told from chance."""
    runs: set[Trace] = set()
    for start in range(len(words)):
        weight = 0
        for end in range(start, min(start + 2 * RUN, len(words))):
            weight += 1 if _is_unspaced(words[end]) else 2
            if weight >= 2 * RUN:
                runs.add(tuple(words[start : end + 1]))
                break
    return runs


def _words(text: str) -> Iterator[tuple[str, bool]]:
    """Each word, folded, and whether it is distinctive by itself."""
    text = _plain(clean(text))
    end = 0
    for match in _WORD.finditer(text):
        begins = not end or _SENTENCE_ENDS.search(text, end, match.start()) is not None
        end = match.end()
        word = match[0]
        is_name = not begins and len(word) > 2 and word[0].isupper()
        has_digit = len(word) > 1 and any(map(str.isdigit, word))
        yield word.casefold(), is_name or has_digit or len(word) >= LONG


def _plain(text: str) -> str:
    """Compatibility letters without accents."""
    if text.isascii():
        return text
    letters = unicodedata.normalize("NFKD", text)
    return "".join(c for c in letters if unicodedata.category(c)[0] != "M")


def _is_unspaced(word: str) -> bool:
    return re.fullmatch(rf"[{_UNSPACED}\U00020000-\U0003ffff]", word) is not None
