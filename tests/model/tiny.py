"""Tiny models with random weights, their tokenizers, and llama.cpp and transformers to ask them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import sentencepiece
import torch
from spiece import train_spiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from guildgpt.bases.spiece import convert
from guildgpt.chat import CHATML, FileTokenizer
from guildgpt.engines.llamacpp_process import LlamaCppProcess

CORPUS = [
    "Ownership is how Rust decides who frees a value: each value has one owner.",
    "def greet(name):\n    if not name:\n        return None\n    return f'hello, {name}!'",
    "for i in range(10):\n\tprint(i, i * 2.5, 'x' * i)  # 1024 of them, or 65536",
    "We'll see what they've said; I'm sure it's fine. Don't you think so?",
    '| and || and <tag> and </tag> [1, 2, 3] {a: b} "quoted" `code` ~/.config @home #1 $5 100%',
]
TEXTS = [
    "Who owns the value in 2024?",
    "def f(x):\n\n    return x[1:]  # 12 345\n\t\tpass  \n",
    " leading, trailing ",
    "a    b     c\t\td",
    "I'll say it's THEIR'S, naïve café, 日本語 🎉 x²",
    "<|im_end|> and <|im_start|>system <|endoftext|> [PAD120] <0x41>",
    "\n",
]


def byte_level_tokenizer(pre: object | None = None, ignore_merges: bool = False) -> Tokenizer:
    """A byte-level BPE like SmolLM's: digits one by one, then GPT-2's words."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre or pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", *CHATML.control_tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def unigram_tokenizer(work: Path, control: Sequence[str] = CHATML.control_tokens) -> Tokenizer:
    """A SentencePiece unigram tokenizer like replit-code's, with the chat tokens added."""
    (work / "corpus.txt").write_text("\n".join(CORPUS * 3), encoding="utf-8")
    model = train_spiece(work, [work / "corpus.txt"], 100, user_defined_symbols=["▁▁▁▁"])
    tokenizer = convert(model)
    tokenizer.add_special_tokens(list(control))
    return tokenizer


def sentencepiece_tokenizer(work: Path, *, prefix: bool = True) -> Tokenizer:
    """A SentencePiece BPE like Llama 2's or, without a space before the text, like Gemma's."""
    (work / "corpus.txt").write_text("\n".join(CORPUS * 3), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(work / "corpus.txt"),
        model_prefix=str(work / "bpe"),
        model_type="bpe",
        vocab_size=400,
        normalization_rule_name="identity",
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(work / "bpe.model"))
    pieces = [model.id_to_piece(index) for index in range(len(model))]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [  # as transformers makes them: every pair whose text is a piece, by its score
        (piece[:cut], piece[cut:])
        for piece in sorted(pieces, key=lambda piece: -model.get_score(vocabulary[piece]))
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary and vocabulary[piece] >= 259
    ]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, *[decoders.Strip(" ", 1, 0)] * prefix])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", *CHATML.control_tokens])
    return tokenizer


def tiny_model() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def write_folder(
    folder: Path,
    model: torch.nn.Module,
    tokenizer: Tokenizer,
    *,
    embedding: float = 0.4,
    matrix: float = 0.15,
    **save: str,
) -> Path:
    """A model folder; the weights are drawn so large that no two logits are nearly equal."""
    torch.manual_seed(7)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            embeds = any(part in name for part in ("embed_", "wte", "wpe"))
            torch.nn.init.normal_(parameter, std=embedding if embeds else matrix)
        elif name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.3)
        else:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(folder, **save)
    tokenizer.save(str(folder / "tokenizer.json"))
    CHATML.save(folder)
    return folder


@contextmanager
def served(path: Path) -> Iterator[httpx.Client]:
    """llama.cpp's own server with a GGUF."""
    process = LlamaCppProcess()
    headers = {"Authorization": "Bearer key"}
    try:
        address = process.load(path, "key", 512, 1, 1)
        with httpx.Client(base_url=address, headers=headers, timeout=240) as client:
            yield client
    finally:
        process.stop()


def complete(
    client: httpx.Client, ids: list[int], count: int = 12, without: Sequence[int] = ()
) -> dict[str, Any]:
    """The greedy answer of llama.cpp, with the 40 likeliest tokens at each place.

    Tokens of `without` are never chosen; the probabilities are those before that.
    """
    request = {
        "prompt": ids,
        "temperature": 0,
        "n_predict": count,
        "n_probs": 40,
        "return_tokens": True,
        "cache_prompt": False,
        "logit_bias": [[token, False] for token in without],
    }
    response = client.post("/completion", json=request)
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found


def tokenize(client: httpx.Client, text: str) -> list[int]:
    request = {"content": text, "add_special": True, "parse_special": False}
    tokens: list[int] = client.post("/tokenize", json=request).json()["tokens"]
    return tokens


@torch.no_grad()
def logits(folder: Path, ids: list[int]) -> torch.Tensor:
    """What transformers computes from the folder, shape `(tokens, vocabulary)`."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    found: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return found


def greedy(folder: Path, ids: list[int], count: int) -> tuple[list[int], torch.Tensor]:
    """The next `count` ids by transformers, and the first one's log-probabilities."""
    steps = [logits(folder, ids)[-1]]
    chosen = [int(steps[0].argmax())]
    while len(chosen) < count:
        steps.append(logits(folder, ids + chosen)[-1])
        chosen.append(int(steps[-1].argmax()))
    return chosen, steps[0].log_softmax(-1)


def unwritten(tokenizer: FileTokenizer) -> list[int]:
    """Control tokens, which end an answer, and pieces of characters, which llama.cpp holds back."""
    return [
        token
        for token in range(len(tokenizer))
        if token in tokenizer.control_ids or "\ufffd" in tokenizer.decode([token])
    ]
