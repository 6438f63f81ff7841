"""A real PostgreSQL: a cluster of its own in a temporary folder, on a loopback port; also as a
replica of another, and behind a real PgBouncer."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import asyncpg
from ports import free_port

PATIENCE = 240  # seconds until a server counts as hung, however busy the machine is
USER, PASSWORD = "guild", "open sesame"


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`; Debian keeps them out of the PATH."""
    found = [path for name in ("initdb", "postgres") if (path := shutil.which(name))]
    if len(found) == 2:
        return Path(found[0]).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


class Cluster:
    """A server that can be stopped and started again."""

    def __init__(
        self, folder: Path, programs: Path, *, replica_of: Cluster | None = None, **settings: str
    ):
        self.folder = folder
        self.programs = programs
        self.port = free_port()
        self._settings = settings
        self._server: subprocess.Popen[bytes] | None = None
        self._as = unprivileged(folder)
        if replica_of is not None:
            self._run("pg_basebackup", "-R", "-c", "fast", "-d", replica_of.url())
            return
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        access = ("-U", USER, "--pwfile", str(secret), "-A", "scram-sha-256")
        self._run("initdb", *access, "-E", "UTF8", "--no-locale", "-N")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, "-D", self.folder / "data", *arguments],
            capture_output=True,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "max_connections": "60",
            **self._settings,
        }
        command: list[str | Path] = [
            self.programs / "postgres",
            "-D",
            self.folder / "data",
            "-p",
            str(self.port),
        ]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, **self._as)
        for _ in range(PATIENCE * 20):
            ready = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run(ready, check=False).returncode == 0:
                return
            assert self._server.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """Stop it now, as in a fast shutdown: whoever is connected is cut off."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(PATIENCE)
            self._server = None

    def url(self, database: str = "postgres") -> str:
        """As people write it."""
        return _url(self.port, database)

    async def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement outside any transaction."""
        connection = await asyncpg.connect(self.url(database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class PgBouncer:
    """A pooler before a cluster, as hosters run it."""

    def __init__(self, folder: Path, program: str, cluster: Cluster, **settings: str):
        self.port = free_port()
        users = folder / "users"
        users.write_text(f'"{USER}" "{PASSWORD}"\n')
        configuration = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            "pool_mode": "transaction",
            "default_pool_size": "3",
            "server_round_robin": "1",
            "query_wait_timeout": "5",  # seconds that a client waits for a session
            **settings,
        }
        lines = [f"{name} = {value}" for name, value in configuration.items()]
        ini = folder / "pgbouncer.ini"
        databases = f"[databases]\n* = host=127.0.0.1 port={cluster.port}\n"
        ini.write_text("\n".join([databases, "[pgbouncer]", *lines, ""]))
        with (folder / "log").open("wb") as log:
            command = [program, str(ini)]
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, **unprivileged(folder)
            )
        for _ in range(PATIENCE * 20):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError((folder / "log").read_text())

    async def open_sessions(self, database: str) -> None:
        """So that there are three, and each transaction goes to another one than the last."""
        clients = [await asyncpg.connect(self.url(database)) for _ in range(3)]
        transactions = [client.transaction() for client in clients]
        for transaction in transactions:
            await transaction.start()
        for client, transaction in zip(clients, transactions, strict=True):
            await transaction.rollback()
            await client.close()

    def stop(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def url(self, database: str = "postgres") -> str:
        """As people write it."""
        return _url(self.port, database)


def unprivileged(folder: Path) -> dict[str, Any]:
    """How a server is run in its folder: not as root, which these servers refuse."""
    how: dict[str, Any] = {"cwd": folder}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        how |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return how


def _url(port: int, database: str) -> str:
    return f"postgresql://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}/{database}"
