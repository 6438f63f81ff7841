"""SentencePiece unigram models: the converted tokenizer gives SentencePiece's own ids."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import NamedTuple

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from guildgpt.bases.spiece import _read, convert
from guildgpt.chat import FileTokenizer
from guildgpt.errors import ModelError

PROSE = (
    "A guild keeps its own assistant, small enough for one machine. Members ask it things, rate "
    "what it says, and compare two answers; tonight's model learns from today's votes. ",
    "Who owns a value in Rust? Each value has exactly one owner, and when the owner goes out of "
    "scope the value is dropped. Borrowing lends it: once to write, or often to read. ",
)
CODE = (
    "def greet(name):\n    if not name:\n        return None\n    return f'hello, {name}!'\n\n",
    "for (int i = 0; i < 10; i++) {\n\tif (a[i] > b[i] && x) {\n\t\tsum += a[i] * 2;\n\t}\n}\n",
    "<div class=\"row\"><a href='#x'>1,024 | 65536</a></div>\n\n\n# café, naïve, Größe, £5 → ½\n",
)
CORPUS = "".join(PROSE + CODE)


class Setting(NamedTuple):
    """How a model is trained. `exact` says that no character map stands in the way of any text."""

    name: str
    options: dict[str, object]
    exact: bool = True


SETTINGS = [
    Setting(
        "as replit-code's",
        {
            "normalization_rule_name": "identity",
            "add_dummy_prefix": False,
            "remove_extra_whitespaces": False,
        },
    ),
    Setting(
        "with bytes and user-defined pieces",
        {
            "normalization_rule_name": "identity",
            "add_dummy_prefix": False,
            "remove_extra_whitespaces": False,
            "byte_fallback": True,
            "user_defined_symbols": ["▁▁▁▁", "\t\t", "<think>", "naïve", "日本"],
        },
    ),
    Setting(
        "without < in its vocabulary, with bytes",
        {
            "normalization_rule_name": "identity",
            "add_dummy_prefix": True,
            "remove_extra_whitespaces": False,
            "byte_fallback": True,
            "user_defined_symbols": ["<tag>"],
            "without": "<",
        },
    ),
    Setting(
        "without | in its vocabulary, trimming",
        {
            "normalization_rule_name": "identity",
            "add_dummy_prefix": True,
            "remove_extra_whitespaces": True,
            "without": "|",
        },
    ),
    Setting("as sentencepiece by default", {"normalization_rule_name": "nmt_nfkc"}, exact=False),
    Setting(
        "nfkc with bytes, keeping spaces",
        {
            "normalization_rule_name": "nmt_nfkc",
            "add_dummy_prefix": False,
            "remove_extra_whitespaces": False,
            "byte_fallback": True,
        },
        exact=False,
    ),
]


def train(folder: Path, **options: object) -> Path:
    """A small spiece.model with replit-code's control pieces."""
    without = str(options.pop("without", ""))
    text = CORPUS.replace(without, "") if without else CORPUS
    paragraphs = [line + "\n\n" for line in text.split("\n\n")]
    sentencepiece.SentencePieceTrainer.train(
        **{
            "sentence_iterator": iter(paragraphs * 3),
            "model_prefix": str(folder / "spiece"),
            "model_type": "unigram",
            "vocab_size": 200 + 256 * bool(options.get("byte_fallback")),
            "hard_vocab_limit": False,
            "character_coverage": 1.0,
            "unk_id": 0,
            "eos_id": 1,
            "pad_id": 2,
            "bos_id": -1,
            "unk_piece": "<|unk|>",
            "eos_piece": "<|endoftext|>",
            "pad_piece": "<|pad|>",
            "minloglevel": 2,
            **options,
        }
    )
    return folder / "spiece.model"


class Pair(NamedTuple):
    """SentencePiece, its conversion, and the conversion as the rest of the program reads it."""

    setting: Setting
    path: Path
    original: sentencepiece.SentencePieceProcessor
    converted: Tokenizer
    read: FileTokenizer
    scores: list[float]
    special: frozenset[int]  # control, unknown and byte pieces


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda setting: setting.name)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("spiece")
    path = train(folder, **request.param.options)
    converted = convert(path)
    converted.save(str(folder / "tokenizer.json"))
    original = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return Pair(
        request.param,
        path,
        original,
        converted,
        FileTokenizer(folder / "tokenizer.json"),
        [score for _, score in json.loads(converted.to_str())["model"]["vocab"]],
        frozenset(
            i
            for i in range(original.get_piece_size())
            if original.is_control(i) or original.is_unknown(i) or original.is_byte(i)
        ),
    )


def check(pair: Pair, text: str) -> bool:
    """Whether the ids are the same; if not, it must have been a tie, to 32 bits of precision."""
    ours, theirs = pair.read.encode(text), pair.original.encode(text)
    if ours == theirs:
        return True
    assert [i for i in ours if i in pair.special] == [i for i in theirs if i in pair.special], text
    assert pair.original.decode(ours) == pair.original.decode(theirs), text
    total, other = (
        sum(pair.scores[i] for i in ids if i not in pair.special) for ids in (ours, theirs)
    )
    unknown = sum(i in pair.special for i in ours) * 30.0
    assert abs(total - other) <= 1e-6 * (abs(total) + unknown), text
    return False


# Texts that mean something to one of the two implementations.
FRAGMENTS = [
    *(
        " ",
        "  ",
        "   ",
        "\t",
        "\t\t",
        "\n",
        "\n\n",
        "a",
        "e",
        "of",
        "def ",
        "    return",
        "0",
        "1,0",
    ),
    *("<|endoftext|>", "<|unk|>", "<|pad|>", "<0x41>", "<0x0A>", "<think>", "<tag>", "<", "|", ">"),
    *(
        "▁",
        "▁▁▁▁",
        "é",
        "ï",
        "naïve",
        "日本",
        "日",
        "🎉",
        "\x00",
        "\x7f",
        "\ufeff",
        "\ue000",
        "\ufffd",
    ),
]
# A character map is applied to one user-perceived character at a time, see `guildgpt.bases.spiece`:
# characters that neither combine nor form such a group.
SINGLE = st.characters(max_codepoint=0x2FF, exclude_characters="\r") | st.sampled_from(
    "ｆｕｌｌＷＩＤＴＨﬁﬂ①½™℃ℵΩ…⁇ｶｷ日本語ひらカタ中文한국 　🎉"
)


@given(data=st.data())
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
)
def test_ids_of_any_text(pair: Pair, data: st.DataObject) -> None:
    anything = st.text() if pair.setting.exact else st.text(SINGLE)
    parts = st.lists(st.sampled_from(FRAGMENTS) | anything, max_size=12)
    check(pair, "".join(data.draw(parts)))


def test_ids_of_ordinary_text(pair: Pair) -> None:
    generator = random.Random(11)
    same = 0
    for _ in range(1000):
        start = generator.randrange(len(CORPUS))
        same += check(pair, CORPUS[start : start + generator.randrange(200)])
    assert same >= 990  # ties are rare


def test_decoding_gives_what_sentencepiece_gives(pair: Pair) -> None:
    generator = random.Random(12)
    lossless = pair.setting.exact and not pair.setting.options["remove_extra_whitespaces"]
    for _ in range(1000):
        text = "".join(generator.choices(FRAGMENTS, k=generator.randrange(10)))
        ids = pair.read.encode(text)
        if pair.original.unk_id() in ids:
            continue  # one says " ⁇ ", the other nothing
        assert pair.read.decode(ids) == pair.original.decode(ids), text
        if lossless and "▁" not in text:
            assert pair.read.decode(ids) == text


def test_whitespace_survives_as_in_replit_code(tmp_path: Path) -> None:
    converted = convert(train(tmp_path, **SETTINGS[0].options))
    converted.save(str(tmp_path / "tokenizer.json"))
    tokenizer = FileTokenizer(tmp_path / "tokenizer.json")
    for text in (" a", "a ", "  ", "\n\n\t\t  x \n", "\t", "    if x:\n        y  =  1\n\n\n", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_no_text_becomes_a_control_or_byte_piece(pair: Pair) -> None:
    for index in sorted(pair.special):
        piece = pair.original.id_to_piece(index)
        for text in (piece, f"a{piece}b", f" {piece} {piece}{piece}\n"):
            ids = pair.read.encode(text)
            assert ids == pair.original.encode(text), text
            assert not pair.read.control_ids & set(ids) - {pair.original.unk_id()}, text


def test_control_tokens_by_name(pair: Pair) -> None:
    names = {"<|unk|>": 0, "<|endoftext|>": 1, "<|pad|>": 2}
    assert {name: pair.read.token_id(name) for name in names} == names
    assert pair.read.control_ids == {0, 1, 2}
    assert len(pair.read) == pair.original.get_piece_size()
    # Where control tokens are asked for, as in a template, they are found.
    assert 1 in pair.converted.encode("a<|endoftext|>b").ids


def test_transformers_gives_the_same_ids(pair: Pair) -> None:
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(pair.path.with_name("tokenizer.json")),
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        unk_token="<|unk|>",
        clean_up_tokenization_spaces=False,
    )
    for text in (CORPUS, *PROSE, *CODE, " a , b . c ? ", "\t x  "):
        ids = fast(text, add_special_tokens=False)["input_ids"]
        assert ids == pair.read.encode(text)
        if pair.original.unk_id() not in ids:
            assert fast.decode(ids) == pair.original.decode(ids)


def test_the_file_is_read_as_protobuf_reads_it(pair: Pair) -> None:
    pytest.importorskip("google.protobuf")
    from sentencepiece import sentencepiece_model_pb2

    expected = sentencepiece_model_pb2.ModelProto()
    expected.ParseFromString(pair.path.read_bytes())
    model = _read(pair.path)
    assert [(p.text, p.score, p.kind) for p in model.pieces] == [
        (p.piece, p.score, p.type) for p in expected.pieces
    ]
    normalizer = expected.normalizer_spec
    assert model.charsmap == normalizer.precompiled_charsmap
    assert model.add_dummy_prefix == normalizer.add_dummy_prefix
    assert model.remove_extra_whitespaces == normalizer.remove_extra_whitespaces
    assert model.escape_whitespaces == normalizer.escape_whitespaces
    assert model.byte_fallback == expected.trainer_spec.byte_fallback


def test_other_names(tmp_path: Path) -> None:
    path = train(tmp_path, unk_piece="<unk>", eos_piece="</s>", pad_piece="[PAD]")
    tokenizer = convert(path, eos="</s>", pad="[PAD]", unk="<unk>")
    assert [tokenizer.token_to_id(name) for name in ("<unk>", "</s>", "[PAD]")] == [0, 1, 2]
    with pytest.raises(ModelError, match=r"no <\|endoftext\|> .*\n.*<unk>, </s>, \[PAD\]"):
        convert(path)
    with pytest.raises(ModelError, match="no </s> of its kind"):
        convert(path, eos="</s>", pad="[PAD]", unk="</s>")


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a unigram model"):
        convert(train(tmp_path, model_type="bpe"))
    with pytest.raises(ModelError, match="ends of words"):
        convert(train(tmp_path, treat_whitespace_as_suffix=True))


def test_a_file_that_is_cut_off_behind_a_piece_is_refused(tmp_path: Path) -> None:
    """Every piece of it is whole, and SentencePiece itself takes it."""
    path = train(tmp_path, **SETTINGS[0].options)
    data = path.read_bytes()
    end = 0
    while data[end] == 0x0A:  # a piece: a tag, a length below 128, so many bytes
        assert data[end + 1] < 0x80
        end += 2 + data[end + 1]
    path.write_bytes(data[:end])
    sentencepiece.SentencePieceProcessor(model_proto=data[:end])
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        convert(path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.97])
def test_broken_files_are_refused(kept: float, tmp_path: Path) -> None:
    path = train(tmp_path, **SETTINGS[0].options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        convert(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 707660\n")
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        convert(path)
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        convert(tmp_path / "nothing.model")
