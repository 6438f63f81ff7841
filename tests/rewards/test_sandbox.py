"""The sandbox against code that wants out of it: real processes, real attacks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from guildgpt.rewards import sandbox
from guildgpt.rewards.confine import DEFAULT_LIMITS, Level, Limits
from guildgpt.rewards.sandbox import SandboxError, Snippet, check, run, run_all
from tests.rewards.conftest import processes

pytestmark = pytest.mark.usefixtures("nothing_left")

SHORT = Limits(seconds=2.0, cpu_seconds=1)


def output(code: str, limits: Limits = DEFAULT_LIMITS) -> str:
    ran = run(code, limits)
    assert ran.good, ran
    return ran.output


def error(code: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """The last line of the traceback."""
    ran = run(code, limits)
    assert (ran.ended, ran.status) == ("exit", 1), ran
    return ran.output.splitlines()[-1]


# --- what works ---


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("print(6 * 7)", "42\n"),
        ("import sys; print('é東', file=sys.stderr)", "é東\n"),
        ("import json, re, math, hashlib, sqlite3, zoneinfo; print(math.tau > 6)", "True\n"),
        ("open('note', 'w').write('kept'); print(open('note').read())", "kept\n"),
        ("import os; open('a', 'w'); os.rename('a', 'b'); print(os.listdir())", "['b']\n"),
        ("import os; open('a', 'w'); os.remove('a'); print(os.listdir())", "[]\n"),
        ("import tempfile; f = tempfile.TemporaryFile(); print(f.write(b'abc'))", "3\n"),
        ("import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    print('slept')\n"
         "asyncio.run(main())", "slept\n"),
        ("from dataclasses import *\n@dataclass\nclass P:\n    x: int\nprint(P(3))", "P(x=3)\n"),
        ("import sys; print(sys.stdin.read() == '')", "True\n"),
        ("if __name__ == '__main__': print('main')", "main\n"),
        ("import os; print(open(os.devnull, 'w').write('x'))", "1\n"),
    ],
)  # fmt: skip
def test_ordinary_programs_run(code: str, printed: str) -> None:
    assert output(code) == printed


def test_exit_status_and_traceback_are_told() -> None:
    assert run("raise SystemExit(3)").status == 3
    assert run("import os; os._exit(0)").good
    assert error("1 / 0") == "ZeroDivisionError: division by zero"
    assert error("this is no Python").startswith("SyntaxError")
    ran = run("import ctypes; ctypes.string_at(0)")
    assert (ran.ended, ran.status) == ("signal", -11)


def test_hashes_and_random_numbers_are_the_same_in_every_run() -> None:
    code = "import random; print(hash('a'), random.random(), [*{'a', 'b', 'c'}])"
    assert output(code) == output(code)


def test_runs_know_nothing_of_each_other() -> None:
    write = Snippet(
        "import builtins, math; builtins.x = math.pi = 4; open('left', 'w').write('here')"
    )
    look = Snippet(
        "import builtins, math, os; print(math.pi < 4, hasattr(builtins, 'x'), os.listdir())"
    )
    assert [r["output"] for r in run_all([write, look] * 2)] == ["", "True False []\n"] * 2


def test_results_keep_their_order_on_several_workers() -> None:
    snippets = [Snippet(f"print({number})") for number in range(7)]
    assert [r["output"] for r in run_all(snippets, workers=3)] == [f"{n}\n" for n in range(7)]
    assert run_all([], workers=3) == []
    with pytest.raises(ValueError, match="at least 1 worker"):
        run_all(snippets, workers=0)


# --- time and memory ---


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        "import os\nos.close(1); os.close(2)\nwhile True: pass",
        "import resource\ntry: resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))\n"
        "except (OSError, ValueError): pass\nwhile True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ],
    ids=["loop", "sleep", "deaf", "silent", "resource", "catches all"],
)
def test_an_endless_loop_is_ended(code: str) -> None:
    assert run(code, SHORT).ended == "time"


def test_cpu_time_that_is_used_up_is_said_by_the_kernel() -> None:
    """Not guessed from a clock: on a busy machine the two do not agree."""
    ran = run("while True: pass", Limits(seconds=240.0, cpu_seconds=1))
    assert (ran.ended, ran.status) == ("time", -signal.SIGXCPU)


def test_a_huge_allocation_fails() -> None:
    assert error("x = bytearray(4 << 30)") == "MemoryError"
    assert error("import mmap; mmap.mmap(-1, 4 << 30)").startswith("OSError: [Errno 12]")
    assert error("x = []\nwhile True: x.append(bytes(1 << 20))") == "MemoryError"


def test_the_limits_cannot_be_raised() -> None:
    assert "not allowed to raise" in error(
        "import resource as r; r.setrlimit(r.RLIMIT_AS, (r.RLIM_INFINITY, r.RLIM_INFINITY))"
    )
    assert error(
        "import resource as r, os; r.prlimit(os.getppid(), r.RLIMIT_CPU, (1, 1))"
    ).startswith("PermissionError")


def test_deep_recursion_harms_nobody() -> None:
    assert error("def f(): f()\nf()").startswith("RecursionError")
    code = """
import sys
sys.setrecursionlimit(10**9)
def f(x): sorted([x], key=f)
f(1)
"""
    assert run(code, SHORT).ended in ("signal", "exit", "time")
    assert output("print('still here')") == "still here\n"


# --- output and files ---


def test_output_is_cut() -> None:
    ran = run("while True: print('x' * 1000)", Limits(output_kib=8))
    assert ran.ended == "output"
    assert len(ran.output) == 8 * 1024


def test_files_are_small_and_few() -> None:
    assert error("open('big', 'wb').write(bytes(2 << 20))").startswith("OSError: [Errno 27]")
    many = "import time\nfor n in range(100): open(f'{n}', 'w').write('x')\ntime.sleep(60)"
    assert run(many).ended == "files"
    full = (
        "import time\nfor n in range(9): open(f'{n}', 'wb').write(bytes(1 << 20))\ntime.sleep(60)"
    )
    assert run(full, Limits(files_mib=4)).ended == "files"
    assert error("import os; os.mkdir('folder')").startswith("PermissionError")
    assert error("fs = [open(f'{n}', 'w') for n in range(60)]").startswith("OSError: [Errno 24]")


def test_its_folder_is_gone_afterwards() -> None:
    folder = Path(output("import os; open('left', 'w'); print(os.getcwd())").strip())
    assert folder.is_absolute()
    assert not folder.exists()
    assert not folder.parent.exists()


# --- what lies outside ---


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("the secret")
    return path


@pytest.mark.parametrize(
    "code",
    [
        "open({path!r}).read()",
        "import os; os.open({path!r}, os.O_RDONLY)",
        "open({path!r}, 'w').write('gone')",
        "open({path!r} + '2', 'w')",
        "import os; os.open({path!r}, os.O_RDONLY | os.O_TRUNC)",
        "import os; os.truncate({path!r}, 0)",
        "import os; os.remove({path!r})",
        "import os; os.rename({path!r}, 'mine')",
        "import os; os.link({path!r}, 'mine')",
        "import os; os.symlink({path!r}, 'link'); open('link').read()",
        "import os; os.chmod({path!r}, 0o777)",
        "import os; os.utime({path!r})",
        "import os; os.listdir(os.path.dirname({path!r}))",
        "import os; open(os.path.relpath({path!r})).read()",
        "import os; os.chdir(os.path.dirname({path!r})); open('secret').read()",
        "import os; os.mkfifo({path!r} + '3')",
        "open('/etc/passwd').read()",
        "open('/etc/shadow').read()",
        "import os; open(f'/proc/{{os.getppid()}}/environ').read()",
        "open('/proc/self/mem', 'r+b')",
        "open('/dev/shm/mine', 'w')",
        "import os; os.listdir('/home')",
    ],
)
def test_files_outside_are_closed_to_it(code: str, secret: Path) -> None:
    assert error(code.format(path=str(secret))).startswith("PermissionError")
    assert secret.read_text() == "the secret"
    assert [path.name for path in secret.parent.iterdir()] == ["secret"]


def test_a_link_that_leads_outside_opens_nothing(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code cannot make one; should one lie in its folder, then it is of no use."""
    plant = "import os, tempfile; make = tempfile.mkdtemp\n"
    plant += "def mkdtemp(**where):\n    folder = make(**where)\n"
    plant += f"    os.symlink({str(secret)!r}, folder + '/link'); return folder\n"
    plant += "tempfile.mkdtemp = mkdtemp; "
    monkeypatch.setattr(sandbox, "_START", plant + sandbox._START)
    assert output("import os; print(os.listdir())") == "['link']\n"
    assert error("open('link').read()").startswith("PermissionError")
    assert error("open('link', 'w')").startswith("PermissionError")


def test_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "the secret")
    shown = output(
        "import os; print(sorted(os.environ), os.environb, os.getenv('HOME') == os.getcwd())"
    )
    assert shown.startswith("['HOME', 'LANG', 'TMPDIR', 'TZ']")
    assert "secret" not in shown
    assert shown.endswith("True\n")


def test_no_file_of_ours_is_open_in_it() -> None:
    code = """
import os
for number in range(3, 32):
    try:
        print(number, os.fstat(number))
    except OSError:
        pass
"""
    assert output(code) == ""


# --- the network ---


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('127.0.0.1', {port}))",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "import socket; socket.socket(socket.AF_INET6)",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "import socket; a, b = socket.socketpair(); a.connect('/run/{port}')",
        "import socket; a, b = socket.socketpair(); a.sendto(b'x', '/run/systemd/journal/socket')",
        "import socket; a, b = socket.socketpair(); a.bind('here')",
    ],
)
def test_the_network_is_closed_to_it(code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(0)
        assert error(code.format(port=port)).startswith("PermissionError")
        with pytest.raises(BlockingIOError):
            server.accept()


# --- processes ---


@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.kill(-1, 9)",
        "import os; os.killpg(0, 9)",
        "import os; os.setsid()",
        "import os; os.setuid(12345)",
        "import os; os.nice(-5)",
        "import os; os.sched_setaffinity(os.getppid(), [0])",
        "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "import os; os.memfd_create('x')",
        "import os; os.unshare(0) if hasattr(os, 'unshare') else os.chroot('.')",
        "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid())",
        "import fcntl, os; fcntl.fcntl(1, 10, 9)  # F_SETSIG",
        "import fcntl; fcntl.ioctl(0, 0x5412, b'x')  # TIOCSTI",
        "import signal; signal.pidfd_send_signal(0, 9)",
    ],
)
def test_other_processes_are_out_of_its_reach(code: str) -> None:
    assert error(code).startswith("PermissionError")


def test_there_are_no_threads() -> None:
    code = (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=[60]).start()"
    )
    assert error(code) == "RuntimeError: can't start new thread"


CALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(*map(ctypes.c_long, {arguments})), ctypes.get_errno())
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="these are the numbers of x86_64")
@pytest.mark.parametrize(
    "arguments",
    [
        [157, 38, 0],  # prctl: no_new_privs off
        [157, 22, 0],  # prctl: seccomp
        [157, 4, 1],  # prctl: dumpable
        [317, 1, 0, 0],  # seccomp
        [444, 0, 0, 1],  # landlock_create_ruleset
        [126, 0, 0],  # capset
        [101, 16, 1],  # ptrace
        [310, 1, 0, 0, 0, 0, 0],  # process_vm_readv
        [311, 1, 0, 0, 0, 0, 0],  # process_vm_writev
        [425, 1, 0],  # io_uring_setup
        [435, 0, 88],  # clone3
        [56, 0x100, 0],  # clone
        [437, -100, 0, 0, 24],  # openat2
        [321, 0, 0, 0],  # bpf
        [272, 0x10000000],  # unshare
        [165, 0, 0, 0, 0, 0],  # mount
        [250, 0, 0],  # keyctl
        [62 | 0x40000000, 1, 9],  # kill, by the x32 numbers
        [41 | 0x40000000, 2, 1, 0],  # socket, by the x32 numbers
        [9999],
    ],
)
def test_system_calls_past_python_are_refused(arguments: list[int]) -> None:
    assert output(CALL.format(arguments=arguments)) == "-1 1\n"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86_64")
def test_the_32_bit_door_is_shut() -> None:
    """int 0x80 with the i386 number of getpid: the process is killed on the spot."""
    code = """
import ctypes, mmap
room = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
room.write(bytes.fromhex("b814000000cd80c3"))
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(room)))())
"""
    ran = run(code)
    assert (ran.ended, ran.status, ran.output) == ("signal", -31, "")  # SIGSYS


# --- the sandbox itself ---


def test_a_fork_bomb_leaves_no_process() -> None:
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert run(bomb, SHORT).ended == "time"


def test_nothing_outlives_a_trainer_that_is_killed() -> None:
    code = "from guildgpt.rewards.sandbox import run; run('while True: pass')"
    trainer = subprocess.Popen([sys.executable, "-c", code])
    while len(processes()) < 2:  # the keeper, and what it forked
        assert trainer.poll() is None
    trainer.kill()
    trainer.wait()
    pause = threading.Event()
    while processes():
        pause.wait(0.05)


def test_a_dead_keeper_is_an_error_with_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_START", "raise SystemExit('the keeper is ill')")
    with pytest.raises(SandboxError, match=r"rows.jsonl:7: .*the keeper is ill"):
        run_all([Snippet("print(1)", where="rows.jsonl:7")])


def test_a_step_that_the_kernel_refuses_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = sandbox._START.replace(
        "from guildgpt.rewards.keeper",
        "from guildgpt.rewards import seccomp; seccomp.program = lambda *a, **k: bytes(8); "
        "from guildgpt.rewards.keeper",
    )
    monkeypatch.setattr(sandbox, "_START", spoilt)
    with pytest.raises(SandboxError, match=r"the sandbox failed: OSError.*prctl 22"):
        run("print(1)")


def test_a_machine_that_cannot_confine_runs_nothing() -> None:
    with pytest.raises(SandboxError, match="cannot confine code") as raised:
        run("print(1)", at="none")
    assert "Linux" in (raised.value.remedy or "")
    assert check("none").level == "none"


@pytest.mark.parametrize(("at", "word"), [("full", "all files"), ("read-only", "Landlock")])
def test_check_says_what_holds(at: Level, word: str) -> None:
    found = check(at)
    assert found.level == at
    assert word in found.words


def test_check_finds_out_a_sandbox_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = sandbox._START.replace(
        "from guildgpt.rewards.keeper import main",
        "from guildgpt.rewards import keeper; keeper.confine = lambda *a: None; main = keeper.main",
    )
    monkeypatch.setattr(sandbox, "_START", spoilt)
    found = check()
    assert found.level == "none"
    assert "does not hold" in found.words


@pytest.mark.parametrize(
    "code",
    [
        "open('mine', 'w')",
        "open({path!r}, 'w')",
        "import os; os.open({path!r}, os.O_RDONLY | os.O_TRUNC)",
        "import os; os.open('mine', os.O_RDONLY | os.O_CREAT)",
        "import os; os.remove({path!r})",
        "import os; os.rename({path!r}, {path!r} + '2')",
        "import socket; socket.socket()",
        "import os; os.fork()",
        "import os; open(f'/proc/{{os.getppid()}}/mem', 'rb')",
        "import os; open(f'/proc/{{os.getppid()}}/environ', 'rb')",
    ],
)
def test_without_landlock_nothing_is_written(code: str, secret: Path) -> None:
    ran = run(code.format(path=str(secret)), at="read-only")
    assert ran.status == 1
    assert ran.output.splitlines()[-1].startswith("PermissionError")
    assert secret.read_text() == "the secret"
