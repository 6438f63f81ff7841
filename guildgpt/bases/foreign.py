"""How a folder is asked that transformers saved and GuildGPT never saw: its tokenizer, its template
and what ends its answers.

Who talks does so without transformers, so it asks a process: `python -m guildgpt.bases.foreign
FOLDER` writes one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from guildgpt.bases.chat_template import own_template
from guildgpt.bases.tokenizer import read_tokenizer
from guildgpt.chat import CHATML, ChatTemplate
from guildgpt.chat.template_pieces import NotExpressed
from guildgpt.errors import GuildError, ModelError
from guildgpt.model.chat_tokenizer import published_template
from guildgpt.model.special_tokens import special_ids, special_tokens


def how_it_is_asked(folder: Path) -> dict[str, Any]:
    """`template` (the text of a template.json), `tokenizer` (of a tokenizer.json), `ends` (ids) and
    `notices`. ModelError where nothing says how the model is asked."""
    tokenizer_json = read_tokenizer(folder)
    backend = Backend.from_str(tokenizer_json)
    template, notices = _template(folder, tokenizer_json, backend)
    ends = [
        backend.token_to_id(template.end),
        *special_ids(folder, "eos", backend.token_to_id, backend.get_vocab_size()),
    ]
    return {
        "template": template.to_json(),
        "tokenizer": tokenizer_json,
        "ends": list(dict.fromkeys(ends)),
        "notices": notices,
    }


def _template(
    folder: Path, tokenizer_json: str, backend: Backend
) -> tuple[ChatTemplate, list[str]]:
    why = "it has none"
    if published := published_template(folder):
        special = special_tokens(folder, backend.token_to_id)
        try:
            return own_template(published, tokenizer_json, special), []
        except NotExpressed as error:
            why = str(error)
    if any(backend.token_to_id(token) is None for token in CHATML.control_tokens):
        raise ModelError(
            f"this folder has no chat template that can be used ({why}), and its tokenizer lacks "
            "ChatML's tokens",
            where=folder,
            remedy="Was the model taught to talk at all? `guildgpt train` with this folder as "
            "model.base teaches it ChatML.",
        )
    return CHATML, [f"Its own chat template is not used ({why}): it is asked in ChatML."]


def main() -> None:
    """Answer for the folder that the command line names."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        reply = how_it_is_asked(Path(sys.argv[1]))
    except GuildError as error:
        reply = {"what": error.what, "remedy": error.remedy}
    print(json.dumps(reply), file=output, flush=True)


if __name__ == "__main__":
    main()
