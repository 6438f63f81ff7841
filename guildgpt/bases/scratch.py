"""A base from nothing: a BPE tokenizer learned from the documents, and a small untrained GPT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guildgpt.bases.config import ScratchConfig
from guildgpt.errors import DataError

SEPARATOR = "<|endoftext|>"
CONTROL_TOKENS = [SEPARATOR, "<|im_start|>", "<|im_end|>"]


def make_scratch(config: ScratchConfig, documents: Sequence[str], context: int) -> tuple[Any, str]:
    """An untrained Llama-shaped model and the text of its tokenizer.json."""
    tokenizer = train_tokenizer(documents, config.vocabulary)
    return small_gpt(config, tokenizer.get_vocab_size(), context), tokenizer.to_str()


def train_tokenizer(documents: Sequence[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer (Sennrich et al. 2016, arXiv 1508.07909) with chat tokens.

    Digits stand alone, and every byte is in the vocabulary, so that nothing is ever unknown.
    """
    if not documents:
        raise DataError(
            "a base from scratch needs plain text to learn its tokenizer from",
            where="pretrain.documents",
            remedy="Name text files, or folders of *.txt and *.md.",
        )
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=CONTROL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def small_gpt(config: ScratchConfig, vocabulary: int, context: int) -> Any:
    """A Llama-shaped model with fresh weights; the caller seeds torch."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
    )
    return LlamaForCausalLM(shape)
