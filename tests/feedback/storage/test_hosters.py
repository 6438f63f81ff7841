"""PostgreSQL as hosters sell it: URLs, poolers, replicas, limits and habits of their servers."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from sqlalchemy import Connection

from feedback.conftest import KEY, SERVICES, folder_for, installed
from feedback.opening import PATIENCE, asked, opened_in_vain, works
from feedback.postgres import PASSWORD, USER, Cluster, PgBouncer
from guildgpt.errors import StoreError
from guildgpt.feedback.storage import postgres
from guildgpt.feedback.store import Store

_NUMBERS = count()


@pytest.fixture
def name(cluster: Cluster) -> Iterator[str]:
    """An empty database."""
    name = f"hoster_{next(_NUMBERS)}"
    asyncio.run(cluster.execute(f"CREATE DATABASE {name} TEMPLATE template0"))
    yield name
    asyncio.run(cluster.execute(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def member(cluster: Cluster, name: str) -> Iterator[str]:
    """A user who owns nothing; the URL of the database for them."""
    asyncio.run(cluster.execute(f"CREATE ROLE {name}_member LOGIN PASSWORD 'p'"))
    yield f"postgresql://{name}_member:p@127.0.0.1:{cluster.port}/{name}"
    asyncio.run(cluster.execute(f"DROP OWNED BY {name}_member CASCADE", name))
    asyncio.run(cluster.execute(f"DROP ROLE {name}_member"))


# Parameters of the URL, on a real server


async def test_parameters_arrive(cluster: Cluster, name: str) -> None:
    await cluster.execute("CREATE SCHEMA guild", name)
    parameters = (
        "application_name=guild%20bot&connect_timeout=5&keepalives_idle=77&gssencmode=disable"
        "&options=-c%20search_path%3Dguild%20-c%20statement_timeout%3D9s&client_encoding=utf8"
    )
    async with await Store.open(f"{cluster.url(name)}?{parameters}", key=KEY) as store:
        for setting, value in (
            ("application_name", "guild bot"),
            ("search_path", "guild"),
            ("statement_timeout", "9s"),
            ("client_encoding", "UTF8"),
        ):
            assert await asked(store, f"SHOW {setting}") == [(value,)]
        tables = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'messages'"
        assert await asked(store, tables) == [("guild",)]

        def idle(connection: Connection) -> int:
            driver: Any = connection.connection.driver_connection
            client = driver._transport.get_extra_info("socket")
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            return int(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))

        assert await store.database.read(idle) == 77


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("-c guild_colour=red", 'unrecognized configuration parameter "guild_colour"'),
        ("-c work_mem=red", 'invalid value for parameter "work_mem"'),
        ("endpoint=ep-cool-1", "invalid command-line argument"),
    ],
)
async def test_options_that_the_server_does_not_know(
    cluster: Cluster, options: str, what: str
) -> None:
    error = await opened_in_vain(f"{cluster.url()}?options={quote(options)}")
    assert "the database server refuses what the URL's `options` set" in error.what
    assert what in error.what


async def test_a_password_file(cluster: Cluster, name: str, tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text(f"127.0.0.1:{cluster.port}:*:{USER}:{PASSWORD}\n")
    file.chmod(0o600)
    await works(f"postgresql://{USER}@127.0.0.1:{cluster.port}/{name}?passfile={file}")


async def test_a_password_that_nobody_encoded(cluster: Cluster, name: str, member: str) -> None:
    secret = "S3cret@corp/#?:%x"
    await cluster.execute(f"ALTER ROLE {name}_member PASSWORD '{secret}'")
    await cluster.execute(f"ALTER DATABASE {name} OWNER TO {name}_member")
    try:
        await works(member.replace(":p@", f":{secret}@"))
    finally:
        await cluster.execute(f"ALTER DATABASE {name} OWNER TO {USER}")
    error = await opened_in_vain(member.replace(":p@", ":S3cret@wrong@"))
    assert error.what == "the database server refuses the user or the password"
    assert "urllib.parse.quote" in str(error)
    assert "S3cret" not in str(error)
    assert "wrong" not in str(error)


async def test_a_host_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await opened_in_vain("postgresql://u:p@guild.invalid/x")
    assert error.what == "the name of the database server is not known"


async def test_a_variable_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "five")
    error = await opened_in_vain("postgresql:///guild")
    assert "the connection to the database cannot be set up" in error.what
    assert "variables that begin with PG" in str(error.remedy)


@pytest.mark.parametrize(
    ("severity", "state", "words", "what"),
    [
        ("FATAL", "XX000", "Tenant or user not found", "refuses the connection: Tenant or user"),
        ("ERROR", "08P01", "Endpoint ID is not specified", "refuses the connection: Endpoint ID"),
        ("FATAL", "28P01", "password authentication failed", "refuses the user or the password"),
        ("FATAL", "53300", "remaining connection slots are reserved", "has no connection free"),
    ],
)
async def test_a_proxys_own_words(severity: str, state: str, words: str, what: str) -> None:
    """Supavisor's and Neon's: they answer in the server's place."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4))
        await reader.readexactly(length - 4)
        said = f"S{severity}\0C{state}\0M{words}\0\0".encode()
        writer.write(b"E" + (len(said) + 4).to_bytes(4) + said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        error = await opened_in_vain(f"postgresql://u:p@127.0.0.1:{port}/x?sslmode=disable")
    assert what in error.what


# Poolers


async def test_statements_stay_prepared_but_not_behind_a_pooler(
    cluster: Cluster, pooler: PgBouncer, name: str
) -> None:
    await pooler.open_sessions(name)
    left = "SELECT count(*) > 0 FROM pg_prepared_statements"
    for url, prepared in (
        (cluster.url(name), True),
        (pooler.url(name), False),
        (cluster.url(name) + "?pgbouncer=true", False),
        (cluster.url(name) + "?prepared_statement_cache_size=0", False),
    ):
        async with await Store.open(url, key=KEY) as store:
            await store.places.marks()
            for _ in range(3):  # the pooler's three sessions
                assert await asked(store, left) == [(prepared,)]


async def test_many_units_of_work_behind_a_pooler(pooler: PgBouncer, name: str) -> None:
    """More at once than it has sessions."""
    async with await Store.open(pooler.url(name), key=KEY) as store:
        await asyncio.gather(*(store.places.see(channel, 1, None) for channel in range(100)))
        reads = await asyncio.gather(*(store.places.marks() for _ in range(100)))
        assert all(len(marks) == 100 for marks in reads)
        assert await asked(store, "SHOW application_name") == [("guildgpt",)]


async def test_what_a_pooler_does_not_pass_on(pooler: PgBouncer, name: str) -> None:
    error = await opened_in_vain(pooler.url(name) + "?options=-c%20geqo%3Doff")
    assert "the pooler before the database refuses the connection: unsupported" in error.what
    assert "options" in error.what
    assert "ignore_startup_parameters" in str(error.remedy)


async def test_a_pooler_without_room(cluster: Cluster, name: str) -> None:
    program = installed(shutil.which("pgbouncer", path=SERVICES), "PgBouncer", "pgbouncer")
    with folder_for("pgbouncer") as folder:
        narrow = PgBouncer(folder, program, cluster, max_client_conn="1")
        try:
            taken = await asyncpg.connect(narrow.url(name))
            error = await opened_in_vain(narrow.url(name))
            assert "no more connections allowed" in error.what
            opening = asyncio.create_task(Store.open(narrow.url(name), key=KEY, patience=60))
            await taken.close()
            await (await opening).close()
        finally:
            narrow.stop()


async def test_a_pooler_that_lets_one_wait(
    cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does when its server is gone; here it is told to."""
    program = installed(shutil.which("pgbouncer", path=SERVICES), "PgBouncer", "pgbouncer")
    with folder_for("pgbouncer") as folder:
        more = {"query_wait_timeout": "60", "admin_users": USER}
        pooler = PgBouncer(folder, program, cluster, **more)
        try:
            async with await Store.open(pooler.url(name), key=KEY, patience=PATIENCE) as store:
                await store.places.see(1, 1, None)
                console = await asyncpg.connect(pooler.url("pgbouncer"))
                await console.execute("PAUSE")
                monkeypatch.setattr(postgres, "SECONDS_TO_BEGIN", 0.2)
                for unit in (store.places.see(1, 2, None), store.places.marks()):
                    with pytest.raises(StoreError, match="cannot be reached"):
                        await unit
                monkeypatch.undo()
                await console.execute("RESUME")
                await console.close()
                await store.places.see(1, 3, None)
                assert await store.places.marks() == {1: (None, 3)}
        finally:
            pooler.stop()


# What a database must be


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("through", ["cluster", "pooler"])
async def test_a_database_that_cannot_hold_every_text(
    cluster: Cluster, encoding: str, through: str, request: pytest.FixtureRequest
) -> None:
    narrow = f"narrow_{next(_NUMBERS)}"
    await cluster.execute(
        f"CREATE DATABASE {narrow} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' "
        "LC_CTYPE 'C'"
    )
    try:
        error = await opened_in_vain(request.getfixturevalue(through).url(narrow))
        assert error.what == f"the database's encoding is {encoding}: it cannot hold every text"
        assert "createdb -E UTF8 -T template0" in str(error.remedy)
        connection = await asyncpg.connect(cluster.url(narrow))
        assert await connection.fetch("SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
        await connection.close()
    finally:
        await cluster.execute(f"DROP DATABASE {narrow} WITH (FORCE)")


async def test_a_user_who_may_make_nothing(cluster: Cluster, name: str, member: str) -> None:
    await cluster.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)  # before 15
    error = await opened_in_vain(member)
    assert error.what == "the database's user lacks a permission"
    assert "GRANT USAGE, CREATE ON SCHEMA public TO name" in str(error.remedy)
    await cluster.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {name}_member", name)
    await works(member)


async def test_a_search_path_that_leads_nowhere(cluster: Cluster, name: str, member: str) -> None:
    await cluster.execute(f"ALTER ROLE {name}_member SET search_path = nowhere")
    error = await opened_in_vain(member)
    assert "the user's `search_path` names no schema" in error.what
    await cluster.execute(f"CREATE SCHEMA nowhere AUTHORIZATION {name}_member", name)
    await works(member)


async def test_a_short_statement_timeout(cluster: Cluster, name: str, member: str) -> None:
    await cluster.execute(f"GRANT CREATE ON SCHEMA public TO {name}_member", name)
    await works(member)
    await cluster.execute(f"ALTER ROLE {name}_member SET statement_timeout = '1s'")
    holder = await asyncpg.connect(cluster.url(name))
    try:
        async with await Store.open(member, key=KEY, patience=PATIENCE) as store:
            async with holder.transaction():
                await holder.execute(f"SELECT pg_advisory_xact_lock({postgres._ALONE})")
                with pytest.raises(StoreError, match="cut a statement off") as caught:
                    await store.places.see(1, 2, None)
            assert "ALTER ROLE name SET statement_timeout" in str(caught.value.remedy)
            await store.places.see(1, 3, None)
    finally:
        await holder.close()


async def test_too_many_connections_are_waited_for(
    cluster: Cluster, name: str, member: str
) -> None:
    await cluster.execute(f"GRANT CREATE ON SCHEMA public TO {name}_member", name)
    await cluster.execute(f"ALTER ROLE {name}_member CONNECTION LIMIT 1")
    taken = await asyncpg.connect(member)
    error = await opened_in_vain(member)
    assert error.what == "the database has no connection free"
    assert "CONNECTION LIMIT" in str(error.remedy)
    opening = asyncio.create_task(Store.open(member, key=KEY, patience=60))
    await taken.close()
    await (await opening).close()


# Habits


@pytest.mark.parametrize("through", ["cluster", "pooler"])
async def test_idle_connections_that_the_server_cut(
    cluster: Cluster, name: str, through: str, request: pytest.FixtureRequest
) -> None:
    """All that are idle in the pool at once: the next units of work hear nothing of it."""
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    url = request.getfixturevalue(through).url(name)
    async with await Store.open(url, key=KEY) as store:
        for turn in range(1, 4):
            await asyncio.gather(*(store.places.see(channel, turn, None) for channel in range(8)))
            await cluster.execute(cut)
            assert len(await store.places.marks()) == 8
            await cluster.execute(cut)
            await store.places.see(0, turn + 1, None)


@pytest.fixture(scope="module")
def replica(cluster: Cluster) -> Iterator[Cluster]:
    """A server that follows the cluster, and can only be read."""
    with folder_for("replica") as folder:
        following = Cluster(folder, cluster.programs, replica_of=cluster)
        try:
            following.start()
            yield following
        finally:
            following.stop()


async def test_a_replica(cluster: Cluster, replica: Cluster, name: str) -> None:
    await works(cluster.url(name))
    behind = await asyncpg.connect(cluster.url(name))
    wanted = await behind.fetchval("SELECT pg_current_wal_lsn()")
    await behind.close()
    follower = await asyncpg.connect(replica.url("postgres"))
    while not await follower.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", wanted):
        await asyncio.sleep(0.02)
    await follower.close()
    async with await Store.open(replica.url(name), key=KEY) as store:
        assert await store.places.marks() == {1: (None, 1)}
        with pytest.raises(StoreError, match="the database is read-only") as caught:
            await store.places.see(1, 2, None)
    assert "host1:5432,host2:5432" in str(caught.value.remedy)


async def test_of_several_hosts_the_one_that_takes_writes(
    cluster: Cluster, replica: Cluster, name: str
) -> None:
    """One is down, one takes no notice, one is a replica."""
    with socket.socket() as down, socket.socket() as deaf:
        for one in (down, deaf):
            one.bind(("127.0.0.1", 0))
        deaf.listen()
        hosts = [f"127.0.0.1:{server.getsockname()[1]}" for server in (down, deaf)]
        hosts += [f"127.0.0.1:{server.port}" for server in (replica, cluster)]
        url = f"postgresql://{USER}:{quote(PASSWORD)}@{','.join(hosts)}/{name}?connect_timeout=2"
        await works(url)
    error = await opened_in_vain(replica.url(name) + "?target_session_attrs=read-write")
    assert error.what == "no server of the store's URL can be written to"
