"""SentencePiece models like replit-code's, for tests of whatever reads one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece


def train_spiece(folder: Path, texts: Sequence[Path], size: int, **others: Any) -> Path:
    """Write `spiece.model`, a unigram model of about `size` pieces, into `folder`."""
    sentencepiece.SentencePieceTrainer.train(
        input=",".join(map(str, texts)),
        model_prefix=str(folder / "spiece"),
        model_type="unigram",
        vocab_size=size,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        unk_id=0,
        eos_id=1,
        pad_id=2,
        bos_id=-1,
        unk_piece="<|unk|>",
        eos_piece="<|endoftext|>",
        pad_piece="<|pad|>",
        minloglevel=2,
        **others,
    )
    return folder / "spiece.model"
