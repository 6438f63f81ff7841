"""A model folder becomes one GGUF file, which plain llama.cpp loads.

Tensors are read, renamed, quantized and written one at a time, so memory holds about one of them
in float32. The file appears under its own name only when it is whole and on the disk.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The names of tensors and
keys are the `gguf` package's; which pre-tokenizer a name stands for is in llama.cpp's
`src/llama-vocab.cpp`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
from numpy.typing import NDArray

from guildgpt.chat import ChatTemplate
from guildgpt.errors import ModelError

QUANTIZATIONS = ("F32", "F16", "Q8_0", "Q4_1")

Array: TypeAlias = NDArray[Any]
Kind: TypeAlias = gguf.TokenType
Stored: TypeAlias = gguf.GGMLQuantizationType


def write_gguf(folder: Path, out: Path, quantization: str) -> Path:
    """Write the model in `folder` to the file `out` and return `out`.

    `folder` holds config.json, model.safetensors (whole or sharded), tokenizer.json and
    template.json. `quantization` is the type of the weight matrices, one of `QUANTIZATIONS`;
    vectors stay F32, embeddings and the output head are at least Q8_0, and a matrix whose rows do
    not divide into blocks of 32 is F16. Raises ModelError for an architecture, a tokenizer or a
    tensor that llama.cpp would not read as transformers does, and for a disk that fills up.
    """
    if quantization not in QUANTIZATIONS:
        raise ModelError(
            f"there is no quantization called {quantization!r}",
            remedy=f"Choose one of {', '.join(QUANTIZATIONS)}.",
        )
    folder, out = Path(folder), Path(out)
    config = _read_json(folder / "config.json")
    template = ChatTemplate.load(folder)
    weights = _Weights(folder)
    layout = _layout(config, weights, folder / "config.json")
    vocabulary = read_vocabulary(folder / "tokenizer.json", layout.rows)

    unfinished = out.with_name(f".{out.name}.{os.getpid()}.partial")
    writer = gguf.GGUFWriter(unfinished, layout.architecture)
    try:
        layout.describe(writer)
        # No general.name: llama.cpp reads models' quirks into some names.
        writer.add_file_type(getattr(gguf.LlamaFileType, _FILE_TYPES[quantization]))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _describe_ends(writer, vocabulary, template, config, folder)
        vocabulary.describe(writer)
        writer.add_chat_template(template.jinja)
        _write_tensors(writer, layout.tensors, gguf.GGMLQuantizationType[quantization])
        writer.flush()
        for file in writer.fout or []:
            os.fsync(file.fileno())
        writer.close()
        os.replace(unfinished, out)
    except OSError as error:
        raise ModelError(
            f"the file could not be written ({error.strerror or error}); nothing was left behind",
            where=out,
            remedy="Is there room on this disk? Free some, or choose another place.",
        ) from error
    finally:
        # Closing flushes what is buffered, and on a full disk that fails once more.
        with contextlib.suppress(OSError):
            writer.close()
        unfinished.unlink(missing_ok=True)
    return out


_FILE_TYPES = {
    "F32": "ALL_F32",
    "F16": "MOSTLY_F16",
    "Q8_0": "MOSTLY_Q8_0",
    "Q4_1": "MOSTLY_Q4_1",
}


# --- tensors -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor of the file: its name, its shape, and how to read it as float32."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Array]


class _Weights:
    """The tensors of model.safetensors, whole or sharded, by name; nothing is read before asked."""

    def __init__(self, folder: Path):
        from safetensors import SafetensorError, safe_open

        self.folder = folder
        index = folder / "model.safetensors.index.json"
        if index.exists():
            files = sorted(set(_read_json(index)["weight_map"].values()))
        else:
            files = ["model.safetensors"]
        self._where: dict[str, Any] = {}
        for file in files:
            try:
                reader = safe_open(folder / file, framework="pt")
            except FileNotFoundError as error:
                raise ModelError(
                    "the weights are not here",
                    where=folder / file,
                    remedy="A GGUF is made from safetensors; was the folder copied whole?",
                ) from error
            except SafetensorError as error:
                raise ModelError(
                    f"this is not a whole safetensors file ({error})",
                    where=folder / file,
                    remedy="Copy or download it again.",
                ) from error
            self._where.update(dict.fromkeys(reader.keys(), reader))  # type: ignore[no-untyped-call]

    @property
    def names(self) -> set[str]:
        return set(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._where[name].get_slice(name).get_shape())

    def read(self, name: str) -> Array:
        """The tensor in float32, whatever it is stored in (numpy knows no bfloat16)."""
        array: Array = self._where[name].get_tensor(name).float().numpy()
        return array


def _write_tensors(writer: gguf.GGUFWriter, tensors: list[_Tensor], wanted: Stored) -> None:
    """Announce every tensor, then write the header and, one by one, the data."""
    types = [_stored_as(tensor, wanted) for tensor in tensors]
    for tensor, stored in zip(tensors, types, strict=True):
        block, size = gguf.GGML_QUANT_SIZES[stored]
        nbytes = math.prod(tensor.shape) // block * size
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), nbytes, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, stored in zip(tensors, types, strict=True):
        writer.write_tensor_data(gguf.quants.quantize(tensor.read(), stored))


def _stored_as(tensor: _Tensor, wanted: Stored) -> Stored:
    """The type a tensor is written in: vectors exactly, matrices as wanted where that fits."""
    if len(tensor.shape) == 1:
        return Stored.F32
    if wanted == Stored.Q4_1 and tensor.name in ("token_embd.weight", "output.weight"):
        wanted = Stored.Q8_0  # every answer goes through these: four bits would show
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if tensor.shape[-1] % block == 0 else Stored.F16


# --- architectures -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    """A model as llama.cpp knows it: its architecture, its dimensions, its tensors in order."""

    architecture: str
    rows: int  # of the embedding: the vocabulary must come out exactly as long
    describe: Callable[[gguf.GGUFWriter], None]
    tensors: list[_Tensor]


def _layout(config: dict[str, Any], weights: _Weights, where: Path) -> _Layout:
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in _ARCHITECTURES:
        raise ModelError(
            f"the architecture {architecture} has no GGUF here",
            where=where,
            remedy=f"Supported are {' and '.join(_ARCHITECTURES)}.",
        )
    build, needed = _ARCHITECTURES[architecture]
    if missing := sorted(needed - config.keys()):
        raise ModelError(f"{', '.join(missing)} is not given", where=where)
    return build(config, weights)


def _llama(config: dict[str, Any], weights: _Weights) -> _Layout:
    """Llama, SmolLM, SmolLM2: rotary positions, grouped queries, gated feed-forward."""
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"hidden_act is {config['hidden_act']}; llama.cpp's Llama has silu")
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or config["hidden_size"] // heads)
    rope = _rope(config)

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_vocab_size(config["vocab_size"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_dimension_count(head_dim)
        writer.add_rope_freq_base(rope["rope_theta"])
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])

    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    layer_names = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    biased = [n for n in layer_names if n.startswith("self_attn") and config.get("attention_bias")]
    biased += [n for n in layer_names if n.startswith("mlp") and config.get("mlp_bias")]
    for layer in range(config["num_hidden_layers"]):
        for ours, theirs in layer_names.items():
            names[f"model.layers.{layer}.{ours}.weight"] = f"blk.{layer}.{theirs}.weight"
        for ours in biased:
            names[f"model.layers.{layer}.{ours}.bias"] = f"blk.{layer}.{layer_names[ours]}.bias"

    tensors = _rename(names, weights, tied=bool(config.get("tie_word_embeddings")))
    for index, tensor in enumerate(tensors):
        for part, count in (("attn_q", heads), ("attn_k", kv_heads)):
            if f".{part}." in tensor.name:
                tensors[index] = _interleaved(tensor, count)
    if rope["rope_type"] == "llama3":
        factors = _llama3_rope_factors(rope, head_dim)
        tensors.append(_Tensor("rope_freqs.weight", factors.shape, lambda: factors))
    return _Layout("llama", _rows(weights, "model.embed_tokens.weight"), describe, tensors)


def _mpt(config: dict[str, Any], weights: _Weights) -> _Layout:
    """MPT and replit-code: ALiBi instead of positions, layer norms without bias, tied head."""
    attention = config.get("attn_config") or {}
    width, heads = int(config["d_model"]), int(config["n_heads"])
    if attention.get("softmax_scale") not in (None, (width / heads) ** -0.5):
        raise ModelError("softmax_scale is not 1/sqrt(head size), which llama.cpp assumes")

    def describe(writer: gguf.GGUFWriter) -> None:
        writer.add_context_length(config["max_seq_len"])
        writer.add_embedding_length(width)
        writer.add_block_count(config["n_layers"])
        writer.add_feed_forward_length(4 * width)
        writer.add_head_count(heads)
        writer.add_layer_norm_eps(config.get("layer_norm_epsilon", 1e-5))
        writer.add_max_alibi_bias(8.0)  # transformers' MPT knows no other, whatever the config says
        if attention.get("clip_qkv"):
            writer.add_clamp_kqv(attention["clip_qkv"])

    names = {
        "transformer.wte.weight": "token_embd.weight",
        "transformer.norm_f.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    layer_names = {
        "norm_1": "attn_norm",
        "attn.Wqkv": "attn_qkv",
        "attn.out_proj": "attn_output",
        "norm_2": "ffn_norm",
        "ffn.up_proj": "ffn_up",
        "ffn.down_proj": "ffn_down",
    }
    for layer in range(config["n_layers"]):
        for ours, theirs in layer_names.items():
            names[f"transformer.blocks.{layer}.{ours}.weight"] = f"blk.{layer}.{theirs}.weight"
    tensors = _rename(names, weights, tied=bool(config.get("tie_word_embeddings", True)))
    return _Layout("mpt", _rows(weights, "transformer.wte.weight"), describe, tensors)


_ARCHITECTURES = {
    "LlamaForCausalLM": (
        _llama,
        {
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "num_attention_heads",
            "num_hidden_layers",
            "rms_norm_eps",
            "vocab_size",
        },
    ),
    "MptForCausalLM": (_mpt, {"d_model", "max_seq_len", "n_heads", "n_layers"}),
}


def _rows(weights: _Weights, embedding: str) -> int:
    return weights.shape(embedding)[0]


def _rename(names: dict[str, str], weights: _Weights, *, tied: bool) -> list[_Tensor]:
    """Every tensor under its new name. One too few or too many is an error, not a guess."""
    ignored = {"lm_head.weight"} if tied else set()  # llama.cpp falls back on the embedding
    wanted = names.keys() - ignored
    for found, what in (
        (wanted - weights.names, "is missing"),
        (weights.names - wanted - ignored, "has no place in a GGUF"),
    ):
        if found:
            raise ModelError(
                f"the tensor {min(found)} {what} ({len(found)} such)",
                where=weights.folder,
                remedy="Is this a whole model of its architecture, its adapters merged?",
            )
    return [
        _Tensor(theirs, weights.shape(ours), partial(weights.read, ours))
        for ours, theirs in names.items()
        if ours in wanted
    ]


def _interleaved(tensor: _Tensor, heads: int) -> _Tensor:
    """Reorder the rows of a query or key projection for llama.cpp's rotary embedding.

    transformers turns the coordinates i and i + d/2 of a head together, llama.cpp 2i and 2i + 1.
    """

    def read() -> Array:
        array = tensor.read()
        halves = array.reshape(heads, 2, -1, *array.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)

    return _Tensor(tensor.name, tensor.shape, read)


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings, as transformers 5 writes them or as earlier versions did."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    if rope["rope_type"] not in ("default", "linear", "llama3"):
        raise ModelError(
            f"rotary scaling of the type {rope['rope_type']} has no GGUF here",
            remedy="Supported are default, linear and llama3.",
        )
    return rope


def _llama3_rope_factors(rope: dict[str, Any], head_dim: int) -> Array:
    """What each rotary frequency is divided by in Llama 3.1 and later, shape `(head_dim / 2,)`.

    Wavelengths up to `original / high_freq_factor` stay, those from `original / low_freq_factor`
    are stretched by `factor`, and between the two the frequency is interpolated.
    """
    frequency = rope["rope_theta"] ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * frequency / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    factors: Array = (1.0 / ((1.0 - kept) / rope["factor"] + kept)).astype(np.float32)
    return factors


# --- the tokenizer -------------------------------------------------------------------------------


@dataclass(slots=True)
class Vocabulary:
    """A tokenizer as llama.cpp knows it; `tokens`, `types` and `scores` go by token id."""

    model: str  # "gpt2" is byte-level BPE, "t5" is Unigram
    tokens: list[str]
    types: list[Kind]
    pre: str = "default"
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    unknown: int | None = None
    space_prefix: bool = False
    merge_spaces: bool = False
    charsmap: bytes = b""

    def describe(self, writer: gguf.GGUFWriter) -> None:
        """Write everything but the ids of the special tokens."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types([int(kind) for kind in self.types])
        writer.add_token_merges(self.merges)
        writer.add_token_scores(self.scores)
        writer.add_add_space_prefix(self.space_prefix)
        writer.add_remove_extra_whitespaces(self.merge_spaces)
        writer.add_precompiled_charsmap(self.charsmap)
        # `Tokenizer.encode` adds neither; llama.cpp would, for some models, unless told.
        writer.add_add_bos_token(False)
        writer.add_add_eos_token(False)


def read_vocabulary(path: Path, rows: int) -> Vocabulary:
    """Read a tokenizer.json for a model with `rows` embedding rows; the rest is unused tokens."""
    spec = _read_json(path)
    if "vocab" not in spec.get("model", {}):
        raise ModelError("this is not a tokenizer.json", where=path)
    model = spec["model"]
    added = {token["id"]: token["content"] for token in spec.get("added_tokens") or []}
    if model["type"] == "Unigram":
        pieces = {index: piece for index, (piece, _) in enumerate(model["vocab"])}
    elif model["type"] == "BPE" and _find(spec, "ByteLevel"):
        pieces = {index: piece for piece, index in model["vocab"].items()}
    else:
        raise ModelError(
            f"this {model['type']} tokenizer has no GGUF here",
            where=path,
            remedy="Supported are byte-level BPE and Unigram.",
        )
    size = max([*pieces, *added]) + 1
    if size > rows:
        raise ModelError(
            f"the tokenizer has {size} tokens, the model {rows} embedding rows",
            where=path,
            remedy="Resize the model's embeddings to the tokenizer, and train the new rows.",
        )
    texts = {**pieces, **added}
    tokens = [texts.get(index, f"[PAD{index}]") for index in range(rows)]
    types = [Kind.NORMAL if index in texts else Kind.UNUSED for index in range(rows)]
    for index, text in added.items():
        # The rule of `FileTokenizer`: what is not bare whitespace is a control token.
        types[index] = Kind.CONTROL if text.strip() else Kind.USER_DEFINED
    if model["type"] == "Unigram":
        return _unigram(spec, tokens, types)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return Vocabulary("gpt2", tokens, types, pre_tokenizer_name(spec), merges)


def _unigram(spec: dict[str, Any], tokens: list[str], types: list[Kind]) -> Vocabulary:
    """The Unigram model of a tokenizer.json; its normalizer becomes llama.cpp's three flags."""
    model = spec["model"]
    scores = [float(score) for _, score in model["vocab"]]
    # llama.cpp puts unused tokens into its lattice: the padding must never be worth choosing.
    scores += [-1e6] * (len(tokens) - len(scores))
    unknown = model.get("unk_id")
    if unknown is not None:
        types[unknown] = Kind.UNKNOWN
    if model.get("byte_fallback"):
        for index, token in enumerate(tokens):
            if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
                types[index] = Kind.BYTE
    charsmaps = [part["precompiled_charsmap"] for part in _find(spec, "Precompiled")]
    metaspace = _find(spec.get("pre_tokenizer"), "Metaspace")
    replaced = [part["pattern"].get("Regex") for part in _find(spec.get("normalizer"), "Replace")]
    return Vocabulary(
        "t5",
        tokens,
        types,
        scores=scores,
        unknown=unknown,
        space_prefix=bool(_find(spec.get("normalizer"), "Prepend"))
        or any(part.get("prepend_scheme", "always") != "never" for part in metaspace),
        merge_spaces=" {2,}" in replaced,
        charsmap=base64.b64decode(charsmaps[0]) if charsmaps and charsmaps[0] else b"",
    )


# llama.cpp has the expressions built in and chooses them by name.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_EXPRESSIONS = {
    (_CONTRACTIONS + r"\p{N}{1,3}" + _REST, True): "llama-bpe",
    (_CONTRACTIONS + r"\p{N}{1,3}" + _REST, False): "dbrx",
    (_CONTRACTIONS + r"\p{N}" + _REST, False): "qwen2",
}


def pre_tokenizer_name(spec: dict[str, Any]) -> str:
    """llama.cpp's name for what a byte-level tokenizer.json does before its merges.

    A pre-tokenizer without a name there counts as GPT-2's, with a warning: ids that this program
    posts stay right, but a text that llama.cpp splits itself may come out otherwise.
    """
    steps = spec.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    whole_words = bool(spec["model"].get("ignore_merges"))  # a word that is a token stays whole
    prefix = any(step.get("add_prefix_space") for step in steps)
    match [step.get("type") for step in steps]:
        case ["ByteLevel"] if steps[0].get("use_regex", True) and not (whole_words or prefix):
            return "gpt-2"
        case ["Digits", "ByteLevel"] if (
            steps[0].get("individual_digits")
            and steps[1].get("use_regex", True)
            and not (whole_words or prefix)
        ):
            return "smollm"
        case ["Split", "ByteLevel"] if not (steps[1].get("use_regex", True) or prefix):
            name = _EXPRESSIONS.get((steps[0]["pattern"].get("Regex"), whole_words))
            if name and steps[0].get("behavior") == "Isolated":
                return name
    warnings.warn(
        "llama.cpp has no name for this tokenizer's pre-tokenizer; the GGUF says gpt-2",
        stacklevel=2,
    )
    return "gpt-2"


def _find(spec: Any, kind: str) -> list[dict[str, Any]]:
    """Every part of a (nested) tokenizer.json of one type, in order."""

    def walk(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict):
            if part.get("type") == kind:
                yield part
            for key in part.keys() - {"vocab", "merges", "added_tokens"}:
                yield from walk(part[key])
        elif isinstance(part, list):
            for item in part:
                yield from walk(item)

    return list(walk(spec))


def _describe_ends(
    writer: gguf.GGUFWriter,
    vocabulary: Vocabulary,
    template: ChatTemplate,
    config: dict[str, Any],
    folder: Path,
) -> None:
    """Write the ids of the special tokens; what ends a turn ends the generation."""
    missing = [token for token in template.control_tokens if token not in vocabulary.tokens]
    if missing:
        raise ModelError(
            f"the tokenizer has no {' and no '.join(missing)}, which the chat template needs",
            where=folder / "tokenizer.json",
            remedy="Fine-tune the model with `guildgpt train` first: that adds the chat tokens.",
        )
    end = vocabulary.tokens.index(template.end)
    for token in template.control_tokens:
        vocabulary.types[vocabulary.tokens.index(token)] = Kind.CONTROL
    bos, pad = (config.get(f"{name}_token_id") for name in ("bos", "pad"))
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    # Left out, these would be whatever llama.cpp's default for the tokenizer's model is.
    writer.add_bos_token_id(end if bos is None else bos)
    writer.add_pad_token_id(end if pad is None else pad)
    unknown = config.get("unk_token_id") if vocabulary.unknown is None else vocabulary.unknown
    if unknown is not None:
        writer.add_unk_token_id(unknown)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"this file cannot be read ({error})",
            where=path,
            remedy="A model folder holds it; was it copied whole?",
        ) from error
    if not isinstance(value, dict):
        raise ModelError("this is not a JSON object", where=path)
    return value
