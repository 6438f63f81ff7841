"""`guildgpt feedback` as an operator meets it: a look at the store, imports, erasure."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from guildgpt.errors import DataError, GuildError
from guildgpt.feedback.commands import with_store
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.terminal import visible

from .asking import NEWCOMER, TEACHER, ask, read_rows, refused, told


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


def test_who_comes_by_the_web_page_is_known_by_their_name(store: str, tmp_path: Path) -> None:
    async def come(opened: Store) -> None:
        await opened.accounts.accept(await opened.accounts.invite("voter"), "anna", "a phone")

    with_store(store, come)
    out = tmp_path / "anna.json"
    told("member", "anna", "--web", "--out", out, "--store", store)
    assert json.loads(out.read_bytes())["sessions"][0]["device"] == "a phone"
    said = told("erase", "anna", "--account", "--store", store, "--yes")
    assert "Nothing of this user was in the store." in said  # that is somebody at a terminal
    assert "sessions: 1" in told("erase", "anna", "--web", "--store", store, "--yes")
    error = refused("member", "anna", "--web", "--out", out, "--force", "--store", store)
    assert "nothing of this user" in error.what


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


@pytest.mark.parametrize("user", ["newcomer", "-1", "9" * 19, "1.5", "<#80351110224678912>"])
def test_what_is_no_user_id(store: str, user: str) -> None:
    error = refused("erase", "--store", store, "--yes", "--", user)
    assert "is no user id" in error.what
    assert "Developer Mode" in str(error.remedy)


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
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
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
