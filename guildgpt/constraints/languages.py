"""Which of five European languages a text is in, by its commonest little words.

It is no detector for the languages of the world: it tells these five apart in texts of some
sentences, and says nothing of shorter ones, of lists of names, or of any other language.
"""

from __future__ import annotations

import re

from guildgpt.constraints.counting import words

NAMES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian"}
ENOUGH = 5  # words
DIFFERENT = 2  # little words of the language, at least
SHARE = 0.15  # of the words, at least, must be little words of the language
_APOSTROPHE = re.compile("['’]")

# Words that are common in one of the languages; those that two share count for both.
LITTLE = {
    code: frozenset(text.split())
    for code, text in {
        "en": "the of and to in is are was it that for on with as be this by not or from at have "
        "has you they we can which an will their its but if when he she there what i am "
        "my me do does would so no more who how about your his her them don isn t s d m re ve ll",
        "de": "der die das und ist in zu den von mit sich des auf für nicht ein eine einen einem "
        "einer als auch es an werden aus er sie wird bei sind wie oder im dem man kann ich wir "
        "hat haben nur noch über so zum zur dass wenn am",
        "fr": "le la les de des et est un une en du que qui dans pour pas sur au aux il elle ils "
        "avec ce se sont par plus ne ou nous vous cette son sa ses mais on à être très comme leur "
        "l d n s c j m t qu",
        "es": "el la los las de y en que es un una por con para no se del al lo como más su sus "
        "son pero o este esta muy también cuando hay nos le ser está porque ha fue si",
        "it": "il lo la i gli le di e è un una in che per non con del della dei delle si da sono "
        "come più al alla nel nella ma anche o questo questa molto quando ci essere ha suo sua "
        "l d c dell all nell dall sull un quest com",
    }.items()
}


def language_of(text: str) -> str | None:
    """The code of the language whose little words are clearly the most frequent; None if none is.

    Clearly: the text has five words or more, 15 % of them are little words of the language, two of
    these differ, and no other of the five has as many different ones. What stands before an
    apostrophe is a word here.
    """
    said = [part for word in words(text.lower()) for part in _APOSTROPHE.split(word)]
    if len(said) < ENOUGH:
        return None
    found = {code: [word for word in said if word in little] for code, little in LITTLE.items()}
    counts = {code: (len(set(some)), len(some)) for code, some in found.items()}
    first, second, *_ = sorted(counts, key=lambda code: counts[code], reverse=True)
    different, often = counts[first]
    enough = different >= DIFFERENT and often >= SHARE * len(said)
    return first if enough and counts[first] > counts[second] else None
