"""replit-code without remote code: the logits of the original, from either layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MptConfig, MptForCausalLM

from guildgpt.bases.replit import is_replit, load_replit
from guildgpt.errors import ModelError

# Logits of the original code, where the development data lies beside the checkout.
SHARED = Path(__file__).parents[2] / ".." / "shared" / "replit"

SHAPE = {"d_model": 64, "n_heads": 4, "n_layers": 3, "max_seq_len": 96, "vocab_size": 512}
CONFIGS = {
    "v1": {
        **SHAPE,
        "model_type": "replit_lm",
        "architectures": ["ReplitLM"],
        "alibi": True,
        "alibi_bias_max": 8,
        "attn_clip_qkv": None,
        "attn_impl": "torch",
        "attn_pdrop": 0,
        "attn_qk_ln": False,
        "mlp_ratio": 4,
        "no_bias": True,
        "prefix_lm": False,
        "softmax_scale": None,
        "logit_scale": None,
        "use_cache": False,
    },
    "mpt": {
        **SHAPE,
        "model_type": "mpt",
        "architectures": ["MPTForCausalLM"],
        "attn_config": {
            "alibi": True,
            "alibi_bias_max": 8,
            "attn_impl": "torch",
            "attn_pdrop": 0,
            "attn_type": "multihead_attention",
            "clip_qkv": None,
            "prefix_lm": False,
            "qk_ln": False,
            "softmax_scale": None,
        },
        "expansion_ratio": 4,
        "learned_pos_emb": True,
        "logit_scale": None,
        "no_bias": True,
        "norm_type": "low_precision_layernorm",
        "eos_token_id": 1,
    },
}
FIRST_LAYOUT = {
    "norm_1": "ln_1",
    "norm_2": "ln_2",
    "norm_f": "ln_f",
    "ffn.up_proj": "mlp.mlp_up",
    "ffn.down_proj": "mlp.mlp_down",
}


def reference() -> MptForCausalLM:
    """A random model built by transformers directly."""
    torch.manual_seed(3)
    model = MptForCausalLM(MptConfig(**SHAPE)).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.2)
    return model


def state(layout: str) -> dict[str, torch.Tensor]:
    """The reference's weights under a layout's names; the tied head is not stored."""
    named = {name: p.detach().clone() for name, p in reference().named_parameters()}
    if layout == "v1":
        for ours, theirs in FIRST_LAYOUT.items():
            named = {name.replace(ours, theirs): tensor for name, tensor in named.items()}
    return named


def write(folder: Path, layout: str = "v1", weights: str = "safetensors", **config: object) -> Path:
    """A folder as the Hub has them, its weights in one of the ways the Hub stores them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIGS[layout], **config}))
    tensors = state(layout)
    if weights == "safetensors":
        save_file(tensors, folder / "model.safetensors")
    elif weights == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    elif weights == "old bin":
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    else:
        name = {"sharded safetensors": "model.safetensors", "sharded bin": "pytorch_model.bin"}
        stem, suffix = name[weights].split(".")
        names = sorted(tensors)
        where = {}
        for number, part in enumerate((names[:7], names[7:]), start=1):
            file = f"{stem}-{number:05}-of-00002.{suffix}"
            save = save_file if suffix == "safetensors" else torch.save
            save({name: tensors[name] for name in part}, folder / file)
            where.update(dict.fromkeys(part, file))
        (folder / f"{name[weights]}.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


IDS = torch.randint(0, 512, (3, 40), generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def logits(model: torch.nn.Module, ids: torch.Tensor = IDS) -> torch.Tensor:
    return model(ids).logits


@pytest.mark.parametrize("layout", ["v1", "mpt"])
def test_logits_are_those_of_the_original_code(layout: str, tmp_path: Path) -> None:
    if (SHARED / layout).is_dir():
        folder = SHARED / layout
        data = load_file(folder / "expected.safetensors")
        ids, expected = data["input_ids"], data["logits"]
    else:
        folder, ids = write(tmp_path, layout), IDS
        expected = logits(reference())
    assert expected.shape == (3, 40, 512)
    torch.testing.assert_close(logits(load_replit(folder), ids), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", ["v1", "mpt"])
@pytest.mark.parametrize(
    "weights", ["safetensors", "sharded safetensors", "bin", "sharded bin", "old bin"]
)
def test_both_layouts_in_every_kind_of_file(layout: str, weights: str, tmp_path: Path) -> None:
    model = load_replit(write(tmp_path, layout, weights))
    assert torch.equal(logits(model), logits(reference()))
    assert model.lm_head.weight is model.transformer.wte.weight


def test_the_weights_outlive_their_file(tmp_path: Path) -> None:
    model = load_replit(write(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert torch.equal(logits(model), logits(reference()))


def test_half_precision(tmp_path: Path) -> None:
    model = load_replit(write(tmp_path), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert (logits(model) - logits(reference())).abs().max() < 1.0


@pytest.mark.parametrize("layout", ["v1", "mpt"])
def test_it_trains_and_plain_transformers_loads_what_it_saves(layout: str, tmp_path: Path) -> None:
    model = load_replit(write(tmp_path / "base", layout)).train()
    before = model(IDS, labels=IDS)
    before.loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    after = logits(model.eval())
    assert not torch.equal(after, before.logits)

    model.save_pretrained(tmp_path / "tuned")
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert not is_replit(config)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "tuned", dtype=torch.float32)
    assert isinstance(loaded, MptForCausalLM)
    assert torch.equal(logits(loaded), after)


def test_with_the_cache_and_without_are_the_same(tmp_path: Path) -> None:
    model = load_replit(write(tmp_path, "mpt"))
    assert model.generation_config.eos_token_id == 1
    first = model(IDS[:, :30], use_cache=True)
    second = model(IDS[:, 30:], past_key_values=first.past_key_values)
    together = torch.cat([first.logits, second.logits], dim=1)
    torch.testing.assert_close(together, logits(model), atol=1e-4, rtol=1e-4)


def test_settings_that_change_the_attention_are_kept(tmp_path: Path) -> None:
    attention = {**CONFIGS["mpt"]["attn_config"], "clip_qkv": 0.5, "softmax_scale": 0.1}
    model = load_replit(write(tmp_path / "a", "mpt", attn_config=attention))
    other = load_replit(write(tmp_path / "b", "v1", attn_clip_qkv=0.5, softmax_scale=0.1))
    assert torch.equal(logits(model), logits(other))
    assert not torch.allclose(logits(model), logits(reference()))


def test_is_replit() -> None:
    assert is_replit(CONFIGS["v1"])
    assert is_replit(CONFIGS["mpt"])
    assert is_replit({"model_type": "mpt", "auto_map": {"AutoConfig": "configuration_mpt.X"}})
    assert not is_replit(MptConfig(**SHAPE, architectures=["MptForCausalLM"]).to_dict())
    assert not is_replit({"model_type": "llama"})
    assert not is_replit({})


@pytest.mark.parametrize(
    ("layout", "changes", "named"),
    [
        ("v1", {"alibi": False}, "alibi"),
        ("v1", {"alibi_bias_max": 16}, "alibi_bias_max"),
        ("v1", {"mlp_ratio": 2}, "expansion_ratio"),
        ("v1", {"attn_qk_ln": True}, "qk_ln"),
        ("v1", {"no_bias": False}, "no_bias"),
        ("v1", {"prefix_lm": True}, "prefix_lm"),
        ("mpt", {"logit_scale": "inv_sqrt_d_model"}, "logit_scale"),
        ("mpt", {"norm_type": "rmsnorm"}, "norm_type"),
        ("mpt", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("mpt", {"attn_config": {"alibi": True, "attn_type": "multiquery_attention"}}, "attn_type"),
    ],
)
def test_what_transformers_would_ignore_is_refused(
    layout: str, changes: dict[str, object], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=named):
        load_replit(write(tmp_path, layout, **changes))


# --- broken folders ------------------------------------------------------------------------------


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors")


def test_a_missing_tensor(tmp_path: Path) -> None:
    tensors = state("v1")
    del tensors["transformer.blocks.1.ln_2.weight"]
    rewrite(write(tmp_path), tensors)
    with pytest.raises(ModelError, match=r"blocks\.1\.norm_2\.weight is missing \(1 such\)"):
        load_replit(tmp_path)


def test_a_foreign_tensor(tmp_path: Path) -> None:
    rewrite(write(tmp_path), {**state("v1"), "transformer.wpe.weight": torch.zeros(96, 64)})
    with pytest.raises(ModelError, match=r"transformer\.wpe\.weight has no place"):
        load_replit(tmp_path)


def test_a_tensor_that_comes_twice(tmp_path: Path) -> None:
    tensors = state("v1")
    rewrite(write(tmp_path), {**tensors, "transformer.norm_f.weight": torch.ones(64)})
    with pytest.raises(
        ModelError, match=r"norm_f\.weight has no place in the model, or came twice"
    ):
        load_replit(tmp_path)


def test_a_tensor_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\(512, 64\), the model's is \(500, 64\)"):
        load_replit(write(tmp_path, vocab_size=500))


@pytest.mark.parametrize("weights", ["safetensors", "bin", "old bin"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_truncated_file(weights: str, kept: float, tmp_path: Path) -> None:
    write(tmp_path, weights=weights)
    (file,) = (path for path in tmp_path.iterdir() if path.name != "config.json")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError, match=f"{file.name}: the weights cannot be read"):
        load_replit(tmp_path)


def test_a_pickle_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    write(tmp_path, weights="bin")
    torch.save({"transformer.wte.weight": Payload()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be read"):
        load_replit(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_no_weights_or_no_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: this file cannot be read"):
        load_replit(tmp_path)
    (write(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights here"):
        load_replit(tmp_path)


def test_another_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'llama' model, not replit-code"):
        load_replit(write(tmp_path, model_type="llama"))
