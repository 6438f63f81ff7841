from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from guildgpt.data import oasst
from guildgpt.data.provenance import check, refusal
from guildgpt.data.source import load
from guildgpt.data.spec import SourceSpec
from guildgpt.errors import DataError, PolicyError

DOLLY = {"instruction": "Why?", "context": "", "response": "So.", "category": "open_qa"}
CHAT = {"prompt": "Why?", "completion": "So."}


class Recipe(BaseModel):
    """How a recipe holds its sources."""

    sources: list[SourceSpec]


def test_a_bare_string_is_a_source_in_a_recipe_too() -> None:
    recipe = Recipe.model_validate({"sources": ["dolly", {"source": "oasst1", "weight": 2}]})
    assert recipe.sources[0] == SourceSpec.parse("dolly")
    assert recipe.sources[1].weight == 2
    assert Recipe.model_validate(recipe.model_dump()) == recipe


@pytest.mark.parametrize(
    ("text", "kind", "path", "name"),
    [
        ("dolly", "dolly", None, "dolly"),
        ("starter", "starter", None, "starter"),
        ("oasst:a/b.jsonl.gz", "oasst", Path("a/b.jsonl.gz"), "oasst"),
        ("jsonl:chats/general.jsonl.gz", "jsonl", Path("chats/general.jsonl.gz"), "general"),
        ("jsonl:a:b.jsonl", "jsonl", Path("a:b.jsonl"), "a:b"),
        ("mine.jsonl", "file", Path("mine.jsonl"), "mine"),
        ("a/chats.csv.zst", "file", Path("a/chats.csv.zst"), "chats"),
        ("a/b", "file", Path("a/b"), "b"),
        ("./starter", "file", Path("starter"), "starter"),
        ("shards/*.parquet", "file", Path("shards/*.parquet"), "shards"),
        ("mine-*.jsonl", "file", Path("mine-*.jsonl"), "file"),
        ("file:odd", "file", Path("odd"), "odd"),
        ("C:\\data\\mine.jsonl", "file", Path("C:\\data\\mine.jsonl"), "C:\\data\\mine"),
        ("hub:owner/name", "hub", None, "name"),
    ],
)
def test_parts_of_a_source(text: str, kind: str, path: Path | None, name: str) -> None:
    spec = SourceSpec.parse(text)
    assert (spec.kind, spec.path, spec.name) == (kind, path, name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("doly", "Did you mean `dolly`?"),
        ("OASST1", "Did you mean `oasst1`?"),
        ("jsonnl:a.jsonl", "Did you mean `jsonl`?"),
        ("wikipedia", "Known are dolly"),
        ("file", "a file source needs a path"),
        ("hub:", "Write `hub:OWNER/NAME`"),
        ("hub", "Write `hub:OWNER/NAME`"),
        ("jsonl", "needs a path"),
        ("oasst", "needs a path"),
        ("starter:a.jsonl", "has no path"),
    ],
)
def test_a_source_that_is_none(text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        SourceSpec.parse(text)
    assert said in str(caught.value)
    with pytest.raises(ValidationError) as refused:  # in a recipe pydantic adds the key
        Recipe.model_validate({"sources": ["dolly", text]})
    assert refused.value.errors()[0]["loc"] == ("sources", 1)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "option",
    [
        {"weight": 0},
        {"weight": -1},
        {"weight": float("inf")},
        {"limit": 0},
        {"written_by": "aliens"},
        {"sha256": "abc"},
        {"colour": "red"},
        {"threads": "all"},  # dolly has no threads
        {"lang": ["de"]},
        {"split": "test"},
        {"subset": "en"},
        {"columns": {"prompt": "ask"}},
        {"roles": {"gpt-4": "assistant"}},
        {"on_bad_row": "skip"},
        {"source": "mine.jsonl", "subset": "en"},
        {"source": "mine.jsonl", "columns": {"ask": "prompt"}},
        {"source": "mine.jsonl", "roles": {"gpt-4": "wizard"}},
    ],
)
def test_options_that_mean_nothing_are_refused(option) -> None:
    with pytest.raises(ValidationError):
        SourceSpec.model_validate({"source": "dolly", **option})


def test_a_local_dolly_carries_its_licence_and_no_absolute_path(write_lines) -> None:
    path = write_lines("d.jsonl", [DOLLY])
    loaded = load(SourceSpec.parse(f"dolly:{path}"))
    item = loaded.provenance
    assert (item.name, item.licence, item.written_by, item.rows) == (
        "dolly",
        "CC-BY-SA-3.0",
        "people",
        1,
    )
    assert item.origin == "d.jsonl"
    assert "databricks/databricks-dolly-15k" in item.note
    assert "Databricks" in item.attribution
    assert str(path.parent) not in json.dumps(asdict(item))
    assert str(path.parent) not in str(loaded.conversations[0].source)
    assert len(item.sha256) == 64
    assert check("strict", [item]) == []


def test_a_file_of_ones_own_is_refused_until_one_says_whose_it_is(write_lines) -> None:
    path = write_lines("chat.jsonl", [CHAT])
    with pytest.raises(PolicyError, match="chat"):
        check("strict", [load(SourceSpec.parse(f"jsonl:{path}")).provenance])
    mine = SourceSpec(source=f"jsonl:{path}", licence="OWN", written_by="people", attribution="me")
    item = load(mine).provenance
    assert (item.licence, item.attribution) == ("own", "me")
    assert refusal(item) is None


def test_the_expected_hash(write_lines) -> None:
    path = write_lines("chat.jsonl", [CHAT])
    sha256 = load(SourceSpec.parse(f"jsonl:{path}")).provenance.sha256
    assert load(SourceSpec(source=f"jsonl:{path}", sha256=sha256.upper())).conversations
    with pytest.raises(DataError) as caught:
        load(SourceSpec(source=f"jsonl:{path}", sha256="0" * 64))
    assert sha256 in str(caught.value)
    assert caught.value.remedy


def test_a_limit_takes_the_first_usable_rows_and_counts_the_rest(write_lines) -> None:
    rows = [{**CHAT, "prompt": f"Why {i}?"} for i in range(5)]
    rows += [{"prompt": f"Why {i}?", "chosen": "So.", "rejected": "No."} for i in range(4)]
    path = write_lines("chat.jsonl", [{"prompt": "", "completion": ""}, *rows])
    loaded = load(SourceSpec(source=f"jsonl:{path}", limit=3))
    asked = [item.messages[0].content for item in loaded.conversations]
    assert asked == ["Why 0?", "Why 1?", "Why 2?"]
    assert len(loaded.comparisons) == 3
    assert loaded.skipped == {"empty conversation": 1, "over the limit": 3}
    assert loaded.provenance.rows == 6


def test_the_options_reach_the_oasst_reader(write_lines, monkeypatch) -> None:
    path = write_lines("t.jsonl", [{"message_id": "1", "text": "q", "role": "prompter"}])
    seen = []

    def read(path, *, name, keep, skipped, notices):
        seen.append(keep)
        return iter(())

    monkeypatch.setattr(oasst, "read", read)
    spec = SourceSpec(
        source=f"oasst:{path}",
        lang=["de"],
        threads="all",
        keep_unreviewed=True,
        keep_synthetic=True,
    )
    item = load(spec).provenance
    load(SourceSpec.parse(f"oasst1:{path}"))
    assert seen == [
        oasst.Keep(("de",), "all", unreviewed=True, synthetic=True),
        oasst.Keep(("en",), "best", unreviewed=False, synthetic=False),
    ]
    assert item.written_by == "mixed"
    assert refusal(item) is not None


def test_a_missing_file_names_the_near_one(write_lines) -> None:
    path = write_lines("dolly.jsonl", [DOLLY])
    with pytest.raises(DataError, match=r"has dolly\.jsonl"):
        load(SourceSpec.parse(f"dolly:{path.with_name('doly.jsonl')}"))


# --- columns, roles, bad rows, folders -----------------------------------------------------------


def test_columns_and_roles_under_other_names(write_lines) -> None:
    asked = {"ask": "Why?", "reply": {"text": "So."}, "prompt": "What the file calls a prompt is."}
    rows = [asked, {**asked, "prompt": None}]
    columns = {"prompt": "ask", "completion": "reply.text"}
    path = write_lines("a.jsonl", rows)
    loaded = load(SourceSpec(source=str(path), columns=columns))
    assert [[turn.content for turn in row.messages] for row in loaded.conversations] == [
        ["Why?", "So."]
    ] * 2
    assert "the column `prompt (the file's own)` has text in 1 row" in loaded.warnings[0]
    talk = [{"from": "Anna", "value": "Why?"}, {"from": "gpt-4", "value": "So."}]
    path = write_lines("b.jsonl", [{"talk": talk}])
    spec = {"source": str(path), "columns": {"messages": "talk"}}
    with pytest.raises(DataError, match="'Anna' is no role") as caught:
        load(SourceSpec(**spec))
    assert 'roles = { "Anna" = "user" }' in str(caught.value.remedy)
    loaded = load(SourceSpec(**spec, roles={"Anna": "user", "gpt-4": "assistant"}))
    assert [turn.role for turn in loaded.conversations[0].messages] == ["user", "assistant"]


def test_a_column_that_no_row_has_is_named(write_lines) -> None:
    path = write_lines("a.jsonl", [CHAT])
    with pytest.raises(DataError, match="no row has the column `ask`") as caught:
        load(SourceSpec(source=str(path), columns={"system": "ask"}))
    assert "The first row has prompt, completion" in str(caught.value.remedy)


def test_a_column_that_a_row_has_not_explains_why_its_form_is_not_known(write_lines) -> None:
    row = {"Frage": "Why?", "Antwort": "So.", "nr": None}
    path = write_lines("a.jsonl", [row])
    columns = {"prompt": "frage", "completion": "Antwort"}
    with pytest.raises(DataError, match=r"a\.jsonl:1: the row has no column `frage`") as caught:
        load(SourceSpec(source=str(path), columns=columns))
    assert str(caught.value.remedy).startswith("Did you mean `Frage`? It has Frage, Antwort, nr.")
    with pytest.raises(DataError, match="are of no known form") as caught:
        load(SourceSpec(source=str(path), columns={"prompt": "Frage", "completion": "nr"}))
    assert "no column" not in str(caught.value)  # it is there, and null


def test_an_empty_cell_is_named_and_can_be_passed_over(write_lines) -> None:
    path = write_lines("a.csv", ["prompt,completion", "Why?,So.", "When?,"])
    with pytest.raises(DataError, match=r"a\.csv:3: ") as caught:
        load(SourceSpec(source=str(path)))
    assert str(caught.value.remedy).startswith("`completion` is empty here.")
    assert 'on_bad_row = "skip"' in str(caught.value.remedy)
    loaded = load(SourceSpec(source=str(path), on_bad_row="skip"))
    assert len(loaded.conversations) == loaded.notes.skipped["a row that cannot be read"] == 1


def test_the_remedy_for_an_unknown_form_is_a_source_that_can_be_read(write_lines) -> None:
    """Whoever meets it first did so on the command line, where no recipe is open."""
    path = write_lines("mine.csv", [{"Frage": "Why?", "Antwort": "So."}])
    with pytest.raises(DataError) as caught:
        load(SourceSpec(source=str(path)))
    (quoted,) = re.findall(r"'(\{source.*\}\})'", str(caught.value.remedy))
    told = quoted.replace("mine.csv", str(path)).replace("…", "Frage", 1).replace("…", "Antwort")
    loaded = load(SourceSpec.parse(told))
    assert [turn.content for turn in loaded.conversations[0].messages] == ["Why?", "So."]


def test_bad_rows_stop_the_reading_or_are_counted_and_listed(write_lines) -> None:
    odd = {"messages": [{"role": "wizard", "content": "Hm."}]}
    path = write_lines("a.jsonl", [CHAT, '{"prompt": "a", "compl', odd, {"title": "b"}, CHAT])
    with pytest.raises(DataError, match="not JSON"):
        load(SourceSpec(source=str(path)))
    loaded = load(SourceSpec(source=str(path), on_bad_row="skip"))
    assert len(loaded.conversations) == 2
    assert loaded.skipped == {"a row that cannot be read": 3}
    assert [line.partition(": ")[0] for line in loaded.notes.bad] == [
        f"{path}:{row}" for row in (2, 3, 4)
    ]
    assert "'wizard' is no role" in loaded.notes.bad[1]
    (warning,) = loaded.warnings
    assert warning == ("a: 3 rows could not be read, and were left out, the first at a.jsonl:2")


def test_other_columns_are_named_once(write_lines) -> None:
    rows = [{**CHAT, "id": number, "score": 0.5, "tags": []} for number in range(3)]
    loaded = load(SourceSpec(source=str(write_lines("a.jsonl", rows))))
    assert loaded.warnings == ["a: columns that are not read: `id`, `score`"]
    assert load(SourceSpec.parse("starter")).warnings == []


def test_a_folder_of_shards_is_one_source(write_lines, tmp_path: Path) -> None:
    for number, split in enumerate(("train", "train", "test")):
        rows = [{**CHAT, "prompt": f"Why {number}?"}]
        write_lines(f"set/{split}-{number}.jsonl.gz", rows)
    spec = SourceSpec(source=str(tmp_path / "set"))
    loaded = load(spec)
    assert loaded.name == "set"
    assert len(loaded.conversations) == 3
    assert str(loaded.conversations[0].source) == "set/test-2.jsonl.gz:1"
    assert loaded.provenance.origin == "set/test-2.jsonl.gz to set/train-1.jsonl.gz"
    assert loaded.provenance.note == "3 local files"
    train = load(spec.model_copy(update={"split": "train"}))
    assert len(train.conversations) == 2
    assert train.provenance.sha256 != loaded.provenance.sha256
    expected = train.provenance.sha256
    again = SourceSpec(source=str(tmp_path / "set" / "train-*"), sha256=expected)
    assert len(load(again).conversations) == 2


def test_a_name_of_the_hub_without_its_kind_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no such file or folder") as caught:
        load(SourceSpec.parse("owner/name"))
    assert "write `hub:owner/name`" in str(caught.value.remedy)
    Path("chats").mkdir()
    with pytest.raises(DataError) as caught:
        SourceSpec.parse("chats")
    assert "write `./chats`" in str(caught.value.remedy)


@pytest.mark.parametrize("text", ["{source = [", "{source = " + "[" * 5000, "{a = " + "9" * 5000])
def test_a_table_on_the_command_line_that_is_none(text: str) -> None:
    with pytest.raises(DataError, match="this is no table"):
        SourceSpec.parse(text)
