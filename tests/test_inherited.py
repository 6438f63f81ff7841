"""Commands and tests, started in all the ways that programs are started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ignoring import ignoring

ROOT = Path(__file__).parents[1]
PATIENCE = 240.0  # seconds until something counts as hung, however busy the machine is


def test_what_tests_start_begins_with_default_signals() -> None:
    code = """
import signal
numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD
print([number.name for number in numbers if signal.getsignal(number) is signal.SIG_IGN])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_whoever_started_the_tests() -> None:
    """A shell that runs them in the background lets them ignore Ctrl-C."""
    test = f"{__file__}::test_what_tests_start_begins_with_default_signals"
    command = ignoring("-m", "pytest", "-p", "no:cacheprovider", test)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


STREAMS = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


@pytest.mark.parametrize("closed", STREAMS)
@pytest.mark.parametrize("command", [("data", "preview", "starter", "--json"), ("chat", "starter")])
def test_closed_streams(starter: Path, command: tuple[str, ...], closed: str) -> None:
    """Closed standard input is empty, closed output goes nowhere."""
    script = f'exec "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "guildgpt", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("licence" in done.stdout) == ("data" in command and " >" not in f" {closed}")


def test_an_output_that_cannot_say_it_all() -> None:
    """A pipe of a system in which text is Latin-1, say."""
    command = [sys.executable, "-m", "guildgpt", "bot", "--check"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "DISCORD_TOKEN": ""}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=PATIENCE)
    assert b"Traceback" not in done.stderr
    assert b"? token: there is none" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_that_nobody_knows() -> None:
    """No HOME, and no entry among the users: as in many a container."""
    code = """
import os
os.setgroups([]); os.setgid(54321); os.setuid(54321)
from guildgpt.inherited import set_right
set_right()
from guildgpt.paths import cache_dir
print(cache_dir())
"""
    names = ("HOME", "XDG_CACHE_HOME", "GUILDGPT_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", f"import platformdirs, guildgpt.paths, guildgpt.inherited\n{code}"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE,
    )
    assert done.stdout == "/.cache/guildgpt\n", done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_blocked_signals_are_taken_too(number: signal.Signals) -> None:
    code = f"""
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {{{int(number)}}})
from guildgpt.inherited import set_right
set_right()
os.kill(os.getpid(), {int(number)})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE)
    ended = -signal.SIGINT if number is signal.SIGINT else 128 + number
    assert done.returncode == ended, done.stderr
