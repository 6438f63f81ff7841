"""What a GGUF says of conversations: the chat template, and the ids that begin and end a text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from guildgpt.chat import CHATML, ChatTemplate
from guildgpt.chat.template import TEMPLATE_FILE
from guildgpt.chat.template_file import TEMPLATE_KEY
from guildgpt.errors import ModelError
from guildgpt.model.chat_tokenizer import published_template
from guildgpt.model.gguf_vocabulary import Kind, Vocabulary
from guildgpt.model.json_file import json_if_any
from guildgpt.model.special_tokens import special_ids


@dataclass(frozen=True, slots=True)
class Chat:
    """A template in llama.cpp's own form, and the ids around a text."""

    jinja: str | None
    end: int  # of a turn, and with it of the generation
    other_end: int | None = None  # where a model ends in two ways
    begins: bool = False  # whether a text that llama.cpp splits begins with `bos`
    template: ChatTemplate | None = None  # ours


def read_chat(folder: Path, vocabulary: Vocabulary) -> Chat:
    """How the model of a folder was taught to speak.

    A folder of ours has a template.json. Another one speaks as its own chat template says or, where
    it has none and its vocabulary has that template's tokens, ChatML. Raises ModelError for a
    template whose tokens the vocabulary lacks, and for a model that says nowhere how it ends.
    """
    template = ChatTemplate.load(folder) if (folder / TEMPLATE_FILE).is_file() else None
    if template is None:
        published = published_template(folder)
        if published or not set(CHATML.control_tokens) <= set(vocabulary.tokens):
            return _own(folder, vocabulary, published)
        template = CHATML
    missing = [token for token in template.control_tokens if token not in vocabulary.tokens]
    if missing:
        raise ModelError(
            f"the tokenizer has no {' and no '.join(missing)}, which the chat template needs",
            where=folder / "tokenizer.json",
            remedy="Fine-tune the model with `guildgpt train` first: that adds the chat tokens.",
        )
    for token in template.control_tokens:
        vocabulary.types[vocabulary.tokens.index(token)] = Kind.CONTROL
    end = vocabulary.tokens.index(template.end)
    return Chat(template.jinja, end, other_end=end, template=template)


def describe_chat(
    writer: gguf.GGUFWriter, chat: Chat, vocabulary: Vocabulary, folder: Path
) -> None:
    """Write the template and the ids of the special tokens."""
    if chat.jinja:
        writer.add_chat_template(chat.jinja)
    if chat.template and chat.template != CHATML:
        writer.add_string(TEMPLATE_KEY, chat.template.to_json())
    writer.add_eos_token_id(chat.end)
    if chat.other_end is not None:
        writer.add_eot_token_id(chat.other_end)
    # `Tokenizer.encode` adds neither; llama.cpp would, for some models, unless told.
    writer.add_add_bos_token(chat.begins)
    writer.add_add_eos_token(False)
    # Left out, these would be whatever llama.cpp's default for the tokenizer's model is.
    for name in ("bos", "pad"):
        special = _special(folder, name, vocabulary)
        getattr(writer, f"add_{name}_token_id")(special[0] if special else chat.end)
    unknown = vocabulary.unknown
    if unknown is None and (special := _special(folder, "unk", vocabulary)):
        unknown = special[0]
    if unknown is not None:
        writer.add_unk_token_id(unknown)


def _own(folder: Path, vocabulary: Vocabulary, published: str | None) -> Chat:
    """The folder's own template and ends."""
    ends = _special(folder, "eos", vocabulary)
    if not ends:
        raise ModelError(
            "nothing here says which token ends a text (eos_token_id)",
            where=folder / "config.json",
            remedy="Give its id there or in generation_config.json, or fine-tune the model with "
            "`guildgpt train`: that adds the chat tokens.",
        )
    others = [token for token in ends if token != ends[0]]
    return Chat(
        published,
        ends[0],
        other_end=others[-1] if others else None,
        begins=_begins(folder, vocabulary),
    )


def _special(folder: Path, name: str, vocabulary: Vocabulary) -> list[int]:
    """The ids of a special token; those that end a turn of the tokenizer's own chat first."""
    ids = {token: place for place, token in enumerate(vocabulary.tokens)}
    return special_ids(folder, name, ids.get, len(ids))


def _begins(folder: Path, vocabulary: Vocabulary) -> bool:
    """Whether the folder's tokenizer puts its beginning of text before a text."""
    bos = _special(folder, "bos", vocabulary)
    if not bos:
        return False
    after: Any = json_if_any(folder / "tokenizer.json").get("post_processor") or {}
    steps = after.get("processors", [after])
    firsts = [step["single"][0] for step in steps if step.get("type") == "TemplateProcessing"]
    named = [first.get("SpecialToken", {}).get("id") for first in firsts]
    if json_if_any(folder / "tokenizer_config.json").get("add_bos_token"):
        return True
    return vocabulary.tokens[bos[0]] in named
