"""What a byte-level tokenizer does before its merges, by llama.cpp's name for it.

llama.cpp has the expressions built in and chooses them by name (`src/llama-vocab.cpp`); here each
stands as a tokenizer.json has it.
"""

from __future__ import annotations

import warnings
from typing import Any

_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Words that change from lower to upper case are two.
_FIRST, _THEN = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_REST_WITH_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# By the expression, and whether a word that is a token stays whole (`ignore_merges`).
_EXPRESSIONS = {
    (_SHORT + _WORD + r"\p{N}{1,3}" + _REST, True): "llama-bpe",  # Llama 3, SmolLM3
    (_SHORT + _WORD + r"\p{N}{1,3}" + _REST, False): "dbrx",  # Phi 4, OLMo 2
    (_SHORT + _WORD + r"\p{N}" + _REST, False): "qwen2",  # Qwen 2, 2.5 and 3
    (
        _SHORT
        + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
        + r"|\s*[\r\n]+|\s+(?!\S)|\s+",
        False,
    ): "qwen35",
    (
        f"{_BEFORE}{_FIRST}*{_THEN}+|{_BEFORE}{_FIRST}+{_THEN}*|" + r"\p{N}" + _REST_WITH_SLASH,
        True,
    ): "tekken",  # Mistral Nemo, Ministral
    (
        f"{_BEFORE}{_FIRST}*{_THEN}+{_SHORT}?|{_BEFORE}{_FIRST}+{_THEN}*{_SHORT}?|"
        + r"\p{N}{1,3}"
        + _REST_WITH_SLASH,
        False,
    ): "gpt-4o",  # Phi 4 mini
}
PRE_TOKENIZERS = ("gpt-2", "smollm", *_EXPRESSIONS.values())

# Other names that llama.cpp has for what one of those does.
ALIASES = {
    **dict.fromkeys(("phi-2", "mpt", "olmo", "jais", "jina-es", "jina-de"), "gpt-2"),
    **dict.fromkeys(("jina-v2-es", "jina-v2-de", "gigachat", "trillion"), "gpt-2"),
    **dict.fromkeys(("starcoder", "refact", "command-r", "codeshell", "exaone"), "smollm"),
    "minerva-7b": "smollm",
    **dict.fromkeys(("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral"), "llama-bpe"),
    **dict.fromkeys(("midm-2.0", "lfm2"), "llama-bpe"),
    "smaug-bpe": "dbrx",
    **dict.fromkeys(("stablelm2", "deepseek-r1-qwen", "megrez"), "qwen2"),
    "llama4": "gpt-4o",
}


def pre_tokenizer_of(name: str) -> tuple[dict[str, Any], bool] | None:
    """What llama.cpp does before the merges of a byte-level vocabulary under that name, in a
    tokenizer.json's form, and its `ignore_merges`; None for a name that is not known here."""
    name = ALIASES.get(name, name)
    words = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    whole = {**words, "use_regex": True}
    if name == "gpt-2":
        return whole, False
    if name == "smollm":
        digits = {"type": "Digits", "individual_digits": True}
        return {"type": "Sequence", "pretokenizers": [digits, whole]}, False
    for (expression, whole_words), known in _EXPRESSIONS.items():
        if known == name:
            split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated"}
            steps = [{**split, "invert": False}, {**words, "use_regex": False}]
            return {"type": "Sequence", "pretokenizers": steps}, whole_words
    return None


def pre_tokenizer_name(spec: dict[str, Any]) -> str:
    """llama.cpp's name for what a byte-level tokenizer.json does before its merges.

    A pre-tokenizer without a name there counts as GPT-2's, with a warning: ids that this program
    posts stay right, but a text that llama.cpp splits itself may come out otherwise.
    """
    steps = spec.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    whole_words = bool(spec["model"].get("ignore_merges"))
    prefix = any(step.get("add_prefix_space") for step in steps)
    match [step.get("type") for step in steps]:
        case ["ByteLevel"] if steps[0].get("use_regex", True) and not (whole_words or prefix):
            return "gpt-2"
        case ["Digits", "ByteLevel"] if (
            steps[0].get("individual_digits")
            and steps[1].get("use_regex", True)
            and not (whole_words or prefix)
        ):
            return "smollm"
        case ["Split", "ByteLevel"] if not (steps[1].get("use_regex", True) or prefix):
            name = _EXPRESSIONS.get((steps[0]["pattern"].get("Regex"), whole_words))
            if name and steps[0].get("behavior") == "Isolated":
                return name
    warnings.warn(
        "llama.cpp has no name for this tokenizer's pre-tokenizer; the GGUF says gpt-2",
        stacklevel=2,
    )
    return "gpt-2"
