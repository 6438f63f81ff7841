"""Whether an answer to a question of facts is right.

It is if one of the question's accepted forms stands in it, as whole words, wherever in it. So a
model that names several things is right with one of them, and one that denies the right one is
right, too: both models are measured alike, and the answers are short.
"""

from __future__ import annotations

import re
import unicodedata

from guildgpt.data.starter import Fact

THOUSANDS = re.compile(r"(?<=\d)[,\u2009\u202f\u00a0'](?=\d{3}\b)")


def is_right(answer: str, fact: Fact) -> bool:
    """Whether an answer holds one of the forms that the fact may have."""
    said = f" {plain(answer)} "
    return any(f" {plain(form)} " in said for form in fact.answers)


def plain(text: str) -> str:
    """Words alone, one space between them: no case, accents, punctuation, nor marks of thousands;
    H₂O is H2O."""
    text = unicodedata.normalize("NFKD", THOUSANDS.sub("", text))
    bare = "".join(one for one in text if not unicodedata.combining(one))
    return " ".join(re.findall(r"\w+", bare.casefold()))
