"""Text without what cannot be seen: what people type, made fit to be read and compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# Characters that show nothing: zero-width ones, marks, overrides and isolates of direction, fillers
# that people send as "empty" messages. The joiners, variation selectors and tags are looked at one
# by one, for emoji and some scripts are spelled with them.
UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0080-\U000e00ff]"
)
_TAGS = re.compile("(\U0001f3f4[\U000e0030-\U000e007a]{2,6}\U000e007f)|[\U000e0000-\U000e007f]")
SELECTOR = "[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
_SELECTORS = re.compile(f"(?:(^|\\s){SELECTOR}+|({SELECTOR}){SELECTOR}+)")
_JOINERS = re.compile("[\u200c\u200d]")
_VIRAMA = 9  # the combining class of the sign that takes an Indic letter's vowel away
_BREAKS = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")
# Letters are not hidden, nor the joiners that emoji and many scripts are spelled with.
_HIDDEN = re.compile(f"{CONTROLS.pattern}|{UNSEEN.pattern}|[\u2028\u2029\U000e0000-\U000e007f]")
# What steers a screen: control characters, and what turns the reading direction of others' text.
_STEERING = re.compile(f"{CONTROLS.pattern}|[\u202a-\u202e\u2066-\u206f]")
_PICTURES = {chr(code): chr(0x2400 + code) for code in range(32)} | {"\x7f": "␡"}
# Arabic to Sinhala, Myanmar, Khmer and Mongolian: scripts that are spelled with joiners.
_JOINING_SCRIPT = re.compile("[\u0600-\u0dff\u1000-\u109f\u1780-\u18af]")
_PICTURE = ("So", "Sk", "Sm")  # Unicode categories of emoji, skin tones and arrows


def clean(text: str) -> str:
    """What a member typed, without what cannot be seen: NFC, trimmed; '' if nothing is left.

    Taken out are zero-width characters, marks, overrides and isolates of direction, control
    characters (line ends and tabs stay), lone surrogates, tags, and blank fillers. Letters of
    right-to-left scripts stay as they are, joiners stay where emoji and scripts need them.
    """
    return unicodedata.normalize("NFC", visible(text)).strip()


def visible(text: str) -> str:
    """The text without what cannot be seen; blanks at its ends stay."""
    text = _LINE_ENDS.sub("\n", pairs_joined(text))
    text = UNSEEN.sub("", CONTROLS.sub("", text))
    text = _JOINERS.sub(
        lambda found: found[0] if _joins(found.string, found.start()) else "",
        _TAGS.sub(r"\1", text),
    )
    return _SELECTORS.sub(r"\1\2", text)


def harmless(text: str, instead: str | Callable[[re.Match[str]], str] = "") -> str:
    """Text that someone else wrote, for a screen: all that is seen stays, and what it is spelled
    with (blanks of any kind, joiners, letters newer than this Python); `instead` stands for what
    would steer the screen. Line ends become LF."""
    return _STEERING.sub(instead, _BREAKS.sub("\n", text.replace("\r\n", "\n")))


def pictured(text: str) -> str:
    """The same with pictures of what would steer the screen: ␛ for an escape."""
    return harmless(text, lambda found: _PICTURES.get(found[0], "\N{REPLACEMENT CHARACTER}"))


def named(text: str) -> str:
    """The same for a reader who wants to know: all that cannot be seen by its code, ⟨U+202E⟩."""
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n"))


def pairs_joined(text: str) -> str:
    """Surrogates that came as two halves of a character become that character."""
    if not re.search("[\ud800-\udbff][\udc00-\udfff]", text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _joins(text: str, place: int) -> bool:
    """Whether the joiner at `place` stands where emoji or a script need one."""
    before, after = text[max(0, place - 2) : place], text[place + 1 : place + 2]
    if not before:
        return False
    if _JOINING_SCRIPT.match(before) and unicodedata.combining(before[-1]) == _VIRAMA:
        return True  # at a word's end, too, as in Malayalam
    picture = before[0] if before[-1] == "\ufe0f" else before[-1]
    kinds = [unicodedata.category(character) for character in picture + after]
    is_emoji = text[place] == "\u200d" and [kind in _PICTURE for kind in kinds] == [True, True]
    return is_emoji or all(_JOINING_SCRIPT.match(one) for one in (before[-1], after))
