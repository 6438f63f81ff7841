"""Where a base lies: fetched if need be, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from guildgpt.bases import licences
from guildgpt.bases.config import BaseConfig
from guildgpt.bases.converted import converted
from guildgpt.bases.stored import refuse_quantized, shards, weights_sha256
from guildgpt.data.provenance import Provenance
from guildgpt.errors import ModelError
from guildgpt.hashes import combined, file_sha256
from guildgpt.model import adapter
from guildgpt.model.json_file import json_if_any
from guildgpt.model.locate import refuse_run_folder
from guildgpt.model.provenance import read_provenance
from guildgpt.model.quiet import first_line
from guildgpt.model.starter import GGUF_SHA256, STARTER, starter_gguf

SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja", "README.md"]
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a base lies: a folder in transformers' form, and an adapter that comes on top of it."""

    folder: Path
    provenance: list[Provenance]  # the base, then the adapter, or what a model of ours learned from
    adapter: Path | None = None

    @property
    def tokenizer(self) -> Path:
        """The folder whose tokenizer and chat template hold: the adapter's, where it has one."""
        own = self.adapter
        return own if own and any((own / name).is_file() for name in TOKENIZERS) else self.folder

    def sha256(self) -> str:
        """The hash of the weights, those of the adapter too."""
        whole = weights_sha256(self.folder)
        if self.adapter is None:
            return whole
        return combined([whole, *map(file_sha256, adapter.files_of(self.adapter))])


def locate_base(config: BaseConfig, *, weights: bool = True) -> Place:
    """Where a base lies, and where it came from; fetches what is missing.

    Without `weights` only the small files of a base on the Hub are fetched.
    """
    name, path = config.base, Path(config.base).expanduser()
    if name == STARTER:
        return Place(converted(starter_gguf(), GGUF_SHA256), [licences.STARTER])
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError("there is no such GGUF file", where=path)
        sha256 = file_sha256(path)
        item = Provenance(path.stem, "base", origin=path.name, sha256=sha256)
        return Place(converted(path, sha256), [licences.stated(config, item)])
    folder = _folder(name, config.revision, weights=weights)
    if (folder / adapter.CONFIG_FILE).is_file():
        return _adapted(folder, config, weights=weights)
    if config.adapter in ("merge", "continue"):
        raise ModelError(
            f"there is no adapter here to {config.adapter}",
            where=folder,
            remedy=f"An adapter's folder holds {adapter.CONFIG_FILE}. Name it in model.base, or "
            "leave model.adapter out.",
        )
    return Place(folder, _past(name, folder, config, weights=weights))


def _folder(name: str, revision: str | None, *, weights: bool, where: str = "model.base") -> Path:
    """The folder that a name stands for, fetched if it is the Hub's."""
    path = Path(name).expanduser()
    if path.is_dir():
        refuse_run_folder(path)
        return path
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"there is no base `{name}`",
            where=where,
            remedy="Name `starter`, `scratch`, a Hub id (owner/name), a folder or a GGUF file.",
        )
    return _snapshot(name, revision, weights=weights, where=where)


def _past(name: str, folder: Path, config: BaseConfig, *, weights: bool) -> list[Provenance]:
    """Where a folder's weights came from; their hash, where they are at hand."""
    refuse_quantized(folder, json_if_any(folder / "config.json"))
    if own := read_provenance(folder):
        return own
    path = Path(name).expanduser()
    if folder == path:
        item = Provenance(
            path.absolute().name, "base", licences.on_card(path), path.absolute().name
        )
    else:
        item = licences.KNOWN.get(name) or Provenance(name, "base", licences.on_card(folder), name)
        commit = folder.name if folder.parent.name == "snapshots" else config.revision or ""
        item = replace(item, revision=commit)
    if weights:
        item = replace(item, sha256=weights_sha256(folder))
    return [licences.stated(config, item)]


def _adapted(folder: Path, config: BaseConfig, *, weights: bool) -> Place:
    """An adapter's folder, with the base that it belongs to: another's, or its own."""
    beside = (folder / "config.json").is_file()
    said = adapter.base_of(folder)
    if config.adapter is None:
        alone = "" if not beside else ', or "ignore" to begin with the base without it'
        raise ModelError(
            f"this folder holds an adapter ({adapter.CONFIG_FILE})"
            + (" beside a base's files" if beside else ", and no whole model")
            + (f"; it belongs to {said}" if said else ""),
            where=folder,
            remedy='Say what is to become of it: model.adapter = "merge" folds it into the base, '
            f'"continue" trains it further (in `sft`){alone}. model.adapter_base names its base '
            "where that is somewhere else now.",
        )
    if beside and (config.adapter == "ignore" or config.adapter_base is None):
        place = Place(folder, _past(config.base, folder, config, weights=weights))
    elif config.adapter == "ignore":
        raise ModelError(
            "without its adapter there is nothing in this folder",
            where=folder,
            remedy=f"Name the base itself in model.base{f': {said}' if said else ''}.",
        )
    else:
        place = _base_of(folder, config, said, weights=weights)
    if config.adapter == "ignore":
        return place
    return Place(place.folder, [*place.provenance, *_adapter_past(folder, config, weights)], folder)


def _base_of(folder: Path, config: BaseConfig, said: str | None, *, weights: bool) -> Place:
    """The base of an adapter that lies alone: the one that the recipe names, or that it names."""
    name = config.adapter_base or said
    if name is None:
        raise ModelError(
            "this adapter does not say which base it belongs to",
            where=folder / adapter.CONFIG_FILE,
            remedy="Name it in model.adapter_base: a folder or a Hub id.",
        )
    if config.adapter_base is None and (folder / name).is_dir():
        name = str(folder / name)  # a path of that time, beside the adapter
    asked = {"base": name, "adapter": None, "adapter_base": None}
    revision = json_if_any(folder / adapter.CONFIG_FILE).get("revision")
    asked["revision"] = revision if isinstance(revision, str) and not config.adapter_base else None
    try:
        return locate_base(config.model_copy(update=asked), weights=weights)
    except ModelError as error:
        raise ModelError(
            f"the base of this adapter, {name}, cannot be taken: {error.what}",
            where=folder,
            remedy="Name in model.adapter_base where it lies: a folder or a Hub id, its weights in "
            "float16, bfloat16 or float32.",
        ) from error


def _adapter_past(folder: Path, config: BaseConfig, weights: bool) -> list[Provenance]:
    """Where an adapter came from, as the second of the bases."""
    name = config.base if folder != Path(config.base).expanduser() else folder.absolute().name
    item = Provenance(name, "base", licences.on_card(folder), name, note="a peft adapter")
    if weights:
        item = replace(item, sha256=combined([*map(file_sha256, adapter.files_of(folder))]))
    return [licences.stated(config, item)]


def _snapshot(name: str, revision: str | None, *, weights: bool, where: str) -> Path:
    """The Hub's folder in the local cache; an interrupted download goes on where it stopped."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=SMALL_FILES))
        if weights:
            # Older models have only pickled weights, newer ones both. Others still hold the same
            # weights a second time, under names that transformers does not read.
            for kind in ("safetensors", "bin"):
                listed = [file for file in shards(folder) if file.endswith(kind)]
                whole = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[kind]
                patterns = [*(listed or [whole]), f"adapter_model.{kind}"]
                snapshot_download(name, revision=revision, allow_patterns=patterns)
                if any(folder.glob(f"*.{kind}")):
                    break
    except ModelError:
        raise
    except Exception as error:  # whatever the HTTP library beneath raises; it has changed before
        raise ModelError(
            f"the Hub did not give `{name}` ({first_line(error)})",
            where=where,
            remedy="Check the name and the network; an interrupted download resumes. Or fetch the "
            "folder elsewhere and give its path.",
        ) from error
    return folder
