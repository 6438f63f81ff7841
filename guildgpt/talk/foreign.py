"""What GuildGPT did not write is asked in the chat template that it comes with: a GGUF file through
llama.cpp, a folder of transformers through a process that has transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from guildgpt.chat import CHATML, ChatTemplate, FileTokenizer, Message
from guildgpt.chat.template_file import TEMPLATE_KEY
from guildgpt.chat.template_pieces import Control, NotExpressed, read_pieces
from guildgpt.chat.template_proof import prove_ids, proven
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.engines.torch_engine import check_torch
from guildgpt.errors import ModelError
from guildgpt.model.gguf_file import CONTROL_TOKEN, user_defined


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
            return _read(engine, metadata), []
        except (NotExpressed, ModelError) as error:  # the second: a token that is none by itself
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


@dataclass(frozen=True)
class Asked:
    """How a folder is asked: see `guildgpt.bases.foreign`."""

    template: ChatTemplate
    tokenizer: FileTokenizer
    ends: list[int]
    notices: list[str]


def folder_as_it_is(folder: Path) -> Asked:
    """How a folder without a template.json is asked; takes seconds, for transformers reads it.
    Raises EngineError where that is not installed, and ModelError where nothing says how."""
    check_torch(folder)
    done = subprocess.run(
        [sys.executable, "-m", "guildgpt.bases.foreign", str(folder)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    try:
        said = json.loads(done.stdout)
    except ValueError as error:
        words = done.stderr.strip().splitlines() or ["it does not say why"]
        raise ModelError(
            f"how this model is asked cannot be found out ({words[-1]})", where=folder
        ) from error
    if "what" in said:
        raise ModelError(said["what"], where=folder, remedy=said["remedy"])
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "tokenizer.json"
        file.write_text(said["tokenizer"], encoding="utf-8")
        tokenizer = FileTokenizer(file)
    template = ChatTemplate.from_json(said["template"], folder)
    return Asked(template, tokenizer, said["ends"], said["notices"])


def _read(engine: LlamaCppEngine, metadata: Mapping[str, Any]) -> ChatTemplate:
    def render(messages: Sequence[Mapping[str, str]], asks: bool) -> str:
        return engine.written(messages, asks)

    def prove(template: ChatTemplate) -> None:
        def theirs(messages: Sequence[Message], asks: bool) -> list[int]:
            turns = [message.as_dict() for message in template.folded(messages)]
            return engine.in_own_template(turns, asks)

        prove_ids(template, engine.tokenizer, theirs)

    return proven(read_pieces(render, _control(metadata), engine.bos[0]), prove)


def _control(metadata: Mapping[str, Any]) -> dict[str, Control]:
    """The tokens that llama.cpp finds in a template before it splits the text between them."""
    names = metadata.get("tokenizer.ggml.tokens", ())
    kinds = metadata.get("tokenizer.ggml.token_type", ())
    control = (name for name, kind in zip(names, kinds, strict=False) if kind == CONTROL_TOKEN)
    texts = [*(name.decode("utf-8", "replace") for name in control), *user_defined(names, kinds)]
    return {text: Control(left=False, right=False) for text in texts}
