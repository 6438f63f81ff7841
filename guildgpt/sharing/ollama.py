"""A Modelfile, by which Ollama takes a model's GGUF: `ollama create NAME -f Modelfile`.

https://docs.ollama.com/modelfile
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guildgpt.bases.licences import on_card
from guildgpt.chat import CHATML, ChatTemplate
from guildgpt.chat.template import TEMPLATE_FILE
from guildgpt.chat.template_file import TEMPLATE_KEY
from guildgpt.data.provenance import UNKNOWN, spdx
from guildgpt.errors import ModelError, disk_error
from guildgpt.model.gguf_file import read_head
from guildgpt.model.json_file import json_if_any
from guildgpt.model.provenance import read_provenance
from guildgpt.sharing.go_template import in_go
from guildgpt.terminal import missing_for_training

MODELFILE = "Modelfile"
SAMPLING = ("temperature", "top_k", "top_p", "min_p")
LONGEST = 10_000_000  # a tokenizer that knows no limit says so with a far larger number


@dataclass(frozen=True, slots=True)
class Spoken:
    """How a GGUF's model is asked, as Ollama is told of it."""

    template: str | None  # in Go's language; None leaves it to what Ollama finds in the file
    system: str
    parameters: dict[str, Any]  # in order; a list stands for several
    notes: tuple[str, ...] = ()


def write_modelfile(gguf: Path) -> tuple[Path, tuple[str, ...]]:
    """Write the Modelfile beside a GGUF, and say what it could not say."""
    file, how = gguf.parent / MODELFILE, spoken(gguf)
    lines = [f"# ollama create NAME -f {MODELFILE}", f"FROM ./{gguf.name}"]
    lines += [f"PARAMETER {name} {value}" for name, value in _one_each(how.parameters)]
    if how.template is not None:
        lines.append(f'TEMPLATE """{how.template}"""')
    if how.system:
        lines.append(f'SYSTEM """{how.system}"""')
    if licence := _licence(gguf.parent):
        lines.append(f'LICENSE """{licence}"""')
    try:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise disk_error(error, "the Modelfile", file) from error
    return file, how.notes


def spoken(gguf: Path) -> Spoken:
    """Template, system text and parameters of the model in a GGUF, and in the folder around it."""
    folder, said = gguf.parent, read_head(gguf).metadata
    template, notes = _template(gguf, said)
    system = template.system if template else ""
    if '"""' in system:
        raise ModelError(
            'the system text holds """, which a Modelfile cannot quote',
            where=folder / TEMPLATE_FILE,
            remedy="Give the system text to Ollama's clients, and leave model.system out.",
        )
    parameters: dict[str, Any] = {}
    if template:
        parameters["stop"] = [json.dumps(template.end, ensure_ascii=False)]
    limits = [
        json_if_any(folder / "tokenizer_config.json").get("model_max_length"),
        said.get(f"{said.get('general.architecture')}.context_length"),
    ]
    if known := [int(one) for one in limits if isinstance(one, int | float) and one < LONGEST]:
        parameters["num_ctx"] = min(known)
    sampling = json_if_any(folder / "generation_config.json")
    parameters |= {name: sampling[name] for name in SAMPLING if _number(sampling.get(name))}
    if sampling.get("do_sample") is False:
        parameters["temperature"] = 0
    penalty = sampling.get("repetition_penalty")
    parameters["repeat_penalty"] = penalty if _number(penalty) else 1.0  # older Ollamas have 1.1
    begins = bool(said.get("tokenizer.ggml.add_bos_token"))
    text = in_go(template, begins=begins) if template else None
    return Spoken(text, system, parameters, notes)


def _template(gguf: Path, said: dict[str, Any]) -> tuple[ChatTemplate | None, tuple[str, ...]]:
    """The template that a file was written with, taken apart; where that cannot be, why."""
    folder, jinja = gguf.parent, said.get("tokenizer.chat_template")
    if (folder / TEMPLATE_FILE).is_file():
        return ChatTemplate.load(folder), ()
    if isinstance(written := said.get(TEMPLATE_KEY), str):
        return ChatTemplate.from_json(written, gguf), ()
    if jinja == CHATML.jinja:
        return CHATML, ()
    if not isinstance(jinja, str):
        return None, ("The model has no chat template, so the Modelfile has no TEMPLATE either.",)
    left = "Ollama goes by the file's own where it knows it (ollama show --template NAME)."
    if missing_for_training():
        why = "taking the chat template apart needs pip install 'guildgpt[train]'"
        return None, (f"There is no TEMPLATE: {why}. {left}",)
    from tokenizers import Tokenizer as Backend

    from guildgpt.bases.chat_template import own_template
    from guildgpt.bases.tokenizer import read_tokenizer
    from guildgpt.chat.template_pieces import NotExpressed
    from guildgpt.model.special_tokens import special_tokens

    try:
        tokenizer = read_tokenizer(folder)
        special = special_tokens(folder, Backend.from_str(tokenizer).token_to_id)
        return own_template(jinja, tokenizer, special), ()
    except NotExpressed as why:
        return None, (
            f"There is no TEMPLATE: the chat template is not made of turns ({why}). {left}",
        )


def _licence(folder: Path) -> str:
    """Credits and licences of what the model was made from, as far as they are known."""
    if sources := read_provenance(folder):
        credits = [
            f"{item.name}: {item.attribution or item.origin or 'author unknown'} "
            f"({spdx(item.licence)})"
            for item in sources
        ]
        return "\n".join(dict.fromkeys(credits))
    licence = on_card(folder)
    return "" if licence == UNKNOWN else licence


def _one_each(parameters: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        (name, one)
        for name, value in parameters.items()
        for one in (value if isinstance(value, list) else [value])
    ]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
