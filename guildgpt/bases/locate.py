"""Where a base lies: fetched if need be, and where it came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from guildgpt.bases import licences
from guildgpt.bases.config import BaseConfig
from guildgpt.bases.converted import converted
from guildgpt.data.provenance import Provenance
from guildgpt.errors import ModelError
from guildgpt.hashes import combined, file_sha256
from guildgpt.model.json_file import json_if_any
from guildgpt.model.locate import refuse_run_folder
from guildgpt.model.provenance import read_provenance
from guildgpt.model.quiet import first_line
from guildgpt.model.starter import GGUF_SHA256, STARTER, starter_gguf

SMALL_FILES = ["*.json", "*.model", "*.txt", "README.md"]


def locate_base(config: BaseConfig, *, weights: bool = True) -> tuple[Path, list[Provenance]]:
    """A local folder in transformers' form, and where it came from; fetches what is missing.

    Without `weights` only the small files of a base on the Hub are fetched.
    """
    name, path = config.base, Path(config.base).expanduser()
    if name == STARTER:
        return converted(starter_gguf(), GGUF_SHA256), [licences.STARTER]
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError("there is no such GGUF file", where=path)
        sha256 = file_sha256(path)
        item = Provenance(path.stem, "base", origin=path.name, sha256=sha256)
        return converted(path, sha256), [licences.stated(config, item)]
    if path.is_dir():
        refuse_run_folder(path)
        folder = path
    elif path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"there is no base `{name}`",
            where="model.base",
            remedy="Name `starter`, `scratch`, a Hub id (owner/name), a folder or a GGUF file.",
        )
    else:
        folder = _snapshot(name, config.revision, weights=weights)
    refuse_adapter(folder)
    if own := read_provenance(folder):
        return folder, own
    if folder == path:
        item = Provenance(path.name, "base", licences.on_card(path), path.name)
    else:
        item = licences.KNOWN.get(name) or Provenance(name, "base", licences.on_card(folder), name)
        commit = folder.name if folder.parent.name == "snapshots" else config.revision or ""
        item = replace(item, revision=commit, sha256=weights_sha256(folder))
    return folder, [licences.stated(config, item)]


def refuse_adapter(folder: Path) -> None:
    """ModelError for a folder with an adapter in it, alone or beside a base: transformers would
    load it into the base in silence, and then refuse to write the whole."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        return
    base = json_if_any(file).get("base_model_name_or_path")
    beside = (folder / "config.json").is_file()
    whole = (
        "Take adapter_config.json and adapter_model.* out of the folder to start from the base "
        "without them; or merge them first"
        if beside
        else "Merge it into its base first"
    )
    raise ModelError(
        "this folder holds an adapter (adapter_config.json)"
        + (" beside a base's files" if beside else ", and no whole model")
        + (f"; it belongs to {base}" if base else ""),
        where=folder,
        remedy=f"{whole}: peft's AutoPeftModelForCausalLM.from_pretrained(…).merge_and_unload()"
        ".save_pretrained(…) writes a folder that can be taken.",
    )


def _snapshot(name: str, revision: str | None, *, weights: bool) -> Path:
    """The Hub's folder in the local cache; an interrupted download goes on where it stopped."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=SMALL_FILES))
        if weights:
            # Older models have only pickled weights, newer ones both.
            for patterns in (["*.safetensors"], ["*.bin"]):
                snapshot_download(name, revision=revision, allow_patterns=patterns)
                if any(folder.glob(patterns[0])):
                    break
    except Exception as error:  # whatever the HTTP library beneath raises; it has changed before
        raise ModelError(
            f"the Hub did not give `{name}` ({first_line(error)})",
            where="model.base",
            remedy="Check the name and the network; an interrupted download resumes. Or fetch the "
            "folder elsewhere and give its path.",
        ) from error
    return folder


def weights_sha256(folder: Path) -> str:
    """The hash of a folder's weights (of the files' hashes, if there are several), or ""."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    return combined([file_sha256(file) for file in files]) if files else ""
