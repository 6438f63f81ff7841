"""What of a folder is sent to the Hub, what stays at home, and whether it may go at all."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from guildgpt.bases.licences import on_card
from guildgpt.data.provenance import UNKNOWN, Provenance, spdx
from guildgpt.errors import ModelError
from guildgpt.model.json_file import json_if_any
from guildgpt.model.lineage import LINEAGE_FILE, read_lineage
from guildgpt.model.locate import best_gguf, refuse_run_folder
from guildgpt.model.provenance import PROVENANCE_FILE, read_provenance
from guildgpt.sharing import card
from guildgpt.sharing.names import without_paths
from guildgpt.terminal import missing_for_training

# What others need. A folder's other files stay: report, samples, metrics, votes, and whatever else
# somebody may have put there.
SENT = (
    *("config.json", "generation_config.json", "adapter_config.json", PROVENANCE_FILE),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.jinja", "template.json", "reward.json", "Modelfile"),
    *("LICENSE", "LICENSE.*", "NOTICE", "NOTICE.*"),
    *("*.safetensors", "*.safetensors.index.json", "*.gguf"),
    *("pytorch_model*.bin", "pytorch_model.bin.index.json", "adapter_model.bin"),
)
WEIGHTS = (".safetensors", ".bin", ".gguf")


@dataclass(frozen=True, slots=True)
class Item:
    """A file as it is sent: one that lies here, or bytes that were made of it."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes to a repository."""

    items: tuple[Item, ...]
    left: tuple[str, ...]  # files that stay
    notes: tuple[str, ...]  # what the person should know before they say yes
    licence: str

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)


def pack(
    folder: Path, repo: str, *, public: bool, with_feedback: bool, licence: str | None = None
) -> Parcel:
    """What of `folder` is sent to `repo`.

    ModelError for what is no model, for one that learned from members without a word that it may
    go, and for one whose licences let nobody publish it.
    """
    refuse_run_folder(folder)
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ModelError(
            "this is not a model folder",
            where=folder,
            remedy="Model folders made by `guildgpt train` lie at runs/NAME/STAGE/model; an "
            "adapter's, made by `guildgpt export MODEL --adapter`, in one of those.",
        )
    sources = read_provenance(folder)
    learned = _learned(folder, sources, with_feedback)
    notes = [*_licences(folder, sources, public, licence)]
    readme = card.complete(
        _text(folder / "README.md"), folder, repo, learned=learned, licence=licence
    )
    files = sorted(file for file in folder.iterdir() if file.is_file())
    sent = [file for file in files if any(fnmatch(file.name, one) for one in SENT)]
    if not any(file.suffix in WEIGHTS for file in sent):
        raise ModelError(
            "there are no weights here to send",
            where=folder,
            remedy="Expected is model.safetensors or adapter_model.safetensors; was the folder "
            "copied whole?",
        )
    items = [Item("README.md", readme.encode())]
    for file in sent:
        content = _without_paths(file)
        if content is not None and file.name == "adapter_config.json":
            notes.append(
                "The adapter names its base by a folder of this machine, where nobody else finds "
                "it. Export it again, with --base and a Hub id."
            )
        items.append(Item(file.name, file if content is None else content))
    items += _for_ollama(folder)
    names = {item.name for item in items}
    left = [path.name for path in sorted(folder.iterdir()) if path.name not in names]
    if (folder / "report.json").is_file() and missing_for_training():
        notes.append(
            "The card has no figures of the report: to read it, pip install 'guildgpt[train]'."
        )
    stated = card.split(readme)[0].get("license", UNKNOWN)
    return Parcel(tuple(items), tuple(left), tuple(notes), str(stated))


def _learned(folder: Path, sources: list[Provenance], with_feedback: bool) -> dict[str, int]:
    """How much of what members gave the model learned from, by kind; ModelError unless it may go.

    Older folders have no lineage: their sources tell."""
    found = dict(Counter(kind for kind, _ in read_lineage(folder)))
    if not (folder / LINEAGE_FILE).is_file():
        judged = [item.rows for item in sources if item.written_by == "own model"]
        found = {"comparison": sum(judged)} if judged else {}
    if found and not with_feedback:
        raise ModelError(
            f"this model learned from your members: {card.counted(found)}",
            where=folder,
            remedy="What is on the Hub is copied, and nobody can call it back, should one of them "
            "ask to have theirs erased; and a model may repeat what it learned. Share the one it "
            "came from instead. If they agreed to this, add --with-feedback: their votes, texts "
            "and ids stay here all the same.",
        )
    return found


def _licences(
    folder: Path, sources: list[Provenance], public: bool, licence: str | None
) -> list[str]:
    """What there is to say of the licences of what a model was made from."""
    notes = []
    items = sources or [Provenance(folder.absolute().name, "base", on_card(folder))]
    for item in items:
        terms = f"-{spdx(item.licence).lower()}-"
        if not item.licence or item.licence.lower() in (UNKNOWN, "other"):
            why = f"nobody says under which licence {item.name} is"
            remedy = (
                f"Look it up ({item.origin or 'its publisher'}). If it may be passed on, say so "
                "with --licence ID: the licence that the whole model then goes under."
            )
        elif "-nd-" in terms:
            why = f"the licence of {item.name}, {item.licence}, lets nobody pass on what is adapted"
            remedy = "If its owner has allowed it to you, say so with --licence ID."
        elif "-nc-" in terms:
            notes.append(f"The licence of {item.name}, {item.licence}, forbids commercial use.")
            continue
        else:
            continue
        if public and licence is None:
            raise ModelError(
                f"it cannot be published: {why}",
                where=folder,
                remedy=f"{remedy} Without --public it goes into a repository that only you see.",
            )
        if licence is None:
            notes.append(f"Keep it private: {why}.")
    return notes


def _without_paths(file: Path) -> bytes | None:
    """A JSON file's text without paths of this machine; None where it has none, or is no such."""
    if file.name not in (PROVENANCE_FILE, "config.json", "adapter_config.json"):
        return None
    values = json_if_any(file)
    clean = without_paths(values)
    if clean == values:
        return None
    return (json.dumps(clean, indent=2, ensure_ascii=False) + "\n").encode()


def _for_ollama(folder: Path) -> list[Item]:
    """The files by which `ollama run hf.co/OWNER/NAME` knows template, system text and parameters
    (https://huggingface.co/docs/hub/ollama)."""
    gguf = best_gguf(folder)
    if gguf is None:
        return []
    from guildgpt.sharing.ollama import spoken

    how = spoken(gguf)
    if how.template is None:
        return []
    parameters = {**how.parameters, "stop": [json.loads(one) for one in how.parameters["stop"]]}
    found = [
        Item("template", how.template.encode()),
        Item("params", (json.dumps(parameters, ensure_ascii=False) + "\n").encode()),
    ]
    return [*found, *([Item("system", how.system.encode())] if how.system else [])]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
