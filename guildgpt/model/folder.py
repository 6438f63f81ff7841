"""The model folder: what a stage leaves, and what everything after it reads.

It loads in plain transformers (`from_pretrained(folder)`) and, through its GGUF, in plain
llama.cpp. It is written beside its place and renamed into it: there whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from guildgpt import __version__
from guildgpt.chat import CHATML, ChatTemplate
from guildgpt.data.origin import Events
from guildgpt.data.provenance import Provenance, attributions
from guildgpt.errors import disk_error
from guildgpt.model.chat_tokenizer import ChatTokenizer
from guildgpt.model.config import LARGE, Dtype
from guildgpt.model.gguf import write_gguf
from guildgpt.model.lineage import write_lineage
from guildgpt.model.provenance import PROVENANCE_FILE
from guildgpt.model.quiet import quiet


def write_model_folder(
    folder: Path,
    model: Any,
    chat: ChatTokenizer,
    *,
    context: int,
    provenance: Sequence[Provenance],
    recipe: Mapping[str, Any],
    card: str,
    dtype: Dtype = "auto",
    gguf: Sequence[str] = ("Q8_0",),
    metrics: Path | None = None,
    files: Mapping[str, bytes] | None = None,
    lineage: Events | None = None,
) -> Path:
    """Write `model` (plain transformers, float32) with everything that belongs to it, and whatever
    other `files` there are, by name. `lineage` is what it learned from; see `model/lineage.py`."""
    work = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        _save_weights(model, work, dtype)
        _save_tokenizer(chat, work, context)
        chat.template.save(work)
        record = {
            "guildgpt": __version__,
            "sources": [asdict(item) for item in provenance],
            "recipe": dict(recipe),
        }
        _write_json(work / PROVENANCE_FILE, record)
        write_lineage(work, lineage or set())
        (work / "README.md").write_text(card, encoding="utf-8")
        if metrics is not None:
            shutil.copyfile(metrics, work / "metrics.jsonl")
        for name, content in (files or {}).items():
            (work / name).write_bytes(content)
        for quantization in gguf:
            write_gguf(work, work / f"model-{quantization}.gguf", quantization)
        _replace(work, folder)
    except (OSError, SafetensorError) as error:  # safetensors has its own for a full disk
        raise disk_error(error, "the model folder", folder) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def speaks(template: ChatTemplate) -> str:
    """The sentence of a model card on how a model is asked, and how it ends."""
    language = "It keeps its base's chat template" if template.published else "It speaks ChatML"
    return f"{language}; every answer ends with `{template.end}`."


def model_card(
    name: str,
    provenance: Sequence[Provenance],
    *,
    stages: Sequence[str],
    figures: Sequence[str],
    task: str = "text-generation",
    introduction: str = speaks(CHATML),
) -> str:
    """The README.md of a model folder, with the credits that the licences ask for."""
    licences = {item.licence for item in provenance}
    header = {
        "library_name": "transformers",
        "pipeline_tag": task,
        "license": licences.pop().lower() if len(licences) == 1 else "other",
        "tags": ["guildgpt", *stages],
    }
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in header.items()),
        "---",
        "",
        f"# {name}",
        "",
        f"Made with GuildGPT {__version__} from {provenance[0].name} "
        f"({', '.join(stages)}). {introduction}",
        "",
        "## Figures",
        "",
        *(f"- {line}" for line in figures),
        "",
        "## Sources and credits",
        "",
        attributions(provenance) or "The sources ask for none.",
        "",
        "A small model: it makes mistakes and states them with confidence. Check what matters.",
        "",
    ]
    return "\n".join(lines)


def _save_weights(model: Any, folder: Path, dtype: Dtype) -> None:
    parameters = sum(p.numel() for p in model.parameters())
    large = dtype == "bfloat16" or (dtype == "auto" and parameters >= LARGE)
    target = torch.bfloat16 if large else torch.float32
    # Cloned, since fused projections are views of one matrix, which safetensors does not take.
    weights = {
        name: p.detach().to(target if p.is_floating_point() else p.dtype, copy=True)
        for name, p in model.state_dict().items()
    }
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    if model.config.tie_word_embeddings:
        weights = {name: tensor for name, tensor in weights.items() if name not in tied}
    with quiet():
        model.save_pretrained(folder, state_dict=weights)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # it comes readable for its owner alone, and a bot may be someone else
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = str(target).removeprefix("torch.")  # transformers wrote the model's own
    _write_json(folder / "config.json", config)


def _save_tokenizer(chat: ChatTokenizer, folder: Path, context: int) -> None:
    (folder / "tokenizer.json").write_text(chat.json, encoding="utf-8")
    (folder / "chat_template.jinja").write_text(chat.template.jinja, encoding="utf-8")
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **({"bos_token": chat.bos_token} if chat.bos_token else {}),
            "eos_token": chat.template.end,
            "pad_token": chat.pad_token,
            "clean_up_tokenization_spaces": False,
            "model_max_length": context,
        },
    )
    _write_json(
        folder / "generation_config.json",
        {
            "eos_token_id": chat.eos_id,
            "pad_token_id": chat.pad_id,
            "do_sample": True,
            "temperature": 0.7,
            "top_k": 40,
            "top_p": 0.95,
        },
    )


def _replace(work: Path, folder: Path) -> None:
    """Put the finished folder in place; an older one stays until the new one stands."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        work.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
