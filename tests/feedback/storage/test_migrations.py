"""The migrations make the schema, whole or not at all, however many open the store at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from feedback.conftest import KEY
from guildgpt.errors import StoreError
from guildgpt.feedback.exporting.exports import export
from guildgpt.feedback.storage.database import Database, migrate
from guildgpt.feedback.storage.schema import HEAD, VERSION_TABLE, accounts, metadata
from guildgpt.feedback.store import Store


@pytest_asyncio.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A migrated database."""
    opened = await Database.open(url, patience=1.0)
    yield opened
    await opened.close()


def described(connection: Connection) -> dict[str, Any]:
    """Every table as the database itself describes it."""
    found = inspect(connection)
    return {
        table: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(table)
            },
            "key": found.get_pk_constraint(table),
            "links": sorted(found.get_foreign_keys(table), key=str),
            "unique": sorted(found.get_unique_constraints(table), key=str),
            "indexes": sorted(found.get_indexes(table), key=str),
        }
        for table in found.get_table_names()
        if table != VERSION_TABLE
    }


async def test_the_migrations_make_what_the_schema_says(database: Database) -> None:
    """Where this fails, `guildgpt/feedback/storage/schema.py` was changed and lacks a migration."""

    def both(connection: Connection) -> tuple[dict[str, Any], dict[str, Any]]:
        migrated = described(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        return migrated, described(connection)

    migrated, declared = await database.write(both, alone=True)
    assert set(migrated) == set(metadata.tables)
    assert migrated == declared


def test_the_newest_migration_is_named_in_the_schema() -> None:
    config = Config()
    config.set_main_option("script_location", "guildgpt.feedback.storage:migrations")
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == HEAD
    ids = [revision.revision for revision in script.walk_revisions()]
    assert ids == [f"{number:04}" for number in range(len(ids), 0, -1)]  # one line, in order


async def fill_older(url: str, revision: str, rows: list[str]) -> None:
    """Make a store as it was before the next migration, with these rows."""

    class Older(Database):
        async def _prepare(self) -> None:
            await self.write(lambda connection: migrate(connection, revision))

    def fill(connection: Connection) -> None:
        for row in rows:
            connection.execute(text(row.replace(":", "\\:")))

    older = await Older.open(url, patience=1.0)
    await older.write(fill)
    await older.close()


async def test_a_store_from_before_deletions_were_followed(empty_url: str) -> None:
    """Comparisons are found by their messages on Discord, those of earlier days too."""
    now = "'2026-01-01 00:00:00+00:00'"
    rows = [
        f"INSERT INTO conversations VALUES ('c', 'slash', 1, 2, 'discord', 'en', {now})",
        *(
            "INSERT INTO messages (id, conversation_id, parent_id, role, text, synthetic, deleted, "
            f"extra, created_at) VALUES ('{id}', 'c', {above}, '{role}', '{text}', "
            f"false, false, '{{}}', {now})"
            for id, above, role, text in (
                ("q", "null", "user", "which?"),
                ("a", "'q'", "assistant", "this wombat"),
                ("b", "'q'", "assistant", "that wombat"),
            )
        ),
        "INSERT INTO deliveries (id, event_id, kind, question_id, state, extra, created_at, "
        f"updated_at) VALUES ('d', 7, 'compare', 'q', 'done', '{{}}', {now}, {now})",
        "INSERT INTO parts VALUES ('d', 0, 77)",
        f"INSERT INTO comparisons VALUES ('k', 'q', null, {now})",
        "INSERT INTO candidates VALUES ('k', 0, 'b'), ('k', 1, 'a')",
        f"INSERT INTO votes VALUES ('v', 'k', null, 'tie', '[]', {now})",
    ]

    await fill_older(empty_url, "0001", rows)
    async with await Store.open(empty_url, key=KEY) as store:
        message = await store.conversations.message("a")
        assert message
        assert (message.text, message.outdated, message.edited_at) == ("this wombat", False, None)
        assert (await store.revisions.mark_deleted(77)).counts == {
            "messages": 2,
            "votes": 1,
            "comparisons": 1,
        }
        assert "wombat" not in repr(await store.snapshot())


async def test_a_store_from_before_means_were_kept(empty_url: str) -> None:
    """What its closed rounds say is noted once, by the votes that stand."""
    now = "'2026-01-01 00:00:00+00:00'"
    rows = [
        "INSERT INTO decisions (id, state, candidate_id, baseline_id, settings, created_at, "
        f"updated_at) VALUES ('d', 'canary', 'new@2', 'old@1', '{{}}', {now}, {now})",
        *(
            f"INSERT INTO members VALUES ('{name}', 'hash {name}', 'chat', {now}, {now})"
            for name in "abcde"
        ),
        *_old_round(1, "discord", "closed", ("old@1", "new@2"), "a10 b10 c01 d10"),
        *_old_round(2, "discord", "closed", ("new@2", "old@1"), "e10 b= c- -10"),
        *_old_round(3, "discord", "closing", ("new@2", "old@1"), ""),
        *_old_round(4, "discord", "open", ("new@2", "old@1"), "a10"),
        *_old_round(5, "terminal", "closed", ("new@2", "old@1"), "a10"),
        *_old_round(6, "discord", "closed", ("other@3", "old@1"), "a10"),
        "INSERT INTO votes VALUES ('again', 'k1', 'a', 'ranked', '[0, 1]', "
        "'2026-01-02 00:00:00+00:00')",
    ]
    await fill_older(empty_url, "0003", rows)
    async with await Store.open(empty_url, key=KEY) as store:
        means = await store.rounds.means("d")
        assert [astuple(one)[1:] for one in means] == [
            (1, "r1", 0.5, 4, 4, 0),  # a changed their mind
            (2, "r2", pytest.approx(0.5 / 3), 3, 6, 0),
            (3, "r3", None, 0, 6, 0),
        ]
        assert await store.rounds.end("r3")  # and not once more
        assert len(await store.rounds.means("d")) == 3


async def test_a_store_from_before_the_web_page(empty_url: str) -> None:
    """Corrections that nobody had to review count as before; accounts are voters'."""
    now = "'2026-01-01 00:00:00+00:00'"
    rows = [
        f"INSERT INTO members VALUES ('m', 'hash', 'chat', {now}, {now})",
        "INSERT INTO accounts (id, member_id, kind, name, secret, created_at) "
        f"VALUES ('n', 'm', 'terminal', 'anna', null, {now})",
        "INSERT INTO conversations (id, kind, source, lang, created_at) "
        f"VALUES ('c', 'terminal', 'terminal', 'en', {now})",
        *(
            "INSERT INTO messages (id, conversation_id, parent_id, role, text, synthetic, deleted, "
            f"extra, created_at) VALUES ('{id}', 'c', {above}, '{role}', '{text}', "
            f"false, false, '{{}}', {now})"
            for id, above, role, text in (
                ("q", "null", "user", "which?"),
                ("a", "'q'", "assistant", "this wombat"),
            )
        ),
        "INSERT INTO corrections (id, message_id, member_id, text, created_at) "
        f"VALUES ('k', 'a', 'm', 'that wombat', {now})",
    ]
    await fill_older(empty_url, "0004", rows)
    async with await Store.open(empty_url, key=KEY) as store:
        found = await store.snapshot()
        [correction] = found.corrections
        assert (correction.text, correction.state) == ("that wombat", "accepted")
        assert (correction.licence, correction.decided_at) == ("", None)
        [row] = await store.database.rows(select(accounts))
        assert (row.name, row.role, row.ended_at) == ("anna", "voter", None)
        assert await store.accounts.all() == []  # of the web page
        [pair] = export(found, "preference").rows
        assert pair["chosen"] == [{"role": "assistant", "content": "that wombat"}]


def _old_round(
    number: int, place: str, state: str, wrote: tuple[str, str], cast: str
) -> Iterator[str]:
    """A round's rows as migration 0003 has them: `a10` ranks the second answer first, `=` is a tie,
    `-` behind a name a skip; one before it is nobody's vote."""
    now = f"'2026-01-01 00:0{number}:00+00:00'"
    yield (
        "INSERT INTO prompts (id, text, sha256, purpose, source, licence, credit, lang, state, "
        f"created_at) VALUES ('p{number}', 'q{number}', '{number}', 'decide', 'tests', 'CC0-1.0', "
        f"'', 'en', 'accepted', {now})"
    )
    yield (
        "INSERT INTO conversations (id, kind, source, lang, created_at) "
        f"VALUES ('c{number}', 'round', '{place}', 'en', {now})"
    )
    for id, role, version in (
        ("q", "user", None),
        ("x", "assistant", wrote[0]),
        ("y", "assistant", wrote[1]),
    ):
        yield (
            "INSERT INTO messages (id, conversation_id, role, text, version_id, synthetic, "
            f"deleted, extra, created_at) VALUES ('{id}{number}', 'c{number}', '{role}', 'words', "
            + (f"'{version}'" if version else "null")
            + f", false, false, '{{}}', {now})"
        )
    yield f"INSERT INTO comparisons VALUES ('k{number}', 'q{number}', null, {now})"
    for position, id in enumerate("xy"):
        yield f"INSERT INTO candidates VALUES ('k{number}', {position}, '{id}{number}')"
    yield (
        "INSERT INTO rounds (id, prompt_id, comparison_id, decision_id, place, state, created_at, "
        f"closed_at) VALUES ('r{number}', 'p{number}', 'k{number}', 'd', '{place}', '{state}', "
        f"{now}, {now if state != 'open' else 'null'})"
    )
    for one in cast.split():
        name, said = one[0], one[1:]
        member = "null" if name == "-" else f"'{name}'"
        verdict = {"=": "tie", "-": "skip"}.get(said, "ranked")
        ranking = [int(place) for place in said] if verdict == "ranked" else []
        yield (
            f"INSERT INTO votes VALUES ('{number}{name}', 'k{number}', {member}, '{verdict}', "
            f"'{ranking}', {now})"
        )


async def test_many_open_a_new_store_at_once(empty_url: str) -> None:
    stores = await asyncio.gather(*(Store.open(empty_url, key=KEY) for _ in range(4)))
    members = [await store.members.of_user(1) for store in stores]
    assert len({member.id for member in members}) == 1
    for store in stores:
        await store.close()


async def test_a_migration_that_breaks_off_leaves_nothing(database: Database) -> None:
    def empty(connection: Connection) -> None:
        metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))

    def broken(connection: Connection) -> None:
        migrate(connection)
        raise RuntimeError("the power went")

    await database.write(empty)
    with pytest.raises(RuntimeError, match="power"):
        await database.write(broken)
    tables = await database.read(lambda connection: inspect(connection).get_table_names())
    assert tables == []


async def test_a_store_of_a_newer_guildgpt(url: str, database: Database) -> None:
    newer = text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    await database.execute(newer)
    with pytest.raises(StoreError, match="a newer GuildGPT wrote this store") as caught:
        await Store.open(url, key=KEY)
    assert "pip install -U guildgpt" in str(caught.value)


async def test_a_database_of_something_else(url: str, database: Database) -> None:
    await database.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    with pytest.raises(StoreError, match="holds something else"):
        await Store.open(url, key=KEY)


def test_a_store_that_is_up_to_date_opens_without_alembic(made_file: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from guildgpt.feedback.store import Store\n"
        f"async def main(): await (await Store.open({str(made_file)!r}, key={KEY!r})).close()\n"
        "asyncio.run(main())\n"
        "print([name for name in ('alembic', 'mako', 'asyncpg') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
