"""Model families: their published chat template, and a tiny tokenizer of each one's kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from network.tiny import llama
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEMPLATES = Path(__file__).with_name("templates")
Kind = Literal[
    "bytes", "bytes as GPT-2", "prepend", "metaspace first", "metaspace always", "no prefix"
]
System = Literal["a turn", "in the first question", "folded"]

TEXTS = [
    "system user assistant model human [INST] [/INST] <<SYS>> <</SYS>> Instruction Response",
    "What is TLS? It encrypts what travels between two machines. Hello, how are you?",
    "def greet(name):\n    print(f'hello, {name}')  # 1024\n\n\nEine Tür, ein Café, a story. 1 2 3",
    "Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024 You are a helpful assistant.",
] * 3


@dataclass(frozen=True)
class Family:
    """A published template with what its tokenizers have: the kind, the control tokens (those in
    `greedy` take the whitespace after them), what begins a text; and what is to be found in it."""

    name: str
    kind: Kind
    control: tuple[str, ...]
    bos: str | None
    eos: str
    end: str
    system: System
    greedy: tuple[str, ...] = ()

    @property
    def jinja(self) -> str:
        return (TEMPLATES / f"{self.name}.jinja").read_text(encoding="utf-8")

    @property
    def tokenizer(self) -> str:
        """The text of its tokenizer.json."""
        control = dict.fromkeys([*([self.bos] if self.bos else []), self.eos, *self.control])
        return tokenizer_json(self.kind, list(control), self.greedy)

    @property
    def special(self) -> dict[str, str]:
        return {"eos_token": self.eos, **({"bos_token": self.bos} if self.bos else {})}


IM = ("<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")
LLAMA_3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>")
GEMMA = ("<start_of_turn>", "<end_of_turn>", "<pad>")
GRANITE = ("<|start_of_role|>", "<|end_of_role|>")
PHI_3 = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<s>", "</s>", "<unk>")
INST = ("[INST]", "[/INST]")

FAMILIES = [
    Family("gemma-2", "no prefix", GEMMA, "<bos>", "<eos>", "<end_of_turn>", "folded"),
    Family(
        "gemma-3", "no prefix", GEMMA, "<bos>", "<eos>", "<end_of_turn>", "in the first question"
    ),
    Family(
        "granite-3.0",
        "bytes as GPT-2",
        GRANITE,
        None,
        "<|end_of_text|>",
        "<|end_of_text|>",
        "a turn",
    ),
    Family(
        "granite-3.3",
        "bytes as GPT-2",
        GRANITE,
        None,
        "<|end_of_text|>",
        "<|end_of_text|>",
        "a turn",
    ),
    Family("llama-2", "prepend", ("<unk>",), "<s>", "</s>", "</s>", "in the first question"),
    Family(
        "llama-3", "bytes", LLAMA_3, "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "a turn"
    ),
    Family(
        "llama-3-always-asks",
        "bytes",
        LLAMA_3,
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "a turn",
    ),
    Family(
        "llama-3.1", "bytes", LLAMA_3, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", "a turn"
    ),
    Family(
        "llama-3.2", "bytes", LLAMA_3, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", "a turn"
    ),
    Family("mistral-7b-v0.1", "prepend", ("<unk>",), "<s>", "</s>", "</s>", "folded"),
    Family(
        "mistral-v1", "metaspace first", ("<unk>",), "<s>", "</s>", "</s>", "in the first question"
    ),
    Family("mistral-v3", "metaspace first", ("<unk>", *INST), "<s>", "</s>", "</s>", "folded"),
    Family(
        "mistral-v7",
        "metaspace first",
        ("<unk>", *INST, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        "<s>",
        "</s>",
        "</s>",
        "a turn",
    ),
    Family("mistral-nemo", "bytes", ("<unk>", *INST), "<s>", "</s>", "</s>", "folded"),
    Family(
        "olmo-2", "bytes", ("<|pad|>",), "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", "a turn"
    ),
    Family("openhermes", "prepend", IM, "<s>", "<|im_end|>", "<|im_end|>", "a turn"),
    Family("phi-3-mini", "prepend", PHI_3, "<s>", "<|endoftext|>", "<|end|>", "folded", PHI_3[:4]),
    Family("phi-3", "prepend", PHI_3, "<s>", "<|endoftext|>", "<|end|>", "a turn", PHI_3[:4]),
    Family("phi-3.5", "prepend", PHI_3, "<s>", "<|endoftext|>", "<|end|>", "a turn", PHI_3[:4]),
    Family(
        "phi-4",
        "bytes",
        (*IM, "<|im_sep|>", "<|dummy_87|>"),
        "<|endoftext|>",
        "<|im_end|>",
        "<|im_end|>",
        "a turn",
    ),
    Family("qwen-2.5", "bytes", (*IM, "<|endoftext|>"), None, "<|im_end|>", "<|im_end|>", "a turn"),
    Family(
        "qwen-3",
        "bytes",
        (*IM, *THINK, "<|endoftext|>"),
        None,
        "<|im_end|>",
        "<|im_end|>",
        "a turn",
    ),
    Family(
        "qwen-3-2507", "bytes", (*IM, "<|endoftext|>"), None, "<|im_end|>", "<|im_end|>", "a turn"
    ),
    Family(
        "smollm3",
        "bytes",
        (*IM, *THINK, "<|end_of_text|>"),
        None,
        "<|im_end|>",
        "<|im_end|>",
        "a turn",
    ),
    Family("zephyr", "metaspace always", ("<unk>",), "<s>", "</s>", "</s>", "a turn"),
]


BY_NAME = {family.name: family for family in FAMILIES}


def published_base(folder: Path, family: Family, **changes: Any) -> Path:
    """A base of that family as its publisher leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    text = family.tokenizer
    llama(vocab_size=len(json.loads(text)["model"]["vocab"])).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = {**family.special, "chat_template": family.jinja, **changes}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def tokenizer_json(kind: Kind, control: Sequence[str], greedy: Sequence[str] = ()) -> str:
    """A tiny tokenizer.json of that kind, with these control tokens first."""
    spec = _bytes(kind, control) if kind.startswith("bytes") else _sentencepiece(kind, control)
    for token in spec["added_tokens"]:
        token["rstrip"] = token["content"] in greedy
        token["special"] = token["content"] not in THINK
    return json.dumps(spec, ensure_ascii=False)


# What Llama 3 and most since then split at; Qwen takes digits one by one.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _bytes(kind: Kind, control: Sequence[str]) -> dict[str, Any]:
    """Byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    split, regex = pre_tokenizers.Split(Regex(WORDS), "isolated"), False
    if kind == "bytes as GPT-2":
        split, regex = pre_tokenizers.Digits(individual_digits=True), True
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(control),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return dict(json.loads(tokenizer.to_str()))


def _sentencepiece(kind: Kind, control: Sequence[str]) -> dict[str, Any]:
    """BPE over ▁ with bytes for what it does not know, as Llama 2's; no piece spans two words."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    words = [text.replace("\n", " ") for text in TEXTS]  # no piece of theirs holds a line break
    trained.train_from_iterator(words, trainers.BpeTrainer(vocab_size=260, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    pieces = [*control, *(f"<0x{byte:02X}>" for byte in range(256))]
    if "<unk>" not in control:
        pieces.insert(0, "<unk>")
    pieces += sorted(model["vocab"], key=model["vocab"].get)
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", "▁")
    if kind == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    elif kind == "no prefix":
        tokenizer.normalizer = spaces
    else:
        scheme = kind.removeprefix("metaspace ")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind != "no prefix":
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(list(control))
    return dict(json.loads(tokenizer.to_str()))
