"""The text in bytes, in whatever encoding it was saved.

UTF-8 and byte order marks say what they are; everything else is a guess. On short texts in a dozen
languages chardet guessed right more often than charset-normalizer, above all in Chinese.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from guildgpt.text.visible import CONTROLS

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BINARY_HEADS = (
    b"%PDF-", b"\x7fELF", b"MZ\x90", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"PK\x03\x04", b"Rar!",
    b"7z\xbc\xaf", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"OggS", b"RIFF", b"ID3",
    b"fLaC", b"\xd0\xcf\x11\xe0", b"SQLite format 3\0", b"\xca\xfe\xba\xbe", b"wOF2", b"GGUF",
)  # fmt: skip
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# What people still save text in, and what it is called where they choose it.
GUESSES = {
    "cp1252": "Windows-1252 (Western European)", "cp1250": "Windows-1250 (Central European)",
    "cp1251": "Windows-1251 (Cyrillic)", "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)", "cp1255": "Windows-1255 (Hebrew)",
    "cp1256": "Windows-1256 (Arabic)", "cp874": "Windows-874 (Thai)", "koi8-r": "KOI8-R",
    "cp932": "Shift-JIS", "euc_jis_2004": "EUC-JP", "gb18030": "GBK", "big5hkscs": "Big5",
    "cp949": "EUC-KR",
}  # fmt: skip
_LATIN = ("cp1252", "cp1250", "cp1254")
_WESTERN = 1.5  # how much likelier than the others of these it is that a text is in the first
_OTHER_SCRIPTS = ("cp1251", "cp1253", "cp1255", "cp1256", "cp874", "koi8-r")
_WORD = re.compile(r"[^\W\d_]+")
_KANA = re.compile("[\u3041-\u30ff]")
# The scripts that UTF-16 without a mark is looked for in: a random pair of bytes is often outside.
_IN_UTF16 = re.compile(
    "[\t\n\r -~\u00a0-\u024f\u0370-\u052f\u0590-\u06ff\u0900-\u097f\u0e01-\u0e5b\u2010-\u2027"
    "\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff5e]*"
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text and its encoding; `guess` is that one's usual name, where the file does not say it."""

    text: str
    guess: str = ""
    encoding: str = "utf-8"


def decoded(data: bytes, *, cut: bool = False) -> Decoded | None:
    """The text in `data`, or None for what is none; `cut`: half a character may be at the end."""
    if data.startswith(_BINARY_HEADS):
        return None
    bom, encoding = next(
        ((bom, name) for bom, name in BOMS if data.startswith(bom)), (b"", "utf-8")
    )
    text = _read(data[len(bom) :], encoding, cut)
    if text is not None or bom:
        return None if text is None else Decoded(text, encoding=encoding)
    guess = _guess(data, cut)
    text = _read(data, guess, cut) if guess else None
    if guess is None or text is None:
        return None
    return Decoded(text, GUESSES.get(guess, "UTF-16"), guess)


def _read(data: bytes, encoding: str, cut: bool) -> str | None:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data, final=not cut)
    except UnicodeDecodeError:
        return None
    text = _ANSI.sub("", text)
    controls = len(CONTROLS.findall(text.replace("\r", "").replace("\f", "")))
    return None if "\0" in text or controls * 100 > len(text) else text


def _guess(data: bytes, cut: bool) -> str | None:
    """What a text without a mark is most likely saved in; None for what looks like no text."""
    import chardet  # here: most files never need it

    if b"\0" in data:  # no text in any of the others holds one
        return _utf16(data)
    # A few kana alone are too few for statistics, but in no other encoding do bytes become kana.
    japanese = _read(data, "cp932", cut) or ""
    beyond = sum(not character.isascii() for character in japanese)
    if beyond and len(_KANA.findall(japanese)) * 2 > beyond:
        return "cp932"
    found = chardet.detect(
        data,
        max_bytes=len(data),
        include_encodings=GUESSES,
        prefer_superset=True,
        compat_names=False,
    )["encoding"]
    if found is None:
        return _utf16(data)
    guess = codecs.lookup(found).name
    is_mixed = guess in _OTHER_SCRIPTS and _mixes_letters(_read(data, guess, cut) or "")
    return _latin(data) if guess in _LATIN or is_mixed else guess


def _mixes_letters(text: str) -> bool:
    """Whether letters of another script stand inside words of Latin ones: for accents, that is."""
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    mixed = sum(bool(re.search("[A-Za-z]", word)) for word in words)
    return mixed * 2 >= len(words)


def _latin(data: bytes) -> str:
    """Which of the encodings of Latin letters it is most likely in: they differ in few."""
    import chardet

    found = chardet.detect_all(
        data,
        ignore_threshold=True,
        max_bytes=len(data),
        include_encodings=_LATIN,
        prefer_superset=True,
        compat_names=False,
    )
    likely = {codecs.lookup(one["encoding"] or "cp1252").name: one["confidence"] for one in found}
    likely["cp1252"] = likely.get("cp1252", 0.0) * _WESTERN
    return max(likely, key=lambda name: likely[name])


def _utf16(data: bytes) -> str | None:
    """The byte order of UTF-16 in which all of `data` is written in usual scripts, if there is one.

    chardet looks for the zeros of Latin letters and misses, say, Chinese."""
    data = data[: len(data) // 2 * 2]
    for encoding in ("utf-16-le", "utf-16-be"):
        if _IN_UTF16.fullmatch(data.decode(encoding, "replace")):
            return encoding
    return None
