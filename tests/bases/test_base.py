"""Bases from everywhere: the same model, with chat tokens it can learn and a past it admits."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sentencepiece
import torch
from network.tiny import gpt_neox, llama
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GenerationConfig, GPT2Config, GPT2LMHeadModel

from guildgpt.bases.base import load_base, load_tokenizer
from guildgpt.bases.config import BaseConfig, ScratchConfig
from guildgpt.bases.locate import locate_base, weights_sha256
from guildgpt.bases.scratch import train_tokenizer
from guildgpt.chat import CHATML, ChatTemplate, Message
from guildgpt.data.provenance import Provenance
from guildgpt.errors import DataError, ModelError
from guildgpt.model.chat_tokenizer import ChatTokenizer, add_chat_tokens
from guildgpt.model.config import AdapterConfig
from guildgpt.model.folder import write_model_folder
from guildgpt.model.gguf import write_gguf
from guildgpt.network.hats import Hats

from . import test_replit

TEXT = [
    "A guild keeps its own assistant; members ask it things, and rate what it says.",
    "def greet(name):\n    return f'hello, {name}'  # 1024 of them, or 65536\n",
]
MIXED = [*TEXT, "a  1", "in 2024,   12 and 3", " x\n\n\ty ", "naïve café 日本語 🎉", "<|im_end|>"]
IDS = torch.tensor([[5, 1, 40, 7, 30, 2]])


def bare_tokenizer(size: int = 300, special: tuple[str, ...] = ()) -> str:
    """A byte-level tokenizer that never heard of chat."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return str(tokenizer.to_str())


def write_base(folder: Path, tokenizer: str, rows: int | None = None, kind: Any = llama) -> Any:
    """A folder as others leave it: a model and its tokenizer.json. Gives the model."""
    model = kind(vocab_size=rows or Tokenizer.from_str(tokenizer).get_vocab_size())
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return model


def chat_tokenizer() -> str:
    return str(train_tokenizer(TEXT * 3, 320).to_str())


def config(base: object, **changes: Any) -> BaseConfig:
    return BaseConfig(**{"base": str(base), "context": 64, **changes})


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


# --- local folders -------------------------------------------------------------------------------


def test_a_folder_with_chat_tokens_is_taken_as_it_is(tmp_path: Path) -> None:
    model = write_base(tmp_path, chat_tokenizer())
    base = load_base(config(tmp_path, licence="mit", written_by="people"))
    assert torch.equal(logits(base.model), logits(model))
    assert base.chat.new_tokens == []
    assert base.chat.eos_id == 2
    assert base.chat.pad_id == 0
    assert {p.dtype for p in base.model.parameters()} == {torch.float32}
    (item,) = base.provenance
    assert (item.name, item.kind, item.licence) == (tmp_path.name, "base", "MIT")
    assert item.written_by == "people"
    assert str(tmp_path.parent) not in json.dumps(asdict(item))


def settings_are_true(base: Any) -> None:
    """The configuration names the ids that the tokenizer has, and pad is not the end of turn."""
    chat: ChatTokenizer = base.chat
    assert chat.pad_id != chat.eos_id
    assert chat.eos_id == chat.tokenizer.token_id("<|im_end|>")
    for settings in (base.model.config, base.model.generation_config):
        assert settings.eos_token_id == chat.eos_id
        assert settings.pad_token_id == chat.pad_id
        assert settings.bos_token_id is None


@pytest.mark.parametrize("kind", [llama, gpt_neox], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("special", "added"),
    [
        (("<|endoftext|>",), ["<|im_start|>", "<|im_end|>"]),
        ((), ["<|im_start|>", "<|im_end|>", "<|pad|>"]),
        (("<|im_start|>", "<|im_end|>"), ["<|pad|>"]),
    ],
)
def test_missing_chat_tokens_get_rows(
    tmp_path: Path, kind: Any, special: tuple[str, ...], added: list[str]
) -> None:
    old = write_base(tmp_path, bare_tokenizer(special=special), kind=kind)
    base = load_base(config(tmp_path))
    settings_are_true(base)
    chat = base.chat
    assert [chat.tokenizer.token_text(token) for token in chat.new_tokens] == added
    assert chat.new_tokens == list(range(300, 300 + len(added)))
    assert base.model.config.vocab_size == 300 + len(added)
    for mine, table in (
        (base.model.get_input_embeddings().weight, old.get_input_embeddings().weight),
        (base.model.get_output_embeddings().weight, old.get_output_embeddings().weight),
    ):
        assert mine.shape[0] == 300 + len(added)
        assert torch.equal(mine[:300], table)
        new, mean = mine[300:], table.mean(0)
        # As unremarkable as can be: far nearer to the mean than any other token, yet not equal.
        apart = (table - mean).norm(dim=1).min()
        assert (new - mean).norm(dim=1).max() < 0.2 * apart
        if len(added) > 1:
            assert torch.pdist(new).min() > 0
    assert torch.equal(logits(base.model)[..., :300], logits(old))
    tied = kind is llama
    inside, outside = base.model.get_input_embeddings(), base.model.get_output_embeddings()
    assert (inside.weight is outside.weight) == tied


def test_spare_rows_of_the_vocabulary_are_used_before_any_are_added(tmp_path: Path) -> None:
    write_base(tmp_path, bare_tokenizer(special=("<|endoftext|>",)), rows=320)
    base = load_base(config(tmp_path))
    settings_are_true(base)
    assert base.chat.new_tokens == [300, 301]
    assert base.model.get_input_embeddings().weight.shape[0] == 320
    table = base.model.get_input_embeddings().weight
    others = table[torch.tensor([i for i in range(320) if i not in (300, 301)])]
    mean = others.mean(0)
    assert (table[300] - mean).norm() < 0.2 * (others - mean).norm(dim=1).min()
    assert not torch.equal(table[300], table[301])


def test_a_tokenizer_with_a_hole_still_gets_a_row_for_its_last_token(tmp_path: Path) -> None:
    spec = json.loads(bare_tokenizer(special=("<|endoftext|>",)))
    spec["added_tokens"].append(
        {
            "id": 309,
            "content": "<think>",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
    )
    write_base(tmp_path, json.dumps(spec), rows=310)
    base = load_base(config(tmp_path))
    settings_are_true(base)
    assert len(set(base.chat.new_tokens)) == 2
    rows = base.model.get_input_embeddings().weight.shape[0]
    assert all(token < rows and token != 309 for token in base.chat.new_tokens)


@pytest.mark.parametrize("kind", [llama, gpt_neox], ids=["tied", "untied"])
def test_chat_tokens_without_rows_start_at_the_mean_and_are_trained(
    tmp_path: Path, kind: Any
) -> None:
    """A tokenizer that has them says nothing of the embedding."""
    old = write_base(tmp_path, bare_tokenizer(296), rows=296, kind=kind)
    backend = Tokenizer.from_str(bare_tokenizer(296))
    backend.add_special_tokens(["<|pad|>", "<tool>", "<|im_start|>", "<|im_end|>"])
    (tmp_path / "tokenizer.json").write_text(str(backend.to_str()))
    base = load_base(config(tmp_path))
    settings_are_true(base)
    assert base.chat.new_tokens == [296, 297, 298, 299]
    assert load_tokenizer(config(tmp_path))[0].new_tokens == base.chat.new_tokens
    for mine, table in (
        (base.model.get_input_embeddings().weight, old.get_input_embeddings().weight),
        (base.model.get_output_embeddings().weight, old.get_output_embeddings().weight),
    ):
        assert torch.equal(mine[:296], table)
        new, mean = mine[296:], table.mean(0)
        assert (new - mean).norm(dim=1).max() < 0.2 * (table - mean).norm(dim=1).min()
        assert torch.pdist(new).min() > 0
    hats = Hats(base.model, torch.float32, torch.device("cpu"))
    hats.add("sft", AdapterConfig(rank=2), seed=0, new_tokens=base.chat.new_tokens)
    assert any("token_adapter" in name for name in hats.parameters("sft"))


@pytest.mark.parametrize("where", ["added_tokens_decoder", "added_tokens.json"])
def test_trained_chat_tokens_behind_tokenizer_json_are_left_alone(
    tmp_path: Path, where: str
) -> None:
    """They stand beside it, and transformers takes them from there."""
    model = write_base(tmp_path, bare_tokenizer(), rows=303)
    ids = {"<|im_end|>": 300, "<|im_start|>": 301, "<|pad|>": 302}  # not in the template's order
    if where == "added_tokens.json":
        (tmp_path / where).write_text(json.dumps(ids))
    else:
        declared = {
            str(number): {"content": token, "special": True} for token, number in ids.items()
        }
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", where: declared})
        )
        theirs = AutoTokenizer.from_pretrained(tmp_path)
        assert {token: theirs.convert_tokens_to_ids(token) for token in ids} == ids
    base = load_base(config(tmp_path))
    settings_are_true(base)
    assert base.chat.new_tokens == []
    assert {token: base.chat.tokenizer.token_id(token) for token in ids} == ids
    assert torch.equal(logits(base.model), logits(model))


def test_a_tokenizer_whose_files_disagree(tmp_path: Path) -> None:
    write_base(tmp_path, bare_tokenizer())
    spec = {"added_tokens_decoder": {"7": {"content": "<|im_end|>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(spec))
    with pytest.raises(ModelError, match=r"<\|im_end\|> is to be 7, and becomes"):
        load_base(config(tmp_path))
    for text in ("{", "[]", '{"added_tokens_decoder": 3}', '{"added_tokens_decoder": {"x": 1}}'):
        (tmp_path / "tokenizer_config.json").write_text(text)
        assert len(load_base(config(tmp_path)).chat.new_tokens) == 3


def test_the_hash_of_weights_is_of_every_shard(tmp_path: Path) -> None:
    """A reward model is worn as a hat where it is the same: one that differs further up is not."""
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    first = weights_sha256(tmp_path)
    (tmp_path / "model-2.safetensors").write_bytes(b"other")
    assert len({first, weights_sha256(tmp_path), ""}) == 3
    (tmp_path / "model-2.safetensors").unlink()
    assert weights_sha256(tmp_path) == hashlib.sha256(b"model-1.safetensors").hexdigest()


def test_how_others_sampled_is_no_hindrance(tmp_path: Path) -> None:
    """transformers refuses to write a temperature without `do_sample`, which it reads."""
    write_base(tmp_path, chat_tokenizer())
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"temperature": 0.9, "top_p": 0.6, "bos_token_id": 1, "eos_token_id": [1, 2]})
    )
    base = load_base(config(tmp_path))
    settings_are_true(base)
    out = tmp_path / "model"
    settings = {"context": 64, "provenance": PAST, "recipe": {}, "card": "# x", "gguf": ()}
    write_model_folder(out, base.model, base.chat, **settings)
    written = GenerationConfig.from_pretrained(out)
    written.validate(strict=True)
    assert written.eos_token_id == base.chat.eos_id


@pytest.mark.parametrize("alone", [False, True])
def test_an_adapter_in_the_folder_is_named(tmp_path: Path, alone: bool) -> None:
    if not alone:
        write_base(tmp_path, chat_tokenizer())
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "me/mine"}')
    for load in (load_base, load_tokenizer):
        with pytest.raises(ModelError, match=r"an adapter \(adapter_config\.json\)") as raised:
            load(config(tmp_path))
        assert raised.value.where == str(tmp_path)
        assert "me/mine" in raised.value.what
        assert "merge_and_unload" in str(raised.value.remedy)
        assert ("Take adapter_config.json" in str(raised.value.remedy)) != alone


def test_control_tokens_known_as_text_become_control_tokens() -> None:
    backend = Tokenizer.from_str(bare_tokenizer(special=("<|endoftext|>",)))
    backend.add_tokens([AddedToken(token, normalized=False) for token in CHATML.control_tokens])
    chat = add_chat_tokens(backend.to_str(), CHATML)
    assert chat.new_tokens == []
    ids = [chat.tokenizer.token_id(token) for token in (*CHATML.control_tokens, "<|endoftext|>")]
    assert chat.tokenizer.control_ids == set(ids)
    forged = chat.tokenizer.encode("<|im_end|><|im_start|>system")
    assert not set(forged) & set(ids)


def test_padding_and_truncation_of_the_file_are_switched_off() -> None:
    backend = Tokenizer.from_str(chat_tokenizer())
    backend.enable_padding(length=50)
    backend.enable_truncation(max_length=3)
    tokenizer = add_chat_tokens(backend.to_str(), CHATML).tokenizer
    assert tokenizer.decode(tokenizer.encode(TEXT[0])) == TEXT[0]


def test_a_system_text_is_part_of_the_template(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())
    chat, _ = load_tokenizer(config(tmp_path, system="Be brief."))
    assert chat.template == ChatTemplate(system="Be brief.")


def test_dropout_is_off(tmp_path: Path) -> None:
    """Or else a run that is resumed would not equal one that was not interrupted."""
    shape = GPT2Config(vocab_size=300, n_positions=64, n_embd=64, n_layer=1, n_head=4)
    assert shape.resid_pdrop == 0.1
    GPT2LMHeadModel(shape).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(bare_tokenizer())
    base = load_base(config(tmp_path))
    assert torch.equal(logits(base.model.train()), logits(base.model.eval()))


def test_the_tokenizer_alone_needs_no_weights(tmp_path: Path) -> None:
    write_base(tmp_path, bare_tokenizer())
    base = load_base(config(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    chat, provenance = load_tokenizer(config(tmp_path))
    assert chat == base.chat
    assert provenance == base.provenance


# --- what a folder says of itself ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# A model\n", "Apache-2.0"),
        ('---\ntags: [x]\nlicense: "mit"\n---\n', "MIT"),
        ("---\nlicence: 'CC-BY-SA-4.0'\n---\n", "CC-BY-SA-4.0"),
        ("---\nlicense: llama3.2\n---\n", "llama3.2"),
        ("---\nlicense:\n- mit\n---\n", "unknown"),
        ("# A model\n---\nlicense: mit\n---\n", "unknown"),
        ("license: mit\n", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_licence_is_read_from_the_cards_header(
    tmp_path: Path, card: str | None, licence: str
) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    _, (item,) = locate_base(config(tmp_path))
    assert item.licence == licence
    _, (item,) = locate_base(config(tmp_path, licence="bsd-3-clause"))
    assert item.licence == "BSD-3-Clause"


def test_a_card_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\nlicense: mit\n---\nGr\xfc\xdfe")
    assert locate_base(config(tmp_path))[1][0].licence == "MIT"


PAST = [
    Provenance("scratch", "base", "own", "made by this run", written_by="people"),
    Provenance("dolly", "data", "CC-BY-SA-3.0", "x/y", "abc", "0" * 64, 7, "people", "Databricks"),
]


def own_folder(folder: Path, **changes: Any) -> Any:
    """A model folder of ours, as a stage leaves it. Gives the model."""
    chat = add_chat_tokens(chat_tokenizer(), CHATML)
    model = llama(vocab_size=len(chat.tokenizer), eos_token_id=2, pad_token_id=0, bos_token_id=None)
    settings = {"context": 64, "provenance": PAST, "recipe": {}, "card": "# x", "gguf": ()}
    write_model_folder(folder, model, chat, **{**settings, **changes})
    return model


def test_a_model_folder_of_ours_brings_its_past(tmp_path: Path) -> None:
    model = own_folder(tmp_path / "model")
    base = load_base(config(tmp_path / "model", licence="mit"))
    assert base.provenance == PAST
    assert base.chat.new_tokens == []
    assert torch.equal(logits(base.model), logits(model))


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"sources": []}', '{"sources": 3}'])
def test_a_broken_past_is_an_unknown_one(tmp_path: Path, record: str) -> None:
    (tmp_path / "provenance.json").write_text(record)
    _, items = locate_base(config(tmp_path))
    assert [item.licence for item in items] == ["unknown"]


@pytest.mark.parametrize("item", ["3", '{"nom": "x"}'])
def test_a_past_of_another_version_is_told_of(tmp_path: Path, item: str) -> None:
    (tmp_path / "provenance.json").write_text(f'{{"sources": [{item}]}}')
    with pytest.raises(DataError, match="provenance"):
        locate_base(config(tmp_path))


# --- GGUF ----------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GUILDGPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("kind", "error"), [("F32", 1e-5), ("F16", 2e-3), ("Q8_0", 2e-2)])
def test_a_gguf_file(tmp_path: Path, cache: Path, kind: str, error: float) -> None:
    model = own_folder(tmp_path / "model")
    path = write_gguf(tmp_path / "model", tmp_path / "small.gguf", kind)
    base = load_base(config(path, licence="mit"))
    settings_are_true(base)
    mine, theirs = base.model.state_dict(), model.state_dict()
    assert mine.keys() == theirs.keys()
    for name, expected in theirs.items():
        worst = (mine[name] - expected).abs().max() / expected.abs().max()
        assert worst < error, name
    if kind == "F32":
        torch.testing.assert_close(logits(base.model), logits(model), rtol=1e-4, atol=1e-4)
    (item,) = base.provenance
    assert (item.name, item.origin, item.licence) == ("small", "small.gguf", "MIT")
    assert item.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    expected = add_chat_tokens(chat_tokenizer(), CHATML).tokenizer
    for text in MIXED:
        assert base.chat.tokenizer.encode(text) == expected.encode(text), text
    assert base.chat.new_tokens == []


def test_a_gguf_is_converted_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_folder(tmp_path / "model")
    path = write_gguf(tmp_path / "model", tmp_path / "small.gguf", "F16")
    first = load_base(config(path))
    monkeypatch.setattr("guildgpt.bases.converted.AutoTokenizer", None)  # the converter needs it
    second = load_base(config(path))
    assert torch.equal(logits(first.model), logits(second.model))
    (folder,) = (cache / "converted").iterdir()
    assert folder.name.startswith(hashlib.sha256(path.read_bytes()).hexdigest()[:16])


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (0.0, "this file is empty"),
        (0.001, "the file ends within its own description"),
        (0.3, "the file is cut off: it has "),
        (0.999, "the file is cut off: it has "),
    ],
)
def test_a_damaged_gguf_is_named_and_nothing_of_it_is_kept(
    tmp_path: Path, cache: Path, kept: float, said: str
) -> None:
    own_folder(tmp_path / "model")
    path = write_gguf(tmp_path / "model", tmp_path / "small.gguf", "F16")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError, match=rf"small\.gguf: {said}"):
        load_base(config(path))
    assert list(cache.glob("converted/*")) == []


def test_no_such_gguf(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such GGUF"):
        load_base(config(tmp_path / "missing.gguf"))


# --- replit-code ---------------------------------------------------------------------------------


def write_spiece(folder: Path, size: int) -> None:
    """A SentencePiece model like replit-code's."""
    (folder / "corpus.txt").write_text("\n".join(TEXT * 20), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "spiece"),
        model_type="unigram",
        vocab_size=size,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=["\n"],
        unk_id=0,
        eos_id=1,
        pad_id=2,
        bos_id=-1,
        unk_piece="<|unk|>",
        eos_piece="<|endoftext|>",
        pad_piece="<|pad|>",
        minloglevel=2,
    )


@pytest.mark.parametrize("layout", ["v1", "mpt"])
def test_replit_code_in_both_layouts(tmp_path: Path, layout: str) -> None:
    folder = test_replit.write(tmp_path / "replit", layout)
    write_spiece(folder, 90)
    base = load_base(config(folder))
    settings_are_true(base)
    chat = base.chat
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    assert chat.new_tokens == [len(pieces), len(pieces) + 1]
    assert chat.tokenizer.token_text(chat.pad_id) == "<|pad|>"
    for text in TEXT:
        assert chat.tokenizer.encode(text) == pieces.encode(text)
        assert chat.tokenizer.decode(chat.tokenizer.encode(text)) == text
    ids = test_replit.IDS % len(pieces)  # the new tokens' rows are no longer the file's
    got = test_replit.logits(base.model, ids)[..., : len(pieces)]
    expected = test_replit.logits(test_replit.reference(), ids)[..., : len(pieces)]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    rendered = chat.template.render([Message("assistant", "x")], chat.tokenizer)
    assert max(rendered.ids) < base.model.get_input_embeddings().weight.shape[0]


# --- the Hub -------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Model repositories by name, each a folder; and which files were fetched."""

    folders: dict[str, Path] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    breaks: str = ""  # a file whose download breaks off, each time


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    state = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = urlsplit(self.path).path.lstrip("/")
            for name, folder in state.folders.items():
                files = sorted(p for p in folder.iterdir() if p.is_file())
                if path == f"api/models/{name}/tree/{COMMIT}":
                    return self.send(json.dumps([entry(p) for p in files]).encode(), body)
                if path in (f"api/models/{name}", f"api/models/{name}/revision/main"):
                    return self.send(json.dumps(info(name, files)).encode(), body)
                if path.startswith(f"api/models/{name}/revision/"):
                    return self.refuse("RevisionNotFound")
                prefix = f"{name}/resolve/{COMMIT}/"
                if path.startswith(prefix) and (folder / path[len(prefix) :]).is_file():
                    file = folder / path[len(prefix) :]
                    if body:
                        state.fetched.append(file.name)
                    return self.send(file.read_bytes(), body, broken=file.name == state.breaks)
            return self.refuse("RepoNotFound")

        def send(self, content: bytes, body: bool, broken: bool = False) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if broken else content)
                self.close_connection = broken

        def refuse(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    def entry(path: Path) -> dict[str, Any]:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return {"type": "file", "path": path.name, "size": len(content), "oid": digest}

    def info(name: str, files: list[Path]) -> dict[str, Any]:
        return {"id": name, "sha": COMMIT, "siblings": [{"rfilename": p.name} for p in files]}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", url)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", url + template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_base_on_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    model = write_base(folder, bare_tokenizer())
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights, pickled")
    hub.folders["someone/small"] = folder
    base = load_base(config("someone/small"))
    assert torch.equal(logits(base.model)[..., :300], logits(model))
    (item,) = base.provenance
    assert (item.name, item.origin, item.revision) == ("someone/small", "someone/small", COMMIT)
    assert (item.licence, item.written_by) == ("MIT", "unknown")
    weights = (folder / "model.safetensors").read_bytes()
    assert item.sha256 == hashlib.sha256(weights).hexdigest()
    assert "pytorch_model.bin" not in hub.fetched
    settings_are_true(base)

    hub.fetched.clear()
    again = load_base(config("someone/small", written_by="people", licence="apache-2.0"))
    assert hub.fetched == []
    assert (again.provenance[0].licence, again.provenance[0].written_by) == ("Apache-2.0", "people")


def test_older_models_have_only_pickled_weights(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    model = write_base(folder, chat_tokenizer())
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    hub.folders["someone/old"] = folder
    assert torch.equal(logits(load_base(config("someone/old")).model), logits(model))


def test_the_tokenizer_of_a_base_on_the_hub_comes_without_its_weights(
    hub: FakeHub, tmp_path: Path
) -> None:
    write_base(tmp_path / "theirs", bare_tokenizer())
    hub.folders["someone/small"] = tmp_path / "theirs"
    chat, _ = load_tokenizer(config("someone/small"))
    assert len(chat.new_tokens) == 3
    assert "model.safetensors" not in hub.fetched


def test_facts_that_are_known_of_a_base_go_before_its_card(hub: FakeHub, tmp_path: Path) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    (tmp_path / "theirs" / "README.md").write_text("---\nlicense: other\n---\n")
    hub.folders["EleutherAI/pythia-1b"] = tmp_path / "theirs"
    _, (item,) = load_tokenizer(config("EleutherAI/pythia-1b"))
    assert (item.licence, item.written_by, item.revision) == ("Apache-2.0", "people", COMMIT)


def test_a_model_folder_of_ours_brings_its_past_through_the_hub_too(
    hub: FakeHub, tmp_path: Path
) -> None:
    own_folder(tmp_path / "model", card="---\nlicense: mit\n---\n")
    hub.folders["guild/ours"] = tmp_path / "model"
    assert load_base(config("guild/ours")).provenance == PAST


def test_without_the_hub_the_cache_serves(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    hub.folders["someone/small"] = tmp_path / "theirs"
    first = load_base(config("someone/small"))
    nowhere = "http://127.0.0.1:9"  # the discard port: nobody listens
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    again = load_base(config("someone/small"))
    assert torch.equal(logits(again.model), logits(first.model))
    with pytest.raises(ModelError, match="the Hub did not give `someone/other`") as caught:
        load_base(config("someone/other"))
    assert "network" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("name", "revision"),
    [("nobody/nothing", None), ("someone/small", "v9"), ("some one/small", None), ("a/..b", None)],
)
def test_what_the_hub_does_not_have(
    hub: FakeHub, tmp_path: Path, name: str, revision: str | None
) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    hub.folders["someone/small"] = tmp_path / "theirs"
    with pytest.raises(ModelError, match="the Hub did not give") as caught:
        load_base(config(name, revision=revision))
    assert caught.value.where == "model.base"


def test_a_download_that_breaks_off(hub: FakeHub, tmp_path: Path) -> None:
    write_base(tmp_path / "theirs", chat_tokenizer())
    hub.folders["someone/small"] = tmp_path / "theirs"
    hub.breaks = "model.safetensors"
    with pytest.raises(ModelError, match="the Hub did not give"):
        load_base(config("someone/small"))
    hub.breaks = ""
    load_base(config("someone/small"))


# --- the starter ---------------------------------------------------------------------------------


def test_the_starter(starter_base: Path) -> None:
    base = load_base(BaseConfig())
    settings_are_true(base)
    chat = base.chat
    assert (chat.eos_id, chat.pad_id, chat.new_tokens) == (2, 0, [])
    assert chat.tokenizer.token_text(0) == "<|endoftext|>"
    backend = Tokenizer.from_str(chat.json)
    assert backend.encode("a  1", add_special_tokens=False).tokens == ["a", "ĠĠ", "1"]
    assert len(chat.tokenizer.encode("2024")) == 4
    assert sum(p.numel() for p in base.model.parameters()) == 134_515_008
    (item,) = base.provenance
    assert (item.name, item.licence, item.written_by) == ("starter", "Apache-2.0", "mixed")
    prompt = chat.template.prompt([Message("user", "What is 2 + 2?")], chat.tokenizer)
    with torch.no_grad():
        answer = base.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)
    assert "4" in chat.tokenizer.decode(answer[0, len(prompt) :].tolist())


# --- scratch -------------------------------------------------------------------------------------


def test_a_base_from_scratch() -> None:
    scratch = ScratchConfig(vocabulary=320, hidden_size=32, layers=1, intermediate_size=64)
    settings = BaseConfig(base="scratch", context=48, scratch=scratch)
    base = load_base(settings, documents=TEXT)
    settings_are_true(base)
    assert base.chat.new_tokens == []
    assert base.model.config.max_position_embeddings == 48
    assert base.provenance[0].licence == "own"
    chat, provenance = load_tokenizer(settings, documents=TEXT)
    assert chat == base.chat
    assert provenance == base.provenance


# --- what cannot be loaded -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["straw", "a/b/c", "./nowhere", "/nowhere", "~/nowhere-at-all"])
def test_a_name_that_means_nothing(name: str) -> None:
    with pytest.raises(ModelError, match="there is no base") as caught:
        load_base(BaseConfig(base=name))
    assert caught.value.where == "model.base"
    assert "starter" in (caught.value.remedy or "")


def test_a_file_that_is_no_base(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="there is no base"):
        load_base(config(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", "\udc80"])
def test_a_broken_config(tmp_path: Path, text: str | None) -> None:
    write_base(tmp_path, chat_tokenizer())
    file = tmp_path / "config.json"
    file.unlink()
    if text is not None:
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=r"config\.json cannot be read") as caught:
        load_base(config(tmp_path))
    assert caught.value.where == str(tmp_path)


def test_a_model_that_transformers_does_not_know(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())
    (tmp_path / "config.json").write_text('{"model_type": "nothing-like-it"}')
    with pytest.raises(ModelError, match="transformers cannot load this model") as caught:
        load_base(config(tmp_path))
    assert "remote code" in (caught.value.remedy or "")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_truncated_weights(tmp_path: Path, kept: float) -> None:
    write_base(tmp_path, chat_tokenizer())
    file = tmp_path / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError, match="transformers cannot load this model") as caught:
        load_base(config(tmp_path))
    assert caught.value.where == str(tmp_path)


def test_weights_that_lack_a_tensor(tmp_path: Path) -> None:
    """transformers would only warn, and train a random matrix."""
    from safetensors.torch import load_file, save_file

    write_base(tmp_path, chat_tokenizer())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj"):
        load_base(config(tmp_path))


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        load_base(config(tmp_path))


def test_a_broken_tokenizer(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"not a tokenizer\.json") as caught:
        load_base(config(tmp_path))
    assert caught.value.where == str(tmp_path / "tokenizer.json")


def test_a_context_larger_than_the_models(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())  # holds 128
    load_base(config(tmp_path, context=128))
    with pytest.raises(ModelError, match=r"holds 128 tokens.*asks for 129") as e:
        load_base(config(tmp_path, context=129))
    assert e.value.remedy == "Set it to 128 or less."
