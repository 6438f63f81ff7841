"""`guildgpt feedback` as an operator meets it, and where the store and its key lie."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from guildgpt.errors import DataError, GuildError, StoreError
from guildgpt.feedback.cli import feedback_app
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.location import (
    KEY_VARIABLE,
    STORE_VARIABLE,
    as_url,
    default_store,
    member_key,
    store_file,
)
from guildgpt.feedback.store import Store
from guildgpt.model.version import Version
from guildgpt.terminal import visible

NEWCOMER, TEACHER = 80351110224678912, 80351110224678913
VERSION = Version("starter@8f3a21c0", "starter", "runs/starter", "8f3a21c0" * 8)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of the test's own, and no settings from outside."""
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


async def _fill(url: str) -> None:
    """An operator's question with two answers, one vote, one rating; a member's with one answer."""
    async with await Store.open(url, key=member_key(url)) as store:
        await store.versions.register(VERSION)
        teacher, newcomer = (
            await store.members.of_user(TEACHER),
            await store.members.of_user(NEWCOMER),
        )
        await store.members.set_consent(newcomer.id, "train")
        conversation = await store.conversations.start("terminal", source="terminal", lang="en")
        told: dict[str, Any] = {"conversation_id": conversation, "synthetic": True}
        told["version_id"] = VERSION.id
        question = await store.conversations.add_message(
            conversation_id=conversation, parent_id=None, role="user", text="What is TLS?"
        )
        answers = [
            await store.conversations.add_message(
                parent_id=question.id, role="assistant", text=text, **told
            )
            for text in ("No idea.", "A protocol.")
        ]
        comparison = await store.votes.add_comparison(
            question.id, [answer.id for answer in answers]
        )
        vote = await store.votes.cast(comparison.id, teacher.id, "ranked", [1, 0])
        await store.ratings.add(answers[1].id, teacher.id, 1)
        await store.versions.learned(VERSION.id, [("vote", vote.id)])
        chain = await store.conversations.start("chain", guild_id=5, channel_id=6, lang="en")
        mine = await store.conversations.add_message(
            conversation_id=chain,
            parent_id=None,
            role="user",
            text="My cat is called Ferris.",
            name="The Newcomer",
            member_id=newcomer.id,
            discord_id=7,
        )
        told["conversation_id"] = chain
        answer = await store.conversations.add_message(
            parent_id=mine.id, role="assistant", text="Fine name.", **told
        )
        await store.ratings.add(answer.id, newcomer.id, 1)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a store with a little in it."""
    url = f"sqlite:///{tmp_path / 'feedback.db'}"
    asyncio.run(_fill(url))
    return url


def ask(*arguments: object, answer: str | None = None) -> Result:
    environment = {"COLUMNS": "100", "TERM": "dumb"}
    return CliRunner().invoke(feedback_app, [*map(str, arguments)], input=answer, env=environment)


def told(*arguments: object, answer: str | None = None) -> str:
    """What a command says that ends well."""
    result = ask(*arguments, answer=answer)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(*arguments: object, kind: type[GuildError] = GuildError) -> GuildError:
    """The error that a command ends with."""
    result = ask(*arguments)
    assert isinstance(result.exception, kind), (result.output, result.exception)
    return result.exception


def read_rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in text.decode().splitlines()]


def test_stats_in_words(store: str) -> None:
    text = told("stats", "--store", store)
    lines = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in text.splitlines()}
    assert lines["members"] == "2  consent: 1 chat, 1 train"
    assert lines["messages"] == "5  3 answers"
    assert lines["ratings"] == "2  2 up"
    assert lines["votes"] == "1  1 ranked"
    assert lines["reports"] == "0"
    assert "The left answer wins 0% of 1 decided votes" in text
    assert lines["starter@8f3a21c0"].split() == ["3", "2", "0"]
    assert "wins" not in text.split("version", 1)[1]  # it met no other version


def test_text_from_outside_is_shown_whole_and_steers_nothing() -> None:
    shown = visible("[b]10\u00a0000 👩\u200d💻\x1b[2J\u202e")
    assert shown.plain == "[b]10\u00a0000 👩\u200d💻␛[2J�"


def test_stats_of_an_empty_store(tmp_path: Path) -> None:
    async def make(url: str) -> None:
        await (await Store.open(url, key=member_key(url))).close()

    url = f"sqlite:///{tmp_path / 'new.db'}"
    asyncio.run(make(url))
    assert told("stats", "--store", url) == "Nobody has talked to the bot yet.\n"


def test_stats_of_versions_that_met(store: str) -> None:
    async def meet() -> None:
        async with await Store.open(store, key=member_key(store)) as opened:
            teacher = await opened.members.of_user(TEACHER)
            snapshot = await opened.snapshot()
            question = next(one for one in snapshot.messages if one.text == "What is TLS?")
            newer = await opened.conversations.add_message(
                conversation_id=question.conversation_id,
                parent_id=question.id,
                role="assistant",
                text="Transport Layer Security.",
                version_id="newer@00000000",
                synthetic=True,
            )
            older = next(one for one in snapshot.messages if one.text == "A protocol.")
            shown = await opened.votes.add_comparison(question.id, [older.id, newer.id])
            await opened.votes.cast(shown.id, teacher.id, "ranked", [1, 0])

    asyncio.run(meet())
    lines = told("stats", "--store", store).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if "@" in line}
    assert rows["newer@00000000"] == ["1", "0", "0", "1", "0", "0", "100%"]
    assert rows["starter@8f3a21c0"] == ["3", "2", "0", "0", "1", "0", "0%"]


def test_stats_as_json(store: str) -> None:
    found = json.loads(told("stats", "--store", store, "--json"))
    assert (found["up"], found["down"], found["votes"]["ranked"]) == (2, 0, 1)
    assert found["left_wins"]["of"] == 1
    assert found["agreement"]["alpha"] is None
    in_guild = json.loads(told("stats", "--store", store, "--guild", 5, "--json"))
    assert (in_guild["conversations"], in_guild["left_wins"]["of"]) == (1, 0)


@pytest.mark.parametrize(
    ("form", "count"), [("oasst", 1), ("preference", 1), ("kto", 1), ("sft", 1), ("arena", 1)]
)
def test_every_form_is_written(store: str, tmp_path: Path, form: str, count: int) -> None:
    out = tmp_path / "rows.jsonl"
    text = told("export", form, "--out", out, "--store", store)
    rows = read_rows(out)
    assert len(rows) == count
    assert "Ferris" not in out.read_text()
    assert text.startswith(f"{out}: {count} row\n")
    if form in ("oasst", "kto", "sft"):
        assert "left out, text of members (the operator's switch is off): 1" in text


def test_members_text_leaves_by_the_switch_that_states_the_rule(store: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    found = json.loads(
        told("export", "kto", "--out", out, "--store", store, "--train-on-members", "--json")
    )
    assert found == {"file": str(out), "rows": 2, "left_out": {}}
    assert "Ferris" in out.read_text()
    assert "The Newcomer" not in out.read_text()
    help_text = " ".join(told("export", "--help").replace("│", " ").split())
    assert "--train-on-members" in help_text
    assert "Discord's Developer Policy, rule 21" in help_text
    assert "may not be used to train machine-learning models" in help_text


def test_the_margin(store: str, tmp_path: Path) -> None:
    told("export", "preference", "--out", tmp_path / "p.jsonl", "--store", store, "--margin")
    assert read_rows(tmp_path / "p.jsonl")[0]["margin"] == 1.0


def test_a_zipped_export_is_the_same_each_time(store: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    for out in (first, second):
        told("export", "oasst", "--out", out, "--store", store)
    assert first.read_bytes() == second.read_bytes()
    assert read_rows(first)[0]["prompt"]["text"] == "What is TLS?"


def test_an_export_overwrites_only_when_told(store: str, tmp_path: Path) -> None:
    out = tmp_path / "mine.jsonl"
    out.write_text("precious")
    error = refused("export", "sft", "--out", out, "--store", store)
    assert "there already" in error.what
    assert "--force" in str(error.remedy)
    assert out.read_text() == "precious"
    told("export", "sft", "--out", out, "--store", store, "--force")
    assert read_rows(out)


def test_a_failed_export_leaves_no_file_behind(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "rows.jsonl"
    out.parent.mkdir()
    out.write_text("precious")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    error = refused("export", "sft", "--out", out, "--store", store, "--force")
    assert "No space left on device" in error.what
    assert [path.read_text() for path in out.parent.iterdir()] == ["precious"]


def test_an_export_of_nothing_says_why(store: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    error = refused("export", "kto", "--out", out, "--store", store, "--guild", 5)
    assert "nothing to export" in error.what
    assert "the operator's switch is off" in str(error.remedy)
    error = refused("export", "arena", "--out", out, "--store", store, "--guild", 404)
    assert error.remedy == "No vote and no rating is in the store."
    assert not out.exists()


def test_an_unknown_form_is_told_the_nearest(store: str, tmp_path: Path) -> None:
    error = refused("export", "preferences", "--out", tmp_path / "x", "--store", store)
    assert str(error.remedy).startswith("Did you mean preference? ")


def test_where_an_export_cannot_go(store: str, tmp_path: Path) -> None:
    assert "is a folder" in refused("export", "sft", "--out", tmp_path, "--store", store).what
    nowhere = tmp_path / "nowhere" / "x.jsonl"
    assert "no such folder" in refused("export", "sft", "--out", nowhere, "--store", store).what


@pytest.mark.parametrize("arguments", [("stats",), ("export", "sft", "--out", "x"), ("erase", 1)])
def test_no_store_yet(tmp_path: Path, arguments: tuple[object, ...]) -> None:
    missing = tmp_path / "none.db"
    for store in (missing, f"sqlite:///{missing}"):
        error = refused(*arguments, "--store", store)
        assert "no feedback store yet" in error.what
        assert error.where == str(missing)
    assert not missing.exists()
    assert not list(tmp_path.glob("*.key"))


TREE = {
    "message_tree_id": "11111111-1111-4111-8111-111111111111",
    "tree_state": "ready_for_export",
    "prompt": {
        "message_id": "11111111-1111-4111-8111-111111111111",
        "text": "What is TLS?",
        "role": "prompter",
        "labels": {"quality": {"value": 1.0, "count": 3}},
        "zebra": [1, None, {"b": 1, "a": 2}],
        "replies": [
            {
                "message_id": f"22222222-2222-4222-8222-22222222222{place}",
                "parent_id": "11111111-1111-4111-8111-111111111111",
                "text": f"Answer {place}",
                "role": "assistant",
                "rank": 1 - place,
                "replies": [],
            }
            for place in (0, 1)
        ],
    },
}


def test_import_makes_a_store_and_export_gives_the_file_back(tmp_path: Path) -> None:
    file, out, url = tmp_path / "t.jsonl.gz", tmp_path / "out.jsonl", tmp_path / "new.db"
    file.write_bytes(gzip.compress((json.dumps(TREE) + "\n").encode()))
    found = json.loads(told("import", file, "--store", url, "--json"))
    assert (found["counts"]["messages"], found["left_out"]) == (3, {})
    told("export", "oasst", "--out", out, "--store", url)
    assert read_rows(out) == [TREE]
    first = out.read_bytes()
    again = told("import", out, "--store", url)  # what is there already is passed over
    assert "messages already there: 3" in again
    told("import", out, "--store", tmp_path / "other.db")
    told("export", "oasst", "--out", out, "--store", tmp_path / "other.db", "--force")
    assert out.read_bytes() == first
    told("export", "preference", "--out", tmp_path / "p.jsonl", "--store", url)
    assert read_rows(tmp_path / "p.jsonl")[0]["chosen"][0]["content"] == "Answer 1"


def test_import_of_what_is_no_tree(tmp_path: Path) -> None:
    file, store = tmp_path / "t.jsonl", tmp_path / "new.db"
    assert "no such file" in refused("import", file, "--store", store, kind=DataError).what
    file.write_text('{"instruction": "x"}\n')
    assert "neither a tree nor" in refused("import", file, "--store", store, kind=DataError).what
    prompt = {"message_id": "q", "text": "", "role": "prompter"}
    file.write_text(json.dumps({"message_tree_id": "q", "prompt": prompt}) + "\n")
    assert "no text: 1" in str(refused("import", file, "--store", store).remedy)
    assert not store.exists()


def test_erase_asks_first_and_names_what_learned(store: str, tmp_path: Path) -> None:
    result = ask("erase", TEACHER, "--store", store, answer="n\n")
    assert result.exit_code == 1
    assert json.loads(told("stats", "--store", store, "--json"))["members"] == 2
    text = told("erase", f"<@{TEACHER}>", "--store", store, answer="y\n")
    assert "votes: 1" in text
    assert "Learned from it: starter@8f3a21c0. Train these again." in text
    assert json.loads(told("stats", "--store", store, "--json"))["members"] == 1
    error = refused("export", "preference", "--out", tmp_path / "p.jsonl", "--store", store)
    assert "nothing to export" in error.what


def test_who_votes_at_a_terminal_is_erased_by_their_name(store: str) -> None:
    with_store(store, lambda opened: opened.members.of_account("terminal", "anna"))
    assert "accounts: 1" in told("erase", "anna", "--account", "--store", store, "--yes")
    said = told("erase", "anna", "--account", "--store", store, "--yes")
    assert "Nothing of this user was in the store." in said


def test_nothing_of_an_erased_member_is_in_any_export(store: str, tmp_path: Path) -> None:
    erased = json.loads(told("erase", NEWCOMER, "--store", store, "--yes", "--json"))
    assert erased["versions"] == []
    assert sum(erased["counts"].values()) > 0
    for form in ("oasst", "preference", "kto", "sft", "arena"):
        out = tmp_path / f"{form}.jsonl"
        told("export", form, "--out", out, "--store", store, "--train-on-members")
        for word in ("Ferris", "Fine name", "Newcomer"):
            assert word not in out.read_text()
    text = told("erase", NEWCOMER, "--store", store, "--yes")
    assert "Nothing of this user was in the store." in text


TRAINED = "tonight@1a2b3c4d"


@pytest.mark.parametrize("form", ["oasst", "preference", "kto", "sft", "arena"])
def test_export_train_erase_names_the_version(store: str, tmp_path: Path, form: str) -> None:
    """Only the teacher's vote and rating are in these rows; the question is the operator's."""
    out = tmp_path / "rows.jsonl.gz"
    told("export", form, "--out", out, "--store", store)
    text = told("learned", TRAINED, "--rows", out, "--store", store)
    assert text.startswith(f"{TRAINED} learned from ")
    told("learned", TRAINED, "--rows", out, "--store", store)  # a second time changes nothing
    unconcerned = json.loads(told("erase", NEWCOMER, "--store", store, "--yes", "--json"))
    assert unconcerned["versions"] == []
    erased = json.loads(told("erase", TEACHER, "--store", store, "--yes", "--json"))
    assert TRAINED in erased["versions"]


def test_a_members_own_text_is_traced_as_well(store: str, tmp_path: Path) -> None:
    files = [tmp_path / "sft.jsonl", tmp_path / "kto.jsonl"]
    for file in files:
        told("export", file.stem, "--out", file, "--store", store, "--train-on-members")
    found = json.loads(
        told("learned", TRAINED, "--rows", files[0], "--rows", files[1], "--store", store, "--json")
    )
    assert found == {
        "version": TRAINED,
        "noted": {"message": 4, "rating": 2},
        "gone": 0,
        "rows_unknown": 0,
    }
    erased = json.loads(told("erase", NEWCOMER, "--store", store, "--yes", "--json"))
    assert erased["versions"] == [TRAINED]


def test_what_was_erased_before_it_was_noted_is_told_and_not_kept(
    store: str, tmp_path: Path
) -> None:
    out = tmp_path / "sft.jsonl"
    told("export", "sft", "--out", out, "--store", store, "--train-on-members")
    told("erase", NEWCOMER, "--store", store, "--yes")
    text = told("learned", TRAINED, "--rows", out, "--store", store)
    assert "learned from 2 messages, 1 rating." in text
    assert "3 more are not in the store any more" in text
    again = json.loads(told("erase", NEWCOMER, "--store", store, "--yes", "--json"))
    assert again["versions"] == []


def test_a_model_is_named_by_its_folder(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tonight" / "sft" / "model"
    folder.mkdir(parents=True)
    (folder / "template.json").write_text("{}")
    (folder / "model-q8_0.gguf").write_bytes(b"weights")
    out = tmp_path / "kto.jsonl"
    told("export", "kto", "--out", out, "--store", store)
    text = told("learned", folder, "--rows", out, "--store", store)
    assert text.startswith("sft@9a129038 learned from ")
    erased = json.loads(told("erase", TEACHER, "--store", store, "--yes", "--json"))
    assert "sft@9a129038" in erased["versions"]


def test_rows_that_say_nothing_or_are_of_another_store(store: str, tmp_path: Path) -> None:
    out, other = tmp_path / "kto.jsonl", tmp_path / "other.db"
    told("export", "kto", "--out", out, "--store", store)
    asyncio.run(_fill(f"sqlite:///{other}"))
    error = refused("learned", TRAINED, "--rows", out, "--store", other)
    assert "in this store" in error.what
    assert "--store" in str(error.remedy)
    out.write_text('{"messages": []}\n')
    assert "no row says" in refused("learned", TRAINED, "--rows", out, "--store", store).what
    error = refused("learned", "no/such/model", "--rows", out, "--store", store)
    assert "no row says" in error.what  # the rows come first


@pytest.mark.parametrize("user", ["newcomer", "-1", "9" * 19, "1.5", "<#80351110224678912>"])
def test_what_is_no_user_id(store: str, user: str) -> None:
    error = refused("erase", "--store", store, "--yes", "--", user)
    assert "is no user id" in error.what
    assert "Developer Mode" in str(error.remedy)


# Where things lie


def test_the_default_store_lies_in_the_users_data_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "linux":
        assert default_store() == f"sqlite:///{home / 'data' / 'guildgpt' / 'feedback.db'}"
    monkeypatch.setenv(STORE_VARIABLE, "postgresql://operator@host/guild")
    assert default_store() == "postgresql://operator@host/guild"
    monkeypatch.setenv(STORE_VARIABLE, str(home / "mine.db"))
    assert default_store() == f"sqlite:///{home / 'mine.db'}"
    assert "mine.db" in str(refused("stats").where)


def test_urls_and_files() -> None:
    assert store_file("sqlite:///a/b.db") == Path("a/b.db")
    assert store_file("sqlite+aiosqlite:////a/b.db?timeout=5") == Path("/a/b.db")
    assert store_file("sqlite://") is None
    assert store_file("postgresql://user:secret@host/name") is None
    assert as_url("~/x.db") == f"sqlite:///{Path.home() / 'x.db'}"


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'feedback.db'}"
    key = member_key(url)
    path = tmp_path / "new" / "feedback.db.key"
    assert len(key) == 32
    assert bytes.fromhex(path.read_text()) == key == member_key(url)
    assert [entry.name for entry in path.parent.iterdir()] == ["feedback.db.key"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        assert member_key(url) == key
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_servers_key_lies_in_the_data_folder(home: Path) -> None:
    key = member_key("postgresql://operator:secret@host/guild")
    (path,) = home.rglob("member.key")
    assert bytes.fromhex(path.read_text()) == key


def test_the_key_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, " " + "ab" * 32 + "\n")
    assert member_key(f"sqlite:///{tmp_path / 'x.db'}") == b"\xab" * 32
    assert not list(tmp_path.glob("*.key"))
    for bad in ("hunter2", "ab" * 31, "ä" * 64):
        monkeypatch.setenv(KEY_VARIABLE, bad)
        with pytest.raises(GuildError, match="this is no key") as error:
            member_key("sqlite:///x.db")
        assert bad not in str(error.value)


def test_a_lost_key_is_not_replaced(store: str, tmp_path: Path) -> None:
    key = tmp_path / "feedback.db.key"
    kept = key.read_text()
    key.unlink()
    error = refused("stats", "--store", store)
    assert "the key of this store's members is gone" in error.what
    assert not key.exists()
    key.write_text("0" * 64)
    refused("stats", "--store", store, kind=StoreError)
    key.write_text(kept)
    told("stats", "--store", store)
    key.write_text("not a key")
    assert "this is no key" in refused("stats", "--store", store).what


def test_help_loads_neither_database_nor_tables() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\n"
        "from guildgpt.feedback.cli import feedback_app\n"
        "assert CliRunner().invoke(feedback_app, ['--help']).exit_code == 0\n"
        "print(*[m for m in ('sqlalchemy', 'alembic', 'asyncio', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("command", [["stats"], ["export", "kto", "--out", "kto.jsonl"]])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bot:S3cret@corp@host:port/guild",
        "postgresql://bot:S3cret/corp",
        "postgresql://bot:S3cret@h/guild?corp",
        "host=h password=S3cret dbname=corp",
    ],
)
def test_no_command_shows_the_stores_password(
    command: list[str], url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    done = subprocess.run(
        [sys.executable, "-m", "guildgpt", "feedback", *command, "--store", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 1
    assert "S3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "postgresql://user:password@host" in done.stderr


def test_what_is_kept_of_a_member(store: str, tmp_path: Path) -> None:
    out = tmp_path / "member.json"
    wanted = ("member", NEWCOMER, "--out", out, "--store", store)
    assert "messages: 1\nratings: 1\n" in told(*wanted)
    kept = json.loads(out.read_text())
    assert kept["member"]["consent"] == "train"
    [said] = kept["messages"]
    assert said["text"] == "My cat is called Ferris."
    assert [answer["text"] for answer in said["answers"]] == ["Fine name."]
    assert "TLS" not in out.read_text()
    assert out.stat().st_mode & 0o777 == 0o600
    assert refused(*wanted).what == "the file is there already"
    assert json.loads(told(*wanted, "--force", "--json"))["messages"] == 1
    nobody = refused("member", 1234567890123456789, "--out", tmp_path / "x", "--store", store)
    assert nobody.what == "nothing of this user is in the store"
    assert not (tmp_path / "x").exists()


def test_the_reports_and_that_somebody_has_looked(store: str) -> None:
    assert "nothing to look at" in told("reports", "--store", store)

    async def report() -> None:
        async with await Store.open(store, key=member_key(store)) as opened:
            answer = (await opened.snapshot(guild_id=5)).messages[-1]
            await opened.reports.add(answer.id, None, "[red]No[/] cat is \x1b[31mfine.")

    asyncio.run(report())
    (one,) = json.loads(told("reports", "--json", "--store", store))
    assert one["text"] == "Fine name."
    assert "member" not in str(one)
    shown = told("reports", "--store", store)
    assert "[red]No[/] cat" in shown
    assert "\x1b" not in shown
    assert one["id"][:8] in shown
    assert told("reports", "--guild", 6, "--json", "--store", store) == "[]\n"
    result = ask("reports", "--looked-at", "zzz", "--store", store)
    assert isinstance(result.exception, GuildError)
    assert "no reports have an id that begins with zzz" in str(result.exception)
    told("reports", "--looked-at", one["id"][:8], "--store", store)
    assert "nothing to look at" in told("reports", "--store", store)
    (one,) = json.loads(told("reports", "--all", "--json", "--store", store))
    assert one["resolved_at"]
