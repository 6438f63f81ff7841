"""`guildgpt export --adapter`: real peft puts the adapter on the base, and gives our logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bases.families import BY_NAME, published_base
from bases.folders import bare_tokenizer, chat_tokenizer, config, logits, write_base
from commands import answered, refused
from network.tiny import gpt_neox, llama, mpt, with_lora
from peft import AutoPeftModelForCausalLM, PeftModel
from pipeline.runs import TUNE, train
from safetensors.torch import load_file
from tiny import write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from guildgpt.bases.base import load_base
from guildgpt.chat import ChatTemplate, Message
from guildgpt.errors import GuildError, ModelError
from guildgpt.model.lineage import read_lineage
from guildgpt.sharing.adapter import Written, write_adapter
from guildgpt.sharing.origin import origin_of

from .models import tuned


def gpt2(vocab_size: int) -> Any:
    shape = GPT2Config(vocab_size=vocab_size, n_embd=64, n_layer=2, n_head=4, n_positions=128)
    torch.manual_seed(0)
    return GPT2LMHeadModel(shape).eval()


def exported(model: Path, base: str | None = None) -> Written:
    return write_adapter(model, origin_of(model, base), card=lambda written: "# x\n")


def by_peft(adapter: Path, base: Path, rows: int) -> torch.Tensor:
    """The logits of the two put together as peft's documents say."""
    start = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if rows > len(start.get_input_embeddings().weight):
        start.resize_token_embeddings(rows)
    return logits(PeftModel.from_pretrained(start, str(adapter)))


def ours(model: Path) -> torch.Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32))


@pytest.mark.parametrize("tokens", ["there", "new", "new, with room"])
@pytest.mark.parametrize("kind", [llama, gpt_neox, gpt2, mpt], ids=lambda kind: kind.__name__)
def test_peft_gives_our_logits(tmp_path: Path, kind: Any, tokens: str) -> None:
    """Tied and untied heads, linear layers and GPT-2's; chat tokens that the base knows, that it
    has no rows for, and that find rows which nobody trained."""
    base = tmp_path / "base"
    text = chat_tokenizer() if tokens == "there" else bare_tokenizer()
    write_base(base, text, rows=320 if tokens == "new, with room" else None, kind=kind)
    model = tuned(tmp_path / "model", base)
    written = exported(model)
    assert written.folder == model / "adapter"
    assert written.rank == 4
    expected = ours(model)
    rows = len(AutoModelForCausalLM.from_pretrained(model).get_input_embeddings().weight)
    assert torch.allclose(by_peft(written.folder, base, rows), expected, atol=2e-5)
    found = AutoPeftModelForCausalLM.from_pretrained(written.folder, dtype=torch.float32)
    assert torch.allclose(logits(found), expected, atol=2e-5)
    plain = logits(AutoModelForCausalLM.from_pretrained(base))
    assert not torch.allclose(expected[..., : plain.shape[-1]], plain, atol=0.1)


def test_the_chat_tokens_rows_travel(tmp_path: Path) -> None:
    base = tmp_path / "base"
    write_base(base, bare_tokenizer())
    model = tuned(tmp_path / "model", base)
    written = exported(model)
    assert (written.rows, written.new_rows) == (3, 3)
    tensors = load_file(written.folder / "adapter_model.safetensors")
    (rows,) = (tensor for name, tensor in tensors.items() if "trainable_tokens" in name)
    table = load_file(model / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(rows, table[300:])
    assert (written.folder / "tokenizer.json").read_text() == (model / "tokenizer.json").read_text()
    # A run of ours that begins with it has these rows, too, and none to train.
    again = load_base(config(written.folder, adapter="merge"))
    assert again.chat.new_tokens == []
    assert again.chat.template == load_base(config(model)).chat.template
    assert torch.allclose(logits(again.model), ours(model), atol=2e-5)


@pytest.mark.parametrize("name", ["llama-3.2", "gemma-3", "mistral-nemo"])
def test_a_template_of_the_bases_own_travels(tmp_path: Path, name: str) -> None:
    """With the adapter, which asks alike in transformers, and is gone on with under it."""
    base = published_base(tmp_path / "base", BY_NAME[name])
    model = tuned(tmp_path / "model", base)
    adapter = exported(model).folder
    template = ChatTemplate.load(model)
    assert template.published
    assert ChatTemplate.load(adapter) == template
    again = load_base(config(adapter, adapter="merge")).chat
    assert again.template == template
    assert again.notices == ()
    ids = template.prompt([Message("user", "What is TLS?")], again.tokenizer)
    peer = AutoTokenizer.from_pretrained(adapter).apply_chat_template(
        [{"role": "user", "content": "What is TLS?"}], add_generation_prompt=True, return_dict=False
    )
    assert ids == peer


@pytest.mark.parametrize("layers", [None, 1])
def test_several_stages_are_one_adapter(tmp_path: Path, layers: int | None) -> None:
    """A model trained from a model folder of ours: its adapter goes on the first base of all."""
    base = tmp_path / "base"
    write_base(base, bare_tokenizer())
    first = tuned(tmp_path / "first", base)
    second = tuned(tmp_path / "second", first, rank=3, stage="dpo", layers=layers)
    origin = origin_of(second)
    assert (origin.name, origin.rank) == (str(base), 7)
    written = exported(second)
    assert written.rank == 7
    assert torch.allclose(by_peft(written.folder, base, 303), ours(second), atol=2e-5)
    # On the model before it, it is the last stage alone.
    alone = exported(second, str(first))
    assert (alone.rank, alone.rows) == (3, 0)
    assert torch.allclose(by_peft(alone.folder, first, 303), ours(second), atol=2e-5)
    targets = json.loads((alone.folder / "adapter_config.json").read_text())["target_modules"]
    assert all("layers.1." in name for name in targets) == bool(layers)


def test_a_base_that_had_an_adapter_of_its_own(tmp_path: Path) -> None:
    """Merged before training: both together are one on the base of the two."""
    base, other = tmp_path / "base", tmp_path / "other"
    write_base(base, chat_tokenizer())
    start = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with_lora(start, r=3).save_pretrained(other)
    model = tuned(tmp_path / "model", other, adapter="merge")
    origin = origin_of(model)
    assert (origin.name, origin.rank) == (str(base), 0)
    written = exported(model)
    assert written.rank == 7
    assert torch.allclose(by_peft(written.folder, base, 0), ours(model), atol=2e-5)


def test_stages_that_came_later_do_not_count(tmp_path: Path) -> None:
    """A recipe is whole in each of its model folders, the first stage's too."""
    base = tmp_path / "base"
    write_base(base, chat_tokenizer())
    model = tuned(tmp_path / "run" / "sft" / "model", base)
    record = json.loads((model / "provenance.json").read_text())
    record["recipe"] |= {"stages": ["sft", "ppo"], "ppo": {"lora": {"rank": 16}}}
    (model / "provenance.json").write_text(json.dumps(record))
    assert origin_of(model).rank == 4
    moved = model.rename(tmp_path / "moved")
    assert origin_of(moved).rank == 20
    assert exported(moved).rank == 4


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_a_base_that_was_rounded_for_training(tmp_path: Path, stored: Any) -> None:
    """On a GPU the frozen base is in bfloat16, and large models are saved so."""
    base = tmp_path / "base"
    write_base(base, chat_tokenizer())
    model = tuned(tmp_path / "model", base, trained_in=torch.bfloat16, dtype=stored)
    written = exported(model)
    assert written.rank == 4
    if stored == "float32":  # else both have the same rounded rows, and nobody can tell
        assert written.dtype == "bfloat16"
    rounded = getattr(torch, written.dtype)
    start = AutoModelForCausalLM.from_pretrained(base, dtype=rounded).float()
    found = logits(PeftModel.from_pretrained(start, str(written.folder)))
    scale = float(ours(model).std())
    assert float((found - ours(model)).std()) < (1e-5 if stored == "float32" else 0.02) * scale


def test_stages_that_were_rounded_one_after_another(tmp_path: Path) -> None:
    """Each begins with the weights of the one before, in bfloat16: what that took is no adapter's,
    and nothing else is lost. On the stage before it, the last is exact."""
    base = tmp_path / "base"
    write_base(base, chat_tokenizer())
    first = tuned(tmp_path / "first", base, trained_in=torch.bfloat16)
    second = tuned(tmp_path / "second", first, rank=3, stage="dpo", trained_in=torch.bfloat16)
    written = exported(second)
    assert not written.exact
    assert written.rank >= 7
    start = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).float()
    moved = (ours(second) - logits(start)).std()
    found = logits(PeftModel.from_pretrained(start, str(written.folder)))
    assert (found - ours(second)).std() < 0.05 * moved
    alone = exported(second, str(first))
    assert (alone.exact, alone.rank) == (True, 3)
    start = AutoModelForCausalLM.from_pretrained(first, dtype=torch.bfloat16).float()
    found = logits(PeftModel.from_pretrained(start, str(alone.folder)))
    assert torch.allclose(found, ours(second), atol=2e-5)


def test_what_it_learned_from_is_remembered(tmp_path: Path) -> None:
    base = tmp_path / "base"
    write_base(base, chat_tokenizer())
    model = tuned(tmp_path / "model", base, lineage={("vote", "a")})
    assert read_lineage(exported(model).folder) == {("vote", "a")}


def test_a_real_run_and_the_command(tmp_path: Path) -> None:
    """Fine-tuning with adapters, as a recipe has it, and its model exported."""
    write_base(tmp_path / "base", bare_tokenizer())
    write_rows(tmp_path / "rows.jsonl")
    recipe = tmp_path / "tuned.toml"
    text = TUNE.replace("BASE", str(tmp_path / "base"))
    recipe.write_text(text.replace("rows.jsonl", str(tmp_path / "rows.jsonl")))
    train(recipe, tmp_path / "run", ["model.context=128", "export.gguf=[]"])
    model = tmp_path / "run" / "sft" / "model"
    told = answered("export", str(model), "--adapter", "--json")
    assert told == [
        {
            "file": str(model / "adapter"),
            "bytes": told[0]["bytes"],
            "base": str(tmp_path / "base"),
            "rank": 16,
            "exact": True,
            "rows": 3,
        }
    ]
    found = by_peft(model / "adapter", tmp_path / "base", 303)
    assert torch.allclose(found, ours(model), atol=2e-5)
    assert sorted(file.name for file in (model / "adapter").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "lineage.json",
        "provenance.json",
        "template.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    card = (model / "adapter" / "README.md").read_text()
    assert "## The adapter" in card
    assert str(tmp_path) not in card
    error = refused(ModelError, "chat", str(model / "adapter"))
    assert "an adapter without its base" in error.what


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
def test_all_weights_were_trained(tmp_path: Path, told: bool) -> None:
    """Its recipe says so, or its weights do."""
    base = tmp_path / "base"
    write_base(base, chat_tokenizer())
    model = tuned(tmp_path / "model", base, whole=True)
    if not told:
        record = json.loads((model / "provenance.json").read_text())
        record["recipe"]["sft"]["adapter"] = "lora"
        (model / "provenance.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match="all weights") as raised:
        exported(model)
    assert "guildgpt push" in str(raised.value.remedy)
    assert 'sft.adapter = "lora"' in str(raised.value.remedy)
    assert sorted(path.name for path in model.glob("*adapter*")) == []


def test_a_base_that_is_another_today_or_gone(tmp_path: Path) -> None:
    base = tmp_path / "base"
    write_base(base, chat_tokenizer())
    model = tuned(tmp_path / "model", base)
    base.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="its base cannot be taken") as raised:
        exported(model)
    assert "--base" in str(raised.value.remedy)
    moved = str(tmp_path / "moved")
    assert torch.allclose(
        by_peft(exported(model, moved).folder, Path(moved), 0), ours(model), atol=2e-5
    )
    write_base(base, chat_tokenizer(), kind=lambda vocab_size: llama(1, vocab_size=vocab_size))
    with pytest.raises(ModelError, match="another hash") as raised:
        exported(model)
    assert "It was base" in str(raised.value.remedy)


def test_a_base_for_no_adapter(tmp_path: Path) -> None:
    error = refused(GuildError, "export", str(tmp_path), "--base", "owner/name")
    assert "no adapter was asked for" in error.what


def test_a_model_that_scores(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    assert "scores answers" in refused(ModelError, "export", str(tmp_path), "--adapter").what


def test_a_model_without_a_past_and_one_from_nothing(tmp_path: Path) -> None:
    base, model = tmp_path / "base", tmp_path / "model"
    write_base(base, chat_tokenizer())
    tuned(model, base)
    record = json.loads((model / "provenance.json").read_text())
    record["recipe"]["model"]["base"] = "scratch"
    (model / "provenance.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match="made from nothing"):
        exported(model)
    (model / "provenance.json").unlink()
    with pytest.raises(ModelError, match="nothing here says from which base") as raised:
        exported(model)
    assert "--base" in str(raised.value.remedy)
    found = exported(model, str(base))
    assert (found.rank, found.exact) == (4, True)
    with pytest.raises(ModelError, match=r"no weight of it was changed"):
        exported(base, str(base))
