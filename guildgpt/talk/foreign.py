"""A GGUF file that GuildGPT did not write is asked in the chat template that it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guildgpt.chat import CHATML, ChatTemplate, Message
from guildgpt.chat.template_file import TEMPLATE_KEY
from guildgpt.chat.template_pieces import Control, NotExpressed, read_pieces
from guildgpt.chat.template_proof import prove_ids, proven
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.errors import ModelError
from guildgpt.model.gguf_file import CONTROL_TOKEN

USER_DEFINED_TOKEN = 4  # a value of `tokenizer.ggml.token_type`


def template_of(engine: LlamaCppEngine) -> tuple[ChatTemplate, list[str]]:
    """The template that a GGUF without a folder is asked in, and what there is to say of it.

    It is the one of ours that the file was written with, or else its own, as llama.cpp writes it,
    taken apart and proven. Where that cannot be had it is ChatML, if the file has its tokens, and
    else a ModelError.
    """
    metadata = engine.file.head().metadata
    if isinstance(ours := metadata.get(TEMPLATE_KEY), str):
        return ChatTemplate.from_json(ours, engine.file.path), []
    published = metadata.get("tokenizer.chat_template")
    if published == CHATML.jinja:
        return CHATML, []
    why = "it holds none"
    if isinstance(published, str) and published.strip():
        try:
            return _read(engine), []
        except NotExpressed as error:
            why = str(error)
    try:
        CHATML.eos_id(engine.tokenizer)
    except ModelError as error:
        raise ModelError(
            f"there is no chat template in this file that can be used ({why}), and ChatML cannot "
            f"stand in for it: {error.what}",
            where=engine.file.path,
            remedy="Was the model taught to talk at all? `guildgpt train` with this file as "
            "model.base teaches it ChatML.",
        ) from error
    return CHATML, [f"The file's own chat template is not used ({why}): it is asked in ChatML."]


def _read(engine: LlamaCppEngine) -> ChatTemplate:
    def render(messages: Sequence[Mapping[str, str]], asks: bool) -> str:
        return engine.written(messages, asks)

    def prove(template: ChatTemplate) -> None:
        def theirs(messages: Sequence[Message], asks: bool) -> list[int]:
            turns = [message.as_dict() for message in template.folded(messages)]
            return engine.in_own_template(turns, asks)

        prove_ids(template, engine.tokenizer, theirs)

    return proven(read_pieces(render, _control(engine), engine.bos[0]), prove)


def _control(engine: LlamaCppEngine) -> dict[str, Control]:
    """The tokens that stand for no text, or for whole words of a template."""
    metadata = engine.file.head().metadata
    names = metadata.get("tokenizer.ggml.tokens", ())
    kinds = metadata.get("tokenizer.ggml.token_type", ())
    texts = (
        name.decode("utf-8", "replace")
        for name, kind in zip(names, kinds, strict=True)
        if kind in (CONTROL_TOKEN, USER_DEFINED_TOKEN)
    )
    return {text: Control(left=False, right=False) for text in texts if text.strip("▁ \n\t")}
