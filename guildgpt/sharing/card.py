"""The README.md that a shared model comes with: what it is, what it was made from, how to run it.

What training wrote into the model's folder stays, and so does what a person wrote there since: only
the header is completed, and sections that are not there yet are added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guildgpt.data.provenance import OWN, PERMISSIVE, PUBLIC_DOMAIN, SHARE_ALIKE, Provenance, spdx
from guildgpt.model.json_file import json_if_any
from guildgpt.model.locate import best_gguf
from guildgpt.model.provenance import read_provenance
from guildgpt.model.starter import STARTER
from guildgpt.sharing.names import STARTER_ON_THE_HUB, on_the_hub
from guildgpt.terminal import missing_for_training

if TYPE_CHECKING:
    from guildgpt.sharing.adapter import Written
    from guildgpt.sharing.origin import Origin

CONFIG_FILE = "adapter_config.json"
# What the Hub calls otherwise than SPDX in small letters, of the licences that are known here.
_ON_THE_HUB = {
    "ODC-By-1.0": "odc-by",
    "PDDL-1.0": "pddl",
    "GFDL-1.3-only": "gfdl",
    "GFDL-1.3-or-later": "gfdl",
    "ODbL-1.0": "odbl",
    "BSL-1.0": "bsl-1.0",
}
_NOT_THERE = {"0BSD", "CC-PDDC", "CC-BY-SA-2.0", "CC-BY-SA-2.5", "OGL-UK-3.0", "MIT-0", OWN}
_LANGUAGES = {"starter": "en", "dolly": "en"}  # of the data that GuildGPT knows by name
KINDS = {"vote": "votes", "rating": "ratings", "message": "messages", "correction": "corrections"}


def complete(
    text: str,
    folder: Path,
    repo: str,
    *,
    learned: Mapping[str, int] | None = None,
    licence: str | None = None,
) -> str:
    """The card of a folder that is sent to `repo`, of the one that lies in it (`text`, or "").

    `learned` counts what it learned from members, by kind; `licence` goes before what is known.
    """
    header, body = split(text)
    sources = read_provenance(folder)
    values = _metadata(folder, sources, header, licence)
    if not body.strip():
        body = f"# {repo.partition('/')[2]}\n"
    for title, lines in (
        ("How to run it", _how_to_run(folder, repo)),
        ("How it was measured", _measured(folder)),
        ("What it was made from", _made_from(sources, learned or {})),
    ):
        if lines and f"## {title}" not in body:
            body = _with_section(body, f"## {title}\n\n{lines}\n")
    return _joined(values, body)


def adapter_card(folder: Path, origin: Origin, written: Written) -> str:
    """The card of an adapter that is taken out of the model in `folder`."""
    header, body = split(_read(folder))
    values = {**header, "library_name": "peft", "base_model": origin.name}
    values["tags"] = [*dict.fromkeys([*values.get("tags", ()), "lora"])]
    if not on_the_hub(origin.name):
        del values["base_model"]
    rows = ""
    if written.rows:
        rows = f" {written.rows:,} rows of the vocabulary travel with it"
        rows += f", {written.new_rows:,} of them new." if written.new_rows else "."
    name = origin.name if on_the_hub(origin.name) else Path(origin.name).name
    body = _with_section(
        body or f"# {folder.absolute().parent.name}\n",
        f"## The adapter\n\nRank {written.rank} on {written.matrices:,} matrices of "
        f"`{name}`, which was in {written.dtype} while it was trained.{rows}\n\n"
        f"{_with_peft('PATH', written.dtype)}\n",
    )
    return _joined(values, body)


def licence_of(sources: Sequence[Provenance]) -> str:
    """The licence that a model made from these goes under, as the Hub names it, or `other`.

    One that asks for the same of what is made from it decides; without one, the base's.
    """
    kinds = {spdx(item.licence) for item in sources}
    alike = kinds & SHARE_ALIKE
    if len(alike) > 1 or not kinds <= PERMISSIVE | PUBLIC_DOMAIN | SHARE_ALIKE | {OWN}:
        return "other"
    bases = [spdx(item.licence) for item in sources if item.kind == "base"]
    return hub_licence(next(iter(alike or bases or kinds), "other"))


def hub_licence(licence: str) -> str:
    """A licence's name on the Hub: `other` for those that it has no name for."""
    licence = spdx(licence)
    return "other" if licence in _NOT_THERE else _ON_THE_HUB.get(licence, licence.lower())


def _metadata(
    folder: Path, sources: Sequence[Provenance], header: dict[str, Any], licence: str | None
) -> dict[str, Any]:
    """The card's header: what stands there already goes before what is made here."""
    adapter = (folder / CONFIG_FILE).is_file()
    made: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "license": licence_of(sources) if sources else None,
        "base_model": _base(folder, sources),
        "datasets": [item.origin for item in sources if item.kind == "data" and _on(item.origin)],
        "language": _languages(sources),
        "tags": ["guildgpt"],
    }
    values = {key: value for key, value in made.items() if value} | header
    values["tags"] = [*dict.fromkeys([*header.get("tags", ()), *made["tags"]])]
    if licence:
        values["license"] = hub_licence(licence)
    elif header.get("license") in (None, "other") and made["license"]:
        values["license"] = made["license"]
    if values.get("license") == "other" and "license_name" not in values:
        values["license_name"] = licence or "see-sources-and-credits"
    return values


def _base(folder: Path, sources: Sequence[Provenance]) -> str | None:
    named = json_if_any(folder / CONFIG_FILE).get("base_model_name_or_path")
    if isinstance(named, str):
        return named if on_the_hub(named) else None
    first = next((item for item in sources if item.kind == "base"), None)
    if first is None:
        return None
    if first.name == STARTER:
        return STARTER_ON_THE_HUB
    return first.origin if _on(first.origin) else None


def _on(origin: str) -> bool:
    return on_the_hub(origin) and not Path(origin).suffix


def _languages(sources: Sequence[Provenance]) -> list[str]:
    """The languages of the data, where all of it is known: nobody is told what was guessed."""
    data = [item.name.partition(":")[0] for item in sources if item.kind == "data"]
    if not data or not all(name in _LANGUAGES for name in data):
        return []
    return sorted({_LANGUAGES[name] for name in data})


def _how_to_run(folder: Path, repo: str) -> str:
    """Commands for each program that can open what is sent."""
    name = repo.partition("/")[2]
    if (folder / CONFIG_FILE).is_file():
        return _with_peft(repo, "bfloat16")
    kind = str((json_if_any(folder / "config.json").get("architectures") or [""])[0])
    if kind.endswith("ForSequenceClassification"):
        return ""
    fetched = f"hf download {repo} --local-dir {name}"
    parts = [
        f"```\npip install guildgpt\n{fetched}\nguildgpt chat {name}\n```",
        "In transformers:",
        f"```python\n{_transformers(repo)}\n```",
    ]
    if gguf := best_gguf(folder):
        parts += [
            "In llama.cpp, and in Ollama:",
            f"```\nllama-cli -hf {repo} -hff {gguf.name}\nollama run hf.co/{repo}\n```",
        ]
    return "\n\n".join(parts)


def _transformers(repo: str) -> str:
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{repo}")\n'
        f'model = AutoModelForCausalLM.from_pretrained("{repo}")\n'
        'chat = [{"role": "user", "content": "What is TLS?"}]\n'
        "asked = tokenizer.apply_chat_template(\n"
        '    chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n'
        ")\n"
        "answer = model.generate(**asked, max_new_tokens=200)[0, asked.input_ids.shape[1] :]\n"
        "print(tokenizer.decode(answer, skip_special_tokens=True))"
    )


def _with_peft(place: str, dtype: str) -> str:
    return (
        "```python\n"
        "from peft import AutoPeftModelForCausalLM\n"
        "from transformers import AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{place}")\n'
        f'model = AutoPeftModelForCausalLM.from_pretrained("{place}", dtype="{dtype}")\n'
        "```\n\n"
        "`AutoPeftModelForCausalLM` makes room for new tokens; with `PeftModel` do that first: "
        "`base.resize_token_embeddings(len(tokenizer))`, where the base has fewer rows. "
        "`model.merge_and_unload()` gives a whole model."
    )


def _measured(folder: Path) -> str:
    """The report's main sentences: figures, and which data the judge behind them saw."""
    from guildgpt.errors import DataError

    if not (folder / "report.json").is_file() or missing_for_training():
        return ""
    from guildgpt.report.before_after import headline
    from guildgpt.report.report import read_report

    try:
        sentences = headline(read_report(folder))
    except DataError:  # another version's: the card does without
        return ""
    return "\n".join(f"- {line}" for line in sentences)


def _made_from(sources: Sequence[Provenance], learned: Mapping[str, int]) -> str:
    """Base and data as a table, and what its guild's members gave."""
    if not sources:
        return ""
    lines = ["| source | from | licence | written by | rows |", "|---|---|---|---|---|"]
    for item in sources:
        origin = f"[{item.origin}]({_page(item)})" if _on(item.origin) else item.origin
        revision = f" at `{item.revision[:12]}`" if item.revision else ""
        rows = f"{item.rows:,}" if item.rows else ""
        name = f"{item.name} (base)" if item.kind == "base" else item.name
        lines.append(
            f"| {name} | {origin}{revision} | {spdx(item.licence)} | {item.written_by} | {rows} |"
        )
    if learned:
        lines += ["", f"It also learned from what members of its guild gave: {counted(learned)}."]
    return "\n".join(lines)


def counted(learned: Mapping[str, int]) -> str:
    """Votes, ratings and messages in words: `12 votes and 3 messages`."""
    parts = [
        f"{count:,} {KINDS.get(kind, kind) if count != 1 else kind}"
        for kind, count in sorted(learned.items(), key=lambda one: -one[1])
    ]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _page(item: Provenance) -> str:
    kind = "datasets/" if item.kind == "data" else ""
    return f"https://huggingface.co/{kind}{item.origin}"


def _with_section(body: str, section: str) -> str:
    """The section before the credits, or at the end."""
    before, mark, credits = body.partition("## Sources and credits")
    return f"{before.rstrip()}\n\n{section}\n{mark}{credits}".rstrip() + "\n"


def _read(folder: Path) -> str:
    file = folder / "README.md"
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def split(text: str) -> tuple[dict[str, Any], str]:
    """A card's header as values, and the text below it."""
    if not text.startswith("---"):
        return {}, text
    from huggingface_hub import ModelCard

    card: Any = ModelCard(text, ignore_metadata_errors=True)
    return dict(card.data.to_dict()), str(card.text)


def _joined(values: Mapping[str, Any], body: str) -> str:
    """Header and text; JSON's values are YAML's."""
    header = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["---", *header, "---", "", body.lstrip()])
