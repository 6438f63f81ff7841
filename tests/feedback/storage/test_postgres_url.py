"""A PostgreSQL URL as hosters hand it out: understood, or refused in words that show no secret."""

from __future__ import annotations

import socket
import ssl
import traceback
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from feedback.conftest import KEY
from guildgpt.errors import GuildError, StoreError
from guildgpt.feedback.storage.location import as_url
from guildgpt.feedback.storage.postgres_url import PostgresURL, read_url
from guildgpt.feedback.store import Store

HOST = "postgresql://bot:pw@db.example.org/guild"


def read(url: str, **environment: str) -> PostgresURL:
    return read_url(url, environment)


def refused(url: str, **environment: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        read(url, **environment)
    assert caught.value.remedy
    return caught.value


def tls(url: str, **environment: str) -> dict[str, str]:
    """What asyncpg is told of TLS in its DSN."""
    arguments = read(url, **environment).arguments
    assert "ssl" not in arguments
    return {key: value for key, [value] in parse_qs(urlsplit(arguments["dsn"]).query).items()}


# As hosters write them


@pytest.mark.parametrize(
    ("url", "host", "user", "database"),
    [
        (
            "postgres://u4f:p0a@ec2-52.compute-1.amazonaws.com:5432/d7h",
            ("ec2-52.compute-1.amazonaws.com", 5432),
            "u4f",
            "d7h",
        ),
        (
            "postgresql://postgres.abcd:p@aws-0-eu-central-1.pooler.supabase.com:6543/postgres"
            "?pgbouncer=true",
            ("aws-0-eu-central-1.pooler.supabase.com", 6543),
            "postgres.abcd",
            "postgres",
        ),
        (
            "postgresql://guild_owner:npg_x@ep-cool-1-pooler.eu-central-1.aws.neon.tech/neondb"
            "?sslmode=require&channel_binding=require&options=endpoint%3Dep-cool-1",
            ("ep-cool-1-pooler.eu-central-1.aws.neon.tech", 5432),
            "guild_owner",
            "neondb",
        ),
        (
            "postgresql://me%40corp:p@guild.postgres.database.azure.com/x?sslmode=require",
            ("guild.postgres.database.azure.com", 5432),
            "me@corp",
            "x",
        ),
        (
            "postgresql://u:p@/guild?host=/cloudsql/project:region:instance",
            ("/cloudsql/project:region:instance", 5432),
            "u",
            "guild",
        ),
        ("postgresql://u:p@%2Fvar%2Frun:5433/x", ("/var/run", 5433), "u", "x"),
        ("postgresql+asyncpg://u:p@[2001:db8::1]:5433/x", ("2001:db8::1", 5433), "u", "x"),
        ("postgresql:///x?host=h&port=5433&user=u&password=p", ("h", 5433), "u", "x"),
        ("  postgresql://u:p@h/?dbname=x\n", ("h", 5432), "u", "x"),
    ],
)
def test_hosters_urls(url: str, host: tuple[str, int], user: str, database: str) -> None:
    found = read(url)
    assert found.hosts == (host,)
    assert (found.arguments["user"], found.arguments["database"]) == (user, database)
    assert "p" in found.arguments["password"]
    assert not found.guessed


def test_several_hosts_mean_the_one_that_can_be_written_to() -> None:
    found = read("postgresql://u:p@one,two:5433,[::1]:5434/x")
    assert found.hosts == (("one", 5432), ("two", 5433), ("::1", 5434))
    assert found.arguments["target_session_attrs"] == "read-write"
    assert found.shown == "postgresql://u:***@one:5432,two:5433,[::1]:5434/x"
    assert read(HOST).arguments["target_session_attrs"] == "any"
    assert read(HOST + "?target_session_attrs=primary").arguments["target_session_attrs"] == (
        "primary"
    )
    named = read("postgresql://u@/x?host=one,two&port=5433")
    assert named.hosts == (("one", 5433), ("two", 5433))
    assert "another number of ports" in refused("postgresql:///x?host=a,b&port=1,2,3").what
    assert "a comma without a host" in refused("postgresql://a,,b/x").what


def test_parameters_that_are_passed_on() -> None:
    found = read(
        HOST + "?application_name=guild%20bot&options=-c%20search_path%3Dguild&connect_timeout=5"
        "&krbsrvname=pg&gsslib=gssapi&client_encoding=UTF8&gssencmode=prefer"
    ).arguments
    assert found["server_settings"] == {
        "application_name": "guild bot",
        "options": "-c search_path=guild",
    }
    assert (found["timeout"], found["krbsrvname"], found["gsslib"]) == (5.0, "pg", "gssapi")
    assert read(HOST).arguments["server_settings"] == {"application_name": "guildgpt"}
    assert read(HOST).arguments["timeout"] == 10.0
    assert read(HOST + "?connect_timeout=0").arguments["timeout"] is None


def test_keepalives_are_the_sockets() -> None:
    asked = read(HOST + "?keepalives_idle=77&keepalives_interval=7&keepalives_count=5")
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in asked.socket_options
    assert (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77) in asked.socket_options
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0) in read(
        HOST + "?keepalives=0"
    ).socket_options
    assert read("postgresql:///x?host=/tmp").socket_options == ()


def test_a_password_file(tmp_path: Path) -> None:
    url = f"postgresql://u@h/x?passfile={quote(str(tmp_path / 'pass'))}"
    assert "`passfile` in the store's URL cannot be read" in refused(url).what
    (tmp_path / "pass").write_text("*:*:*:*:sesame\n")
    (tmp_path / "pass").chmod(0o640)
    assert refused(url).remedy == "chmod 600 the file."
    (tmp_path / "pass").chmod(0o600)
    assert read(url).arguments["passfile"] == str(tmp_path / "pass")


# TLS


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_modes_that_verify_nothing(mode: str) -> None:
    assert tls(f"{HOST}?sslmode={mode}") == {"sslmode": mode}
    assert tls(HOST, PGSSLMODE=mode) == {"sslmode": mode}


def test_without_a_mode_it_is_asyncpgs_own() -> None:
    assert "dsn" not in read(HOST).arguments
    assert tls(HOST + "?ssl=true") == {"sslmode": "require"}
    assert tls(HOST + "?ssl=prefer") == {"sslmode": "prefer"}


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=verify-full",
        "sslmode=verify-full&sslrootcert=system",
        "sslrootcert=system",
        "channel_binding=require",
        "sslmode=require&channel_binding=require",
        "sslmode=prefer&channel_binding=require&sslrootcert=system",
    ],
)
def test_what_is_verified_with_the_systems_certificates(query: str, home: Path) -> None:
    context = read(f"{HOST}?{query}").arguments["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_users_own_root_certificate_goes_before_the_systems(home: Path) -> None:
    (home / ".postgresql").mkdir()
    (home / ".postgresql" / "root.crt").touch()
    assert tls(HOST + "?sslmode=verify-full") == {"sslmode": "verify-full"}
    assert tls(HOST + "?sslmode=verify-ca") == {"sslmode": "verify-ca"}
    assert tls(HOST + "?channel_binding=require") == {"sslmode": "verify-full"}


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("sslmode=verify-ca", "needs the certificate of your hoster's authority"),
        ("sslmode=require&sslrootcert=system", "needs `sslmode=verify-full`"),
        ("sslmode=verify_full", "`sslmode` in the store's URL has a value that it cannot have"),
        ("sslmode=disable&channel_binding=require", "cannot be met without TLS"),
        ("host=/tmp&channel_binding=require", "cannot be met without TLS"),
        ("sslnegotiation=direct", "needs TLS"),
        ("ssl_min_protocol_version=TLSv9", "`ssl_min_protocol_version`"),
        ("sslrootcert=/nowhere", "`sslrootcert` in the store's URL names a file that cannot be"),
        ("sslcert=/nowhere", "`sslcert` in the store's URL names a file that cannot be read"),
        ("sslcrl=/", "`sslcrl` in the store's URL names a file that cannot be read"),
    ],
)
def test_tls_that_cannot_be(query: str, what: str, home: Path) -> None:
    assert what in refused(f"{HOST}?{query}").what


def test_a_file_that_holds_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("Dear hoster, ")
    error = refused(f"{HOST}?sslrootcert={quote(str(file))}")
    assert "`sslrootcert` in the store's URL names a file that holds no certificate" in error.what
    assert error.where == str(file)
    assert "does not fit its key" in refused(f"{HOST}?sslcert={quote(str(file))}").what


# What is refused


@pytest.mark.parametrize(
    ("query", "what", "remedy"),
    [
        ("aplication_name=x", "`aplication_name`", "Did you mean `application_name`?"),
        ("schema=public", "`schema` in the store's URL is no parameter of PostgreSQL", "Take it"),
        ("service=guild", "`service` in the store's URL is not understood here", "Write host, "),
        ("hostaddr=10.0.0.1", "`hostaddr`", "in place of the host"),
        ("require_auth=scram-sha-256", "`require_auth`", "Take it out"),
        ("gssencmode=require", "`gssencmode`", "Write disable or prefer"),
        ("client_encoding=LATIN1", "`client_encoding`", "Write utf8"),
        ("target_session_attrs=standby", "cannot be written to", "write read-write"),
        ("target_session_attrs=secondary", "`target_session_attrs`", "Write any or read-write"),
        ("connect_timeout=5s", "`connect_timeout` in the store's URL is no whole number", "=10"),
        ("keepalives_idle=x", "`keepalives_idle`", "=10"),
        ("port=0", "the port in the store's URL is no number", "postgresql://user"),
    ],
)
def test_parameters_that_are_refused(query: str, what: str, remedy: str) -> None:
    error = refused(f"{HOST}?{query}")
    assert what in error.what
    assert remedy in str(error.remedy)


def test_a_hosters_placeholder() -> None:
    error = refused("postgresql://postgres:[YOUR-PASSWORD]@db.abcd.supabase.co:5432/postgres")
    assert "placeholder" in error.what


# Passwords


SECRETS = [
    *("S3cret@corp", "S3cret#corp", "S3cret/corp", "S3cret?corp", "S3cret:corp", "S3cret%corp"),
    *("S3cret@corp@S3cret", "S3cret?corp=1&S3cret=corp", "S3cret@corp?corp=S3cret", "@S3cret/:#?%"),
    "S3 cret corp",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("after", ["", "?sslmode=require", "?application_name=a@b"])
def test_a_password_that_nobody_encoded(secret: str, after: str) -> None:
    found = read(f"postgresql://bot:{secret}@h.example.org:5433/guild{after}")
    assert found.arguments["password"] == secret
    assert found.hosts == (("h.example.org", 5433),)
    assert found.arguments["database"] == "guild"
    assert "S3" not in found.shown + repr(found)
    assert found.guessed == (" " not in secret)
    encoded = read(f"postgresql://bot:{quote(secret, '')}@h.example.org:5433/guild{after}")
    assert encoded.arguments["password"] == secret
    assert not encoded.guessed


@pytest.mark.parametrize(
    "url",
    [
        *(f"postgresql://bot:{secret}" for secret in SECRETS if "@corp" not in secret),
        *(f"postgresql://bot:{secret}/guild" for secret in SECRETS if "@corp" not in secret),
        *(f"postgresql://bot:{secret}@h:port/guild" for secret in SECRETS),
        *(f"postgresql://bot:{secret}@h/guild?S3cret" for secret in SECRETS),
        *(f"postgresql://bot:{secret}@h/guild?connect_timeout=S3cret" for secret in SECRETS),
        *(f"postgresql://h/guild?user=bot&password={secret}&x=1" for secret in SECRETS),
        *(f"postgresql://bot:{secret}@{'h' * 70}/guild" for secret in SECRETS),
        *(f"postgresqI://bot:{secret}@h/guild" for secret in SECRETS),
        *(f"'postgresql://bot:{secret}@h/guild'" for secret in SECRETS),
        *(f"jdbc:postgresql://bot:{secret}@h/guild" for secret in SECRETS),
        *(f"sqlite://bot:{secret}@h/guild" for secret in SECRETS),
    ],
)
async def test_no_error_shows_a_part_of_a_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GuildError) as caught:
        await Store.open(url, key=KEY, patience=0.1)
    last = traceback.format_exception_only(caught.value)
    for part in ("S3", "cret", "corp"):
        assert part not in str(caught.value) + "".join(last)
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "host=db.example.org dbname=guild user=bot password=S3cret",
        "postgresql:bot:S3cret@h/guild",
        "password = S3cret",
        "jdbc:postgresql:guild?user=bot",
    ],
)
def test_what_names_a_server_is_no_file(text: str) -> None:
    with pytest.raises(GuildError, match="not as a URL") as caught:
        as_url(text)
    assert "S3cret" not in str(caught.value)


async def test_an_error_after_a_guess_says_how_to_encode() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        url = f"postgresql://bot:S3cret@corp@127.0.0.1:{taken.getsockname()[1]}/guild"
        with pytest.raises(StoreError) as caught:
            await Store.open(url, key=KEY, patience=0.1)
    assert "cannot be reached" in caught.value.what
    assert "urllib.parse.quote" in str(caught.value)
    assert "corp" not in str(caught.value)
