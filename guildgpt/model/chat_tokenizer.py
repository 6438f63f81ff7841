"""A tokenizer that can write chats: it holds the template's control tokens and one for padding."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from guildgpt.chat import ChatTemplate, FileTokenizer
from guildgpt.model.json_file import json_if_any

SPARE = ("<|pad|>", "<pad>", "<|endoftext|>", "<|end_of_text|>", "[PAD]", "</s>")
OF_OWN = (*SPARE, "<|finetune_right_pad_id|>", "<unk>", "<|unk|>")  # beside a base's own template


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer that holds the template's control tokens, and a padding token besides."""

    json: str  # the text of tokenizer.json
    template: ChatTemplate
    pad_token: str
    new_tokens: list[int]  # ids whose rows of the embedding nobody has trained
    bos_token: str | None = None  # what begins a sequence, where the template or the base has one
    notices: tuple[str, ...] = ()  # what there is to say of the template

    @cached_property
    def tokenizer(self) -> FileTokenizer:
        """The tokenizer itself."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "tokenizer.json"
            path.write_text(self.json, encoding="utf-8")
            return FileTokenizer(path)

    @property
    def eos_id(self) -> int:
        """The end-of-turn token's id."""
        return self.template.eos_id(self.tokenizer)

    @property
    def control_ids(self) -> list[int]:
        """The ids of the template's control tokens."""
        ids = (self.tokenizer.token_id(token) for token in self.template.control_tokens)
        return [token for token in ids if token is not None]

    @property
    def bos_id(self) -> int | None:
        """The id of the token that begins a sequence, if there is one."""
        return self.tokenizer.token_id(self.bos_token) if self.bos_token else None

    @property
    def pad_id(self) -> int:
        """The padding token's id; between documents it stands as their separator."""
        pad = self.tokenizer.token_id(self.pad_token)
        assert pad is not None
        return pad


def add_chat_tokens(
    tokenizer_json: str,
    template: ChatTemplate,
    rows: int | None = None,
    *,
    bos: str | None = None,
) -> ChatTokenizer:
    """Give a tokenizer whatever control tokens the template needs and it lacks.

    The padding token is never one of the template's: a spare control token is taken, or one is
    added. A base's own template finds all its tokens there, and leaves them as they are. `bos` is
    what the base calls its beginning of a sequence.
    `rows` is the size of the model's embedding, if known: a token that the tokenizer's file has and
    the embedding has no row for counts as new, since the model never saw it.
    """
    backend = Backend.from_str(tokenizer_json)
    backend.no_padding()
    backend.no_truncation()
    own = bool(template.published)
    spare = (token for token in (OF_OWN if own else SPARE) if token not in template.control_tokens)
    pad = next((token for token in spare if backend.token_to_id(token) is not None), SPARE[0])
    wanted = [*template.control_tokens, pad]
    new = [token for token in wanted if backend.token_to_id(token) is None]
    # A token that is already there may be known as ordinary text; mark all three as special.
    backend.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token in wanted
            if token in new or not own
        ]
    )
    new_ids = {int(backend.token_to_id(token) or 0) for token in new}
    size = backend.get_vocab_size(with_added_tokens=True)
    without_row = range(size if rows is None else rows, size)
    new_tokens = sorted({*new_ids, *without_row})
    if template.begin in template.control_tokens:
        bos = template.begin
    elif not own or bos == template.end:  # a GGUF without one names what ends a turn
        bos = None
    return ChatTokenizer(backend.to_str(), template, pad, new_tokens, bos)


def published_template(folder: Path) -> str | None:
    """The chat template in Jinja that a folder holds, the default one of several."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        given = json_if_any(folder / name).get("chat_template")
        if isinstance(given, list):
            named = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)}
            given = named.get("default")
        if isinstance(given, str) and given.strip():
            return given
    return None
