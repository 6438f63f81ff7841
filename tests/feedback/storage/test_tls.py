"""PostgreSQL over TLS: certificates right, wrong, taken back and asked for; and a socket."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from feedback.certificates import Authority
from feedback.conftest import KEY, folder_for, installed
from feedback.opening import asked, opened_in_vain, works
from feedback.postgres import PASSWORD, USER, Cluster, binaries, unprivileged
from guildgpt.feedback.store import Store


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The hoster's."""
    installed(shutil.which("openssl"), "OpenSSL", "openssl")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def secured(authority: Authority) -> Iterator[Cluster]:
    """A server called `localhost` that takes nothing but TLS over the network, and in the database
    `certified` a certificate besides the password; and a socket."""
    with folder_for("tls") as folder:
        files = unprivileged(folder)
        certificate = authority.sign("server", "localhost")
        for file in (certificate, certificate.with_suffix(".key"), authority.certificate):
            copy = shutil.copy(file, folder)
            if "user" in files:
                shutil.chown(copy, files["user"], files["group"])
        started = Cluster(
            folder,
            installed(binaries(), "PostgreSQL", "postgresql"),
            ssl="on",
            ssl_cert_file=str(folder / "server.crt"),
            ssl_key_file=str(folder / "server.key"),
            ssl_ca_file=str(folder / "ca.crt"),
            unix_socket_directories=str(folder),
        )
        (folder / "data" / "pg_hba.conf").write_text(
            "hostssl certified all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
            "hostssl all all 127.0.0.1/32 scram-sha-256\n"
            "local all all scram-sha-256\n"
        )
        try:
            started.start()
            yield started
        finally:
            started.stop()


def called(cluster: Cluster, host: str, database: str = "postgres") -> str:
    """The URL, with the host by that name."""
    return cluster.url(database).replace("127.0.0.1", host) + "?"


async def test_a_verified_certificate(secured: Cluster, authority: Authority) -> None:
    url = called(secured, "localhost") + f"sslrootcert={authority.certificate}"
    for more in ("sslmode=verify-full", "sslmode=require&channel_binding=require"):
        await works(f"{url}&{more}")
        async with await Store.open(f"{url}&{more}", key=KEY) as store:
            mine = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert await asked(store, mine) == [(True,)]


@pytest.mark.parametrize(
    "parameters", ["", "sslmode=prefer", "sslmode=allow", "sslmode=require", "ssl=true"]
)
async def test_tls_without_verification(secured: Cluster, parameters: str) -> None:
    await works(called(secured, "127.0.0.1") + parameters)


async def test_a_certificate_of_another_authority(secured: Cluster, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other").certificate
    for more in ("sslmode=verify-full", "sslmode=verify-ca", "channel_binding=require"):
        error = await opened_in_vain(called(secured, "localhost") + f"sslrootcert={other}&{more}")
        assert "the database server's certificate does not pass: " in error.what
        assert "sslrootcert=FILE" in str(error.remedy)


async def test_a_certificate_for_another_host(secured: Cluster, authority: Authority) -> None:
    url = called(secured, "127.0.0.1") + f"sslrootcert={authority.certificate}"
    await works(url + "&sslmode=verify-ca")
    error = await opened_in_vain(url + "&sslmode=verify-full")
    assert "IP address mismatch" in error.what
    assert error.remedy == "Write the host in the store's URL as the certificate names it."


async def test_channel_binding_is_never_passed_over(secured: Cluster, cluster: Cluster) -> None:
    """asyncpg cannot bind; what it would keep out must be kept out all the same."""
    for sslmode in ("", "&sslmode=require", "&sslmode=prefer"):
        error = await opened_in_vain(
            called(secured, "localhost") + f"channel_binding=require{sslmode}"
        )
        assert "certificate does not pass" in error.what
        assert "channel_binding=require" in str(error.remedy)
    plain = await opened_in_vain(called(cluster, "localhost") + "channel_binding=require")
    assert "does not speak TLS" in plain.what


async def test_the_systems_certificates(
    secured: Cluster, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with Neon's URL: the server's authority is one that this machine trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    for more in (
        "sslmode=require&channel_binding=require",
        "sslmode=verify-full",
        "sslrootcert=system",
    ):
        await works(called(secured, "localhost") + more)
        error = await opened_in_vain(called(secured, "127.0.0.1") + more)
        assert "IP address mismatch" in error.what


async def test_a_certificate_that_was_taken_back(secured: Cluster, authority: Authority) -> None:
    url = called(secured, "localhost") + f"sslmode=verify-full&sslrootcert={authority.certificate}"
    await works(f"{url}&sslcrl={authority.take_back()}")
    crl = authority.take_back(authority.folder / "server.crt")
    error = await opened_in_vain(f"{url}&sslcrl={crl}")
    assert "certificate revoked" in error.what


async def test_a_certificate_of_ones_own(secured: Cluster, authority: Authority) -> None:
    await execute_over_tls(secured, "CREATE DATABASE certified")
    mine = authority.sign("bot")
    url = called(secured, "127.0.0.1", "certified") + "sslmode=require"
    await works(f"{url}&sslcert={mine}&sslkey={mine.with_suffix('.key')}")
    error = await opened_in_vain(url)
    assert "does not let this user in: connection requires a valid client" in error.what


async def execute_over_tls(secured: Cluster, statement: str) -> None:
    connection = await asyncpg.connect(secured.url() + "?sslmode=require")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_server_that_wants_tls_or_does_not_speak_it(
    secured: Cluster, cluster: Cluster
) -> None:
    error = await opened_in_vain(called(secured, "127.0.0.1") + "sslmode=disable")
    assert "the database server does not let this user in: no pg_hba.conf entry" in error.what
    assert "sslmode=require" in str(error.remedy)
    error = await opened_in_vain(called(cluster, "127.0.0.1") + "sslmode=require")
    assert error.what == "the database server does not speak TLS, which the store's URL asks for"


async def test_a_socket(secured: Cluster) -> None:
    password = quote(PASSWORD)
    await works(
        f"postgresql://{USER}:{password}@/postgres?host={secured.folder}&port={secured.port}"
    )
