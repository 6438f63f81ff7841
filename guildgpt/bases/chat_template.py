"""A base's own chat template: found, taken apart, and proven against `apply_chat_template`.

What cannot be said in turns, or does not come out with the same ids, is not kept: then training
goes on with ChatML, and says why.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from guildgpt.bases.config import BaseConfig
from guildgpt.chat import CHATML, ChatTemplate, FileTokenizer, Message
from guildgpt.chat.template import TEMPLATE_FILE, chatml
from guildgpt.chat.template_pieces import Control, NotExpressed, read_pieces
from guildgpt.chat.template_proof import prove_ids, proven
from guildgpt.model.chat_tokenizer import published_template
from guildgpt.model.gguf_file import read_head
from guildgpt.model.quiet import quiet
from guildgpt.model.special_tokens import special_tokens
from guildgpt.model.starter import STARTER

# Some templates write the date. One that changes from day to day cannot be the same in training and
# in serving, so it is the one that Llama 3's template itself falls back on.
DAY = date(2024, 7, 26)

_DATES = re.compile(r"""strftime_now\((['"])(.*?)\1\)""")

FOLDED = (
    "the base's chat template has no lasting place for a system text: it is put before the first "
    "question, with a blank line between them"
)


def template_for(
    config: BaseConfig, folder: Path, tokenizer_json: str
) -> tuple[ChatTemplate, list[str]]:
    """The template that a base in `folder` is trained with, and what there is to say of it."""
    if config.base == STARTER:
        return replace(CHATML, system=config.system), []
    kept = ChatTemplate.load(folder) if (folder / TEMPLATE_FILE).is_file() else None
    if kept and (config.template == "own" or kept.name == CHATML.name):
        return replace(kept, system=config.system), []
    special = special_tokens(folder, Backend.from_str(tokenizer_json).token_to_id)
    own, notices = None, []
    file = Path(config.base).expanduser()
    if config.template == "own" and (text := _in_gguf(file) or published_template(folder)):
        try:
            own = own_template(text, tokenizer_json, special)
            notices = [] if own.system_turn else [FOLDED]
        except NotExpressed as why:
            notices = [f"the base's own chat template is not kept ({why}); it learns ChatML"]
    if own is None:
        own = _chatml(tokenizer_json, special)
    return replace(own, system=config.system), notices


def _in_gguf(file: Path) -> str | None:
    """The text that a GGUF file holds; transformers passes it on for some models only."""
    if file.suffix != ".gguf" or not file.is_file():
        return None
    text = read_head(file).metadata.get("tokenizer.chat_template")
    return text if isinstance(text, str) and text.strip() else None


def own_template(text: str, tokenizer_json: str, special: Mapping[str, str]) -> ChatTemplate:
    """The template behind a text in Jinja, proven; NotExpressed where it cannot be had."""
    return _proven(text, tokenizer_json, tuple(special.items()))


@lru_cache(maxsize=2)  # a run asks several times, and a large vocabulary takes seconds
def _proven(
    text: str, tokenizer_json: str, special_tokens: tuple[tuple[str, str], ...]
) -> ChatTemplate:
    text, special = _the_same_every_day(text), dict(special_tokens)
    with quiet():
        peer: Any = PreTrainedTokenizerFast(
            tokenizer_object=Backend.from_str(tokenizer_json), chat_template=text, **special
        )

    def render(messages: Sequence[Mapping[str, str]], asks: bool) -> str:
        turns = [dict(one) for one in messages]
        return str(peer.apply_chat_template(turns, tokenize=False, add_generation_prompt=asks))

    template = read_pieces(render, _control(tokenizer_json), special.get("bos_token"))
    eos = special.get("eos_token")
    if eos and eos != template.end and "eos_token" in text:
        # A model folder calls what ends a turn so.
        text = f"{{%- set eos_token = {json.dumps(eos, ensure_ascii=False)} %}}{text}"
    template = replace(template, published=text)
    tokenizer = _file_tokenizer(tokenizer_json)
    return proven(template, lambda one: prove(one, tokenizer, peer))


def prove(template: ChatTemplate, tokenizer: FileTokenizer, peer: Any) -> None:
    """NotExpressed unless `peer.apply_chat_template` gives our ids on all sample conversations."""
    peer.chat_template = template.jinja
    apply = partial(peer.apply_chat_template, tokenize=True, return_dict=False)

    def theirs(messages: Sequence[Message], asks: bool) -> list[int]:
        turns = [message.as_dict() for message in messages]
        return list(apply(turns, add_generation_prompt=asks))

    prove_ids(template, tokenizer, theirs)


def _the_same_every_day(text: str) -> str:
    """A template behind what fixes its date, and asks it not to think."""
    found = ""
    if "enable_thinking" in text:
        found += "{%- set enable_thinking = false %}"
    if "date_string" in text:  # llama.cpp gives today's
        found += f"{{%- set date_string = '{DAY:%d %b %Y}' %}}"
    if formats := {format for _, format in _DATES.findall(text)}:
        days = "".join(
            f"{{%- if format == {json.dumps(one)} %}}{DAY.strftime(one)}{{%- endif %}}"
            for one in sorted(formats)
        )
        found += f"{{%- macro strftime_now(format) %}}{days}{{%- endmacro %}}"
    return text if text.startswith(found) else found + text


def _control(tokenizer_json: str) -> dict[str, Control]:
    """The added tokens that are no bare whitespace, as `FileTokenizer` has it."""
    return {
        token["content"]: Control(bool(token.get("lstrip")), bool(token.get("rstrip")))
        for token in json.loads(tokenizer_json).get("added_tokens") or []
        if token["content"].strip()
    }


def _chatml(tokenizer_json: str, special: Mapping[str, str]) -> ChatTemplate:
    """ChatML, opened with the token that the tokenizer itself puts before every text, if it does:
    models that were pretrained with one may write nonsense without it."""
    bos = special.get("bos_token")
    first = Backend.from_str(tokenizer_json).encode("a").tokens[:1]
    return chatml(*CHATML.control_tokens, begin=bos) if bos and first == [bos] else CHATML


def _file_tokenizer(tokenizer_json: str) -> FileTokenizer:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tokenizer.json"
        path.write_text(tokenizer_json, encoding="utf-8")
        return FileTokenizer(path)
