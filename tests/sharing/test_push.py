"""`guildgpt push` against a small Hub of our own: what is sent, what stays, and what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bases.folders import chat_tokenizer, write_base
from fake_hub import COMMIT, TOKEN, FakeHub, Person, Repo, instead_of_the_hub, running
from huggingface_hub import ModelCard
from report.conftest import report
from terminals import Terminal
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from guildgpt.cli import app
from guildgpt.errors import GuildError, ModelError
from guildgpt.evaluate.head_to_head import HeadToHead, WinRate
from guildgpt.report.before_after import headline
from guildgpt.report.page import write_report
from guildgpt.report.report import Report
from guildgpt.sharing import hub as client
from guildgpt.sharing.names import without_paths
from guildgpt.sharing.parcel import pack

from .models import tuned

NAME = "anna/helper"
__all__ = ["report"]
HOME = {"lineage.json", "report.html", "report.json", "metrics.jsonl", "samples.jsonl", "votes.db"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """One on which this machine is Anna."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running(monkeypatch) as state:
        state.people[TOKEN] = Person("anna", organizations=("guild",))
        instead_of_the_hub(state, monkeypatch, tmp_path / "hub")
        yield state


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a run leaves it, with what is nobody else's business in it."""
    place = tmp_path_factory.mktemp("push")
    write_base(place / "base", chat_tokenizer())
    model = tuned(place / "run" / "sft" / "model", place / "base", gguf=("Q8_0",))
    for name in HOME - {"lineage.json"}:
        (model / name).write_text("private\n")
    return model


@pytest.fixture
def model(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run" / "sft" / "model"))


def pushed(*arguments: object, yes: bool = True) -> Any:
    command = ["push", *map(str, arguments), *(["--yes"] if yes else [])]
    return CliRunner().invoke(app, command, terminal_width=100)


def refused(*arguments: object, yes: bool = True) -> GuildError:
    result = pushed(*arguments, yes=yes)
    assert isinstance(result.exception, GuildError), (result.output, result.exception)
    assert result.exception.remedy
    assert TOKEN not in str(result.exception) + result.output
    return result.exception


# --- what is sent --------------------------------------------------------------------------------


def test_a_model_arrives_whole_and_private(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    result = pushed(model, NAME)
    assert result.exit_code == 0, (result.output, result.exception)
    there = hub.models[NAME]
    assert there.private
    assert len(there.commits) == 1
    for name in ("model.safetensors", "model-Q8_0.gguf", "tokenizer.json", "template.json"):
        assert there.files[name] == (model / name).read_bytes()
    assert len(hub.received) == 2  # the two large files, each once
    assert f"{hub.url}/{NAME}/commit/{COMMIT}" in result.output.replace("\n", "")
    assert TOKEN not in result.output
    # What arrived opens as any model of the Hub does.
    opened = AutoModelForCausalLM.from_pretrained(NAME)
    assert opened.num_parameters() > 0


def test_what_is_nobody_elses_business_stays(hub: FakeHub, model: Path) -> None:
    (model / "adapter").mkdir()
    result = pushed(model, NAME, "--json")
    assert result.exit_code == 0
    sent = hub.models[NAME].files
    assert HOME.isdisjoint(sent)
    told = json.loads(result.stdout)
    assert set(told["left"]) == HOME | {"adapter"}
    assert set(told["files"]) == set(sent)
    everything = b"".join(sent.values())
    assert str(model.parents[2]).encode() not in everything  # no path of this machine
    assert str(Path.home()).encode() + b"/" not in everything


def test_what_will_be_sent_is_shown_before_anybody_is_asked(hub: FakeHub, model: Path) -> None:
    result = pushed(model, NAME, yes=False)
    assert "nobody is here to say yes" in str(result.exception)
    assert "--yes" in str(result.exception)
    said = " ".join(result.output.split())
    assert "a new private repository" in said
    assert "only you can see it" in said
    assert re.search(r"model-Q8_0\.gguf \([\d.]+ [kM]B\)", said) or "model-Q8_0.gguf" in said
    assert "stays here" in said
    assert "lineage.json" in said
    assert hub.models == {}
    assert hub.received == []


@pytest.mark.parametrize("answer", ["n", "y"])
def test_a_person_is_asked(hub: FakeHub, model: Path, answer: str) -> None:
    there = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "TERM": "dumb"}
    terminal = Terminal("push", model, NAME, columns=100, **there)
    shown = terminal.see(r"Send it\? \[y/N\]: ")
    assert "stays here" in shown
    assert hub.models == {}
    terminal.type(f"{answer}\n")
    rest = terminal.rest()
    assert (NAME in hub.models) == (answer == "y")
    assert ("It is there" if answer == "y" else "Nothing was sent.") in rest
    assert TOKEN not in shown + rest


def test_the_card_says_what_it_is_and_whom_to_thank(hub: FakeHub, model: Path) -> None:
    assert pushed(model, NAME).exit_code == 0
    text = hub.models[NAME].files["README.md"].decode()
    card: Any = ModelCard(text)
    values = card.data.to_dict()
    assert values["license"] == "cc-by-sa-3.0"  # the share-alike one of the two decides
    assert values["datasets"] == ["databricks/databricks-dolly-15k"]
    assert values["language"] == ["en"]
    assert values["pipeline_tag"] == "text-generation"
    assert values["library_name"] == "transformers"
    assert set(values["tags"]) >= {"guildgpt", "sft"}
    assert "base_model" not in values  # it lay in a folder here
    assert "databricks-dolly-15k by Databricks" in text
    assert "Share-alike" in text
    assert f'from_pretrained("{NAME}")' in text
    assert f"ollama run hf.co/{NAME}" in text
    assert "| dolly | [databricks/databricks-dolly-15k]" in text


def test_the_card_has_the_figures_and_what_the_judge_saw(
    model: Path, report: Report, hub: FakeHub
) -> None:
    measures = report.samples_after
    assert measures is not None
    rates = {"rate": 0.7, "low": 0.6, "high": 0.8}
    controlled = {f"controlled{end}": 0.6 for end in ("", "_low", "_high")}
    won = WinRate(10, 10, 7, 3, 0, **rates, **controlled, tokens=9.0, other_tokens=8.0)
    judged = HeadToHead(won, None, None, 0.0, 1.0, 2.0, measures, measures, ("oasst2",))
    report = replace(report, head_to_head=judged)
    write_report(model, report)
    assert pushed(model, NAME).exit_code == 0
    text = hub.models[NAME].files["README.md"].decode()
    section = text.partition("## How it was measured")[2].partition("\n## ")[0]
    assert section.strip().splitlines() == [f"- {line}" for line in headline(report)]
    assert "The judge learned from oasst2;" in section
    assert "report.json" not in hub.models[NAME].files


def test_what_a_person_wrote_into_the_card_stays(hub: FakeHub, model: Path) -> None:
    mine = "---\nlicense: mit\nlanguage: de\n---\n\n# Mine\n\n## How to run it\n\nAsk Anna.\n"
    (model / "README.md").write_text(mine)
    assert pushed(model, NAME).exit_code == 0
    text = hub.models[NAME].files["README.md"].decode()
    values: Any = ModelCard(text).data.to_dict()  # type: ignore[no-untyped-call]
    assert (values["license"], values["language"]) == ("mit", "de")
    assert "Ask Anna." in text
    assert text.count("## How to run it") == 1
    assert "## What it was made from" in text
    assert (model / "README.md").read_text() == mine


def test_ollama_finds_template_and_parameters(hub: FakeHub, model: Path) -> None:
    assert pushed(model, NAME).exit_code == 0
    files = hub.models[NAME].files
    assert b"range $i, $m := .Messages" in files["template"]
    assert json.loads(files["params"])["stop"] == ["<|im_end|>"]


def test_an_adapter_is_pushed_as_its_folder(hub: FakeHub, model: Path) -> None:
    assert CliRunner().invoke(app, ["export", str(model), "--adapter"]).exit_code == 0
    result = pushed(model / "adapter", NAME)
    assert result.exit_code == 0, (result.output, result.exception)
    sent = hub.models[NAME].files
    assert str(model.parents[2]).encode() not in b"".join(sent.values())
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= sent.keys()
    assert "lineage.json" not in sent
    assert "names its base by a folder of this machine" in " ".join(result.output.split())
    assert json.loads(sent["adapter_config.json"])["base_model_name_or_path"] == "base"
    values: Any = ModelCard(sent["README.md"].decode()).data.to_dict()  # type: ignore[no-untyped-call]
    assert values["library_name"] == "peft"


# --- again, to a branch, for everybody -----------------------------------------------------------


def test_public_and_to_a_branch(hub: FakeHub, model: Path) -> None:
    result = pushed(model, "guild/helper", "--public", "--revision", "v2")
    assert result.exit_code == 0, result.exception
    there = hub.models["guild/helper"]
    assert not there.private
    assert "model.safetensors" in there.branches["v2"]
    assert "model.safetensors" not in there.files
    assert "everybody sees it" in " ".join(result.output.split())


def test_a_second_time_sends_what_changed(hub: FakeHub, model: Path) -> None:
    assert pushed(model, NAME).exit_code == 0
    before = list(hub.received)
    (model / "README.md").write_text("# Another\n")
    result = pushed(model, NAME)
    assert result.exit_code == 0, result.exception
    assert hub.received == before
    assert b"# Another" in hub.models[NAME].files["README.md"]
    assert "there already, private" in " ".join(result.output.split())


def test_a_public_repository_is_not_written_unawares(hub: FakeHub, model: Path) -> None:
    hub.models[NAME] = Repo()
    assert "there already, and public" in refused(model, NAME).what
    assert hub.models[NAME].files == {}
    assert pushed(model, NAME, "--public").exit_code == 0


def test_a_connection_that_breaks_off_is_gone_on_with(hub: FakeHub, model: Path) -> None:
    hub.takes = 1  # of two large files
    error = refused(model, NAME)
    assert "the connection broke off" in error.what
    assert "the same command goes on" in str(error.remedy)
    assert "signature" not in str(error)
    first = list(hub.received)
    assert len(first) == 1
    hub.takes = None
    assert pushed(model, NAME).exit_code == 0
    assert len(hub.received) == 2  # the one that had arrived was not sent again
    assert len(hub.models[NAME].commits) == 1


# --- what may not go -----------------------------------------------------------------------------


def test_what_members_gave_is_not_published_without_a_word(
    hub: FakeHub, model: Path, finished: Path
) -> None:
    events = {"vote": ["v-1", "v-2"], "message": ["m-1"]}
    (model / "lineage.json").write_text(json.dumps({"format": 1, "events": events}))
    error = refused(model, NAME)
    assert "learned from your members: 2 votes and 1 message" in error.what
    assert "--with-feedback" in str(error.remedy)
    assert hub.models == {}
    assert pushed(model, NAME, "--with-feedback").exit_code == 0
    sent = hub.models[NAME].files
    assert b"2 votes and 1 message" in sent["README.md"]
    assert "lineage.json" not in sent
    assert not any(id.encode() in b"".join(sent.values()) for id in ("v-1", "m-1"))


@pytest.mark.parametrize(
    ("licence", "said"),
    [("unknown", "nobody says under which licence"), ("CC-BY-ND-4.0", "lets nobody pass on")],
)
def test_licences_that_let_nobody_publish_it(
    hub: FakeHub, model: Path, licence: str, said: str
) -> None:
    record = json.loads((model / "provenance.json").read_text())
    record["sources"][0]["licence"] = licence
    (model / "provenance.json").write_text(json.dumps(record))
    error = refused(model, NAME, "--public")
    assert "cannot be published" in error.what
    assert said in error.what
    assert "--licence" in str(error.remedy)
    private = pushed(model, NAME)
    assert private.exit_code == 0
    assert "Keep it private" in " ".join(private.output.split())
    hub.models.clear()
    assert pushed(model, NAME, "--public", "--licence", "Apache-2.0").exit_code == 0
    values: Any = ModelCard(hub.models[NAME].files["README.md"].decode()).data  # type: ignore[no-untyped-call]
    assert values.to_dict()["license"] == "apache-2.0"


def test_terms_that_bind_whoever_takes_it_are_told(model: Path) -> None:
    record = json.loads((model / "provenance.json").read_text())
    record["sources"][0]["licence"] = "CC-BY-NC-4.0"
    (model / "provenance.json").write_text(json.dumps(record))
    parcel = pack(model, NAME, public=True, with_feedback=False)
    assert "forbids commercial use" in parcel.notes[0]
    assert parcel.licence == "other"


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder"):
        pack(tmp_path, NAME, public=False, with_feedback=False)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no weights"):
        pack(tmp_path, NAME, public=False, with_feedback=False)


@pytest.mark.parametrize("name", ["helper", "anna/", "a/b/c", "anna/my model", "../x", "a/b--c"])
def test_a_name_that_is_none(model: Path, name: str) -> None:
    assert "no name on the Hub" in refused(model, name).what


# --- who one is there ----------------------------------------------------------------------------


def test_no_token(hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
    error = refused(model, NAME)
    assert "no token" in error.what
    assert "hf auth login" in str(error.remedy)


def test_a_token_that_the_hub_does_not_know(hub: FakeHub, model: Path) -> None:
    hub.people.clear()
    error = refused(model, NAME)
    assert "does not know the token" in error.what
    assert "HF_TOKEN" in str(error.remedy)


def test_a_token_that_may_only_read(hub: FakeHub, model: Path) -> None:
    hub.people[TOKEN] = Person("anna", role="read")
    assert "may only read" in refused(model, NAME).what


def test_somebody_elses_name(hub: FakeHub, model: Path) -> None:
    error = refused(model, "bert/helper")
    assert "you are anna on the Hub" in error.what
    assert "anna/helper" in str(error.remedy)


def test_rights_that_the_token_lacks(hub: FakeHub, model: Path) -> None:
    """A fine-grained token: who one is does not say it."""
    hub.refuses["repos/create"] = 403
    error = refused(model, NAME)
    assert f"may not write to {NAME}" in error.what
    assert "not today" in error.what
    assert client.TOKENS in str(error.remedy)


@pytest.mark.parametrize(
    ("part", "status", "said"),
    [
        ("preupload", 429, "asks to wait"),
        ("commit", 409, "at the same moment"),
        ("validate-yaml", 400, "does not take it as it is"),
        ("commit", 500, "answers with an error, 500"),
        ("objects/batch", 403, "may not write"),
    ],
)
def test_what_the_hub_refuses(hub: FakeHub, model: Path, part: str, status: int, said: str) -> None:
    hub.refuses[part] = status
    error = refused(model, NAME)
    assert said in error.what
    assert hub.models[NAME].files == {}


def test_a_file_that_is_gone_meanwhile(
    hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the network's fault, and not called so."""
    send = client.send

    def lose(*arguments: Any, **options: Any) -> Any:
        (model / "model.safetensors").unlink()
        return send(*arguments, **options)

    monkeypatch.setattr(client, "send", lose)
    result = pushed(model, NAME)
    assert isinstance(result.exception, GuildError)
    assert "could not be sent" in result.exception.what


def test_no_network(hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:9"  # the discard port: nobody listens
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    error = refused(model, NAME)
    assert "was not reached" in error.what


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("/home/anna/rows.jsonl", "rows.jsonl"),
        ("jsonl:/home/anna/rows.jsonl", "jsonl:rows.jsonl"),
        ("~/runs/one/", "one"),
        (r"C:\Users\anna\rows.csv", "rows.csv"),
        ("feedback:postgresql://anna:secret@db/guild", "feedback"),
        ("postgresql://anna:secret@db/guild", "postgresql"),
        ("file:///home/anna/rows.csv", "rows.csv"),
        ("dolly", "dolly"),
        ("data/rows.jsonl", "data/rows.jsonl"),
        ("hub:owner/name", "hub:owner/name"),
        ("Answer in words / numbers.", "Answer in words / numbers."),
        ("https://example.org/x", "https://example.org/x"),
        (0.5, 0.5),
        (None, None),
    ],
)
def test_paths_and_passwords_are_cut(value: Any, left: Any) -> None:
    assert without_paths({"a": [value]}) == {"a": [left]}
