"""Bases: a causal language model and its tokenizer from wherever a recipe finds them.

Whatever the origin, what comes back is the same: a transformers model in float32, a tokenizer.json
that holds the template's control tokens, and a provenance.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from guildgpt.bases import known
from guildgpt.bases.declared import with_declared_tokens
from guildgpt.bases.replit import is_replit, load_replit
from guildgpt.chat import ChatTemplate, FileTokenizer
from guildgpt.data.lines import file_sha256
from guildgpt.data.provenance import UNKNOWN, Provenance, spdx
from guildgpt.errors import EngineError, ModelError
from guildgpt.model.config import BaseConfig
from guildgpt.model.gguf_file import check_whole, read_head
from guildgpt.model.locate import refuse_run_folder
from guildgpt.paths import cache_dir

SMALL_FILES = ["*.json", "*.model", "*.txt", "README.md"]
SPARE = ("<|pad|>", "<pad>", "<|endoftext|>", "<|end_of_text|>", "[PAD]", "</s>")
PROVENANCE_FILE = "provenance.json"
CONVERSION = 2  # raised when GGUF files are converted otherwise than before


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer that holds the template's control tokens, and a padding token besides."""

    json: str  # the text of tokenizer.json
    template: ChatTemplate
    pad_token: str
    new_tokens: list[int]  # ids that were added, whose rows nobody has trained

    @cached_property
    def tokenizer(self) -> FileTokenizer:
        """The tokenizer itself."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "tokenizer.json"
            path.write_text(self.json, encoding="utf-8")
            return FileTokenizer(path)

    @property
    def eos_id(self) -> int:
        """The end-of-turn token's id."""
        return self.template.eos_id(self.tokenizer)

    @property
    def control_ids(self) -> list[int]:
        """The ids of the template's control tokens."""
        ids = (self.tokenizer.token_id(token) for token in self.template.control_tokens)
        return [token for token in ids if token is not None]

    @property
    def pad_id(self) -> int:
        """The padding token's id; between documents it stands as their separator."""
        pad = self.tokenizer.token_id(self.pad_token)
        assert pad is not None
        return pad


@dataclass(frozen=True)
class Base:
    """A model ready to be trained, with its chat tokens and its past."""

    model: Any  # a transformers causal language model on the CPU, float32
    chat: ChatTokenizer
    provenance: list[Provenance]  # the base, then what it was trained on, as far as known


def load_base(config: BaseConfig, *, documents: Sequence[str] = ()) -> Base:
    """The base a recipe names, with chat tokens. `documents` are the texts a scratch base learns
    its tokenizer from."""
    if config.base == "scratch":
        from guildgpt.bases.scratch import make_scratch

        model, tokenizer_json = make_scratch(config.scratch, documents, config.context)
        provenance = [scratch_provenance()]
    else:
        folder, provenance = locate_base(config)
        model, tokenizer_json = read_model(folder), read_tokenizer(folder)
    chat = add_chat_tokens(tokenizer_json, ChatTemplate(system=config.system))
    _check_context(model.config, config)
    return Base(model, _make_room(model, chat), provenance)


def load_tokenizer(
    config: BaseConfig, *, documents: Sequence[str] = ()
) -> tuple[ChatTokenizer, list[Provenance]]:
    """The base's tokenizer and provenance alone, without fetching or reading its weights."""
    if config.base == "scratch":
        from guildgpt.bases.scratch import train_tokenizer

        text = train_tokenizer(documents, config.scratch.vocabulary).to_str()
        provenance = [scratch_provenance()]
    else:
        folder, provenance = locate_base(config, weights=False)
        chat = add_chat_tokens(read_tokenizer(folder), ChatTemplate(system=config.system))
        return _with_rowless(chat, stated_rows(folder)), provenance
    return add_chat_tokens(text, ChatTemplate(system=config.system)), provenance


def scratch_provenance() -> Provenance:
    """A base from scratch brings no text of anyone's."""
    return Provenance("scratch", "base", "own", "made by this run", written_by="people")


def locate_base(config: BaseConfig, *, weights: bool = True) -> tuple[Path, list[Provenance]]:
    """A local folder in transformers' form, and where it came from; fetches what is missing.

    Without `weights` only the small files of a base on the Hub are fetched.
    """
    name, path = config.base, Path(config.base).expanduser()
    if name == "starter":
        from guildgpt.bases.starter import STARTER, starter_gguf

        return converted(starter_gguf(), STARTER.gguf_sha256), [known.starter()]
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError("there is no such GGUF file", where=path)
        sha256 = file_sha256(path)
        item = _stated(config, Provenance(path.stem, "base", origin=path.name, sha256=sha256))
        return converted(path, sha256), [item]
    if path.is_dir():
        refuse_run_folder(path)
        refuse_adapter(path)
        return path, _folder_provenance(path, config)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"there is no base `{name}`",
            where="model.base",
            remedy="Name `starter`, `scratch`, a Hub id (owner/name), a folder or a GGUF file.",
        )
    folder = _snapshot(name, config.revision, weights=weights)
    refuse_adapter(folder)
    if own := _carried(folder):
        return folder, own
    fact = known.base(name) or Provenance(name, "base", _card_licence(folder), name)
    commit = folder.name if folder.parent.name == "snapshots" else config.revision or ""
    item = Provenance(**{**fact.as_dict(), "revision": commit, "sha256": weights_sha256(folder)})
    return folder, [_stated(config, item)]


def refuse_adapter(folder: Path) -> None:
    """ModelError for a folder with an adapter in it, alone or beside a base: transformers would
    load it into the base in silence, and then refuse to write the whole."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        return
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        base = None
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


def read_model(folder: Path) -> Any:
    """A folder's causal language model in float32."""
    config_file = folder / "config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"this is not a model folder: config.json cannot be read ({error})", where=folder
        ) from error
    if is_replit(config):
        return load_replit(folder)
    try:
        with quiet():
            model, loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                config=_without_dropout(folder),
                dtype=torch.float32,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        raise ModelError(
            f"transformers cannot load this model ({_first_line(error)})",
            where=folder,
            remedy="It takes causal language models that need no remote code.",
        ) from error
    if missing := sorted(loaded["missing_keys"]):  # transformers draws these at random
        raise ModelError(
            f"the tensor {missing[0]} is missing ({len(missing)} such)",
            where=folder,
            remedy="Were all the files downloaded, and is this a causal language model?",
        )
    return model


def _without_dropout(folder: Path) -> Any:
    """The folder's configuration; nothing is dropped at random, so that a resumed run is equal."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    for key, value in config.to_dict().items():
        if "drop" in key and isinstance(value, float):
            setattr(config, key, 0.0)
    return config


def converted(gguf: Path, sha256: str) -> Path:
    """The GGUF as a folder of safetensors in the cache, converted at the first call.

    Reading a GGUF takes transformers many seconds, reading the converted folder less than one.
    """
    folder = cache_dir() / "converted" / f"{sha256[:16]}-v{CONVERSION}"
    if (folder / "config.json").is_file():
        return folder
    _check_whole(gguf)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, quiet():
        work = Path(scratch) / "model"
        try:
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        except Exception as error:
            raise ModelError(
                f"transformers cannot read this GGUF ({_first_line(error)})", where=gguf
            ) from error
        # transformers refuses to save what it still takes for a quantized model.
        del model.config.quantization_config
        model.hf_quantizer = None
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        _mend_pre_tokenizer(gguf, work / "tokenizer.json")
        if not folder.exists():
            work.rename(folder)
    return folder


def _check_whole(gguf: Path) -> None:
    """ModelError for a GGUF that ends early, of which transformers says something about shapes."""
    try:
        check_whole(gguf)
    except EngineError as error:
        raise ModelError(error.what, where=error.where, remedy=error.remedy) from error


def _mend_pre_tokenizer(gguf: Path, tokenizer_json: Path) -> None:
    """Split texts as the GGUF says: transformers takes every byte-level tokenizer for GPT-2's,
    which gives other ids where several spaces stand before a digit."""
    if read_head(gguf).metadata.get("tokenizer.ggml.pre") != "smollm":
        return
    digits = {"type": "Digits", "individual_digits": True}
    spec = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, spec["pre_tokenizer"]]}
    tokenizer_json.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")


def read_tokenizer(folder: Path) -> str:
    """The text of the folder's tokenizer.json, made from whatever form it has."""
    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            text = file.read_text(encoding="utf-8")
            Backend.from_str(text)
        except Exception as error:  # tokenizers raises a bare Exception
            raise ModelError(
                f"this is not a tokenizer.json ({_first_line(error)})",
                where=file,
                remedy="Was it copied whole?",
            ) from error
        return with_declared_tokens(text, folder)
    if (folder / "spiece.model").is_file():
        from guildgpt.bases.spiece import convert

        return with_declared_tokens(str(convert(folder / "spiece.model").to_str()), folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:
        raise ModelError(
            "this base has no tokenizer that can be read "
            f"(tokenizer.json, spiece.model; {_first_line(error)})",
            where=folder,
        ) from error


def add_chat_tokens(tokenizer_json: str, template: ChatTemplate) -> ChatTokenizer:
    """Give a tokenizer whatever control tokens the template needs and it lacks.

    The padding token is never the end of turn: a spare control token is taken, or one is added.
    """
    backend = Backend.from_str(tokenizer_json)
    backend.no_padding()
    backend.no_truncation()
    pad = next((token for token in SPARE if backend.token_to_id(token) is not None), SPARE[0])
    wanted = [*template.control_tokens, pad]
    new = [token for token in wanted if backend.token_to_id(token) is None]
    # A token that is already there may be known as ordinary text; mark all three as special.
    backend.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in wanted])
    new_ids = [int(backend.token_to_id(token) or 0) for token in new]
    return ChatTokenizer(backend.to_str(), template, pad, new_ids)


def context_limit(shape: Any) -> int | None:
    """The most tokens that a model's configuration says it holds, or None."""
    limit = getattr(shape, "max_position_embeddings", None) or getattr(shape, "max_seq_len", None)
    return int(limit) if limit else None


def _check_context(shape: Any, config: BaseConfig) -> None:
    limit = context_limit(shape)
    if limit and config.context > limit:
        raise ModelError(
            f"{config.base} holds {limit} tokens, and model.context asks for {config.context}",
            where="model.context",
            remedy=f"Set it to {limit} or less.",
        )


def _make_room(model: Any, chat: ChatTokenizer) -> ChatTokenizer:
    """Rows for new tokens, and the model's configuration true to its tokenizer. Gives the tokenizer
    that knows of every row that is new."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    if len(chat.tokenizer) > rows:
        with quiet():
            model.resize_token_embeddings(len(chat.tokenizer), mean_resizing=False)
    chat = _with_rowless(chat, rows)
    _start_rows(model, chat.new_tokens)
    # How others sampled is none of ours, and transformers refuses to write some of what it reads.
    model.generation_config = GenerationConfig()
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = None  # the template writes none
        settings.eos_token_id = chat.eos_id
        settings.pad_token_id = chat.pad_id
    return chat


def _with_rowless(chat: ChatTokenizer, rows: int | None) -> ChatTokenizer:
    """The tokenizer with every token for new that has no row in an embedding of so many: a token
    that the tokenizer's file has need not be one that the model ever saw."""
    if rows is None or rows >= len(chat.tokenizer):
        return chat
    rowless = range(rows, len(chat.tokenizer))
    return replace(chat, new_tokens=sorted({*chat.new_tokens, *rowless}))


def stated_rows(folder: Path) -> int | None:
    """How many rows a folder's config.json says that its embedding has."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        rows = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    except (OSError, ValueError, AttributeError):
        return None
    return rows if isinstance(rows, int) else None


def _start_rows(model: Any, ids: list[int]) -> None:
    """Set untrained rows to the mean of the others: a token as unremarkable as can be, so that
    neither the first softmax nor the first gradient is dominated by it."""
    if not ids:
        return
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    tables = {id(module.weight): module.weight for module in modules}
    with torch.no_grad():
        for table in tables.values():
            old = torch.ones(len(table), dtype=torch.bool)
            old[ids] = False
            known = old.nonzero()[:, 0].tolist()
            mean = table[old].mean(0)
            for place, row in enumerate(ids):
                # A small fixed difference keeps two new tokens from being one.
                other = table[known[(place + 1) % len(known)]]
                table[row] = mean + 0.01 * (place % 3 + 1) * other


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
            f"the Hub did not give `{name}` ({_first_line(error)})",
            where="model.base",
            remedy="Check the name and the network; an interrupted download resumes. Or fetch the "
            "folder elsewhere and give its path.",
        ) from error
    return folder


def _folder_provenance(folder: Path, config: BaseConfig) -> list[Provenance]:
    """What a model folder of ours knows of itself, or what the recipe states."""
    item = Provenance(folder.name, "base", _card_licence(folder), folder.name)
    return _carried(folder) or [_stated(config, item)]


def _carried(folder: Path) -> list[Provenance]:
    """What a model folder of ours knows of itself; nothing for others."""
    try:
        record = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
        return [Provenance.from_dict(item) for item in record["sources"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _stated(config: BaseConfig, item: Provenance) -> Provenance:
    """What the recipe says of the base goes before what is known of it."""
    said = {"licence": config.licence and spdx(config.licence), "written_by": config.written_by}
    return Provenance(**{**item.as_dict(), **{k: v for k, v in said.items() if v}})


def _card_licence(folder: Path) -> str:
    """The licence that a model card's header states, or "unknown"."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return UNKNOWN
    header = text.split("---")[1] if text.startswith("---") else ""
    lines = [line for line in header.splitlines() if line.startswith(("license:", "licence:"))]
    stated = [line.partition(":")[2].strip().strip("\"'") for line in lines]
    return spdx(stated[0]) if stated and stated[0] else UNKNOWN


def weights_sha256(folder: Path) -> str:
    """The hash of a folder's weights (of the files' hashes, if there are several), or ""."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    hashes = [file_sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else _sha256("".join(hashes)) if hashes else ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars, notes and warnings from the person's terminal."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        # The bar of the GGUF reader knows no switch; it draws on standard error.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    """What an error says, in short; its kind where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
