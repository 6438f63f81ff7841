"""The terminal chat: the conversation alone, then whole processes on a terminal and on a pipe."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE

import psutil
import pytest
from ignoring import ignoring
from letters import Letters
from terminals import PATIENCE, Terminal

from guildgpt.chat import CHATML, Message
from guildgpt.engines.engine import Chunk, SamplingParams, check_prompt
from guildgpt.errors import EngineDied, EngineError
from guildgpt.model.version import Version
from guildgpt.repl import Screen, Talk
from guildgpt.talk.fleet import Fleet, OpenedModel

CHAT = """
from guildgpt.engines.engine import SamplingParams
from guildgpt.repl import chat
chat("starter", params=SamplingParams(temperature=0, max_tokens={tokens}))
"""


class Parrot:
    """An engine that answers with the length of its prompt, or goes on for ever."""

    def __init__(self, context: int = 200):
        self.tokenizer = Letters()
        self.context = context
        self.prompts: list[str] = []
        self.seeds: list[int | None] = []
        self.endless = False

    async def generate(self, ids, params):
        check_prompt(ids, self.context)
        self.prompts.append(self.tokenizer.decode(ids))
        self.seeds.append(params.seed)
        yield Chunk((1,), f"heard {len(self.prompts)}")
        while self.endless:
            await asyncio.sleep(0.01)
            yield Chunk((1,), " …")
        yield Chunk((), "", "eos")


PARROT = Version("parrot", "parrot", "", "")


def talk(*engines: Parrot, system: str | None = None, **params) -> Talk:
    """A conversation with the first of the engines, with the next one when it died."""
    left = iter(engines)

    def open_it() -> OpenedModel:
        return OpenedModel(next(left), CHATML, lambda: PARROT)

    fleet = Fleet()
    fleet.add(open_it(), open_it)
    return Talk(fleet, SamplingParams(**params), system)


def say(conversation: Talk, question: str | None) -> str:
    heard = [""]
    if question is not None:
        conversation.ask(question)
    asyncio.run(conversation.reply(heard.append))
    return heard[-1]


def test_history_and_system_reach_the_engine() -> None:
    engine = Parrot()
    conversation = talk(engine, system="Be kind.")
    assert say(conversation, "One?") == "heard 1"
    say(conversation, "Two?")
    assert engine.prompts[1] == (
        "system\nBe kind.\nuser\nOne?\nassistant\nheard 1\nuser\nTwo?\nassistant\n"
    )


def test_retry_asks_the_same_with_another_seed() -> None:
    engine = Parrot()
    conversation = talk(engine, seed=5)
    assert not conversation.retry()
    say(conversation, "One?")
    assert conversation.retry()
    assert say(conversation, None) == "heard 2"
    assert engine.prompts[0] == engine.prompts[1]
    assert engine.seeds == [5, 6]
    assert conversation.turns == [Message("user", "One?"), Message("assistant", "heard 2")]


def test_the_earliest_exchanges_make_room() -> None:
    engine = Parrot(context=120)
    conversation = talk(engine, system="S", max_tokens=10)
    for number in range(4):
        say(conversation, f"Question {number}?")
    assert conversation.shortened
    assert engine.prompts[-1].startswith("system\nS\nuser\nQuestion 2?\n")
    assert len(conversation.turns) == 4


def test_a_question_longer_than_the_context_is_forgotten() -> None:
    conversation = talk(Parrot(context=50))
    with pytest.raises(EngineError, match="context holds 50"):
        say(conversation, "x" * 60)
    assert conversation.turns == []
    assert say(conversation, "short") == "heard 1"


def test_what_was_said_before_a_stop_stays_marked() -> None:
    engine = Parrot()
    engine.endless = True
    conversation = talk(engine)
    conversation.ask("Go on")

    async def stopped() -> None:
        heard = asyncio.Event()
        replying = asyncio.create_task(conversation.reply(lambda said: heard.set()))
        await heard.wait()
        replying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await replying

    asyncio.run(stopped())
    last = conversation.turns[-1]
    assert last.role == "assistant"
    assert re.fullmatch(r"heard 1( …)*…", last.content)
    assert conversation.stop == "cancelled"


class Mortal(Parrot):
    """Dies when its tokenizer is asked, or after the first words of its answer."""

    def __init__(self, *, at_once: bool):
        super().__init__()
        self.closed = False
        self.at_once = at_once
        if at_once:
            self.tokenizer.encode = self.die  # type: ignore[method-assign]

    def die(self, *_: object) -> list[int]:
        raise EngineDied("it died")

    async def generate(self, ids, params):
        yield Chunk((1,), "half an ans")
        self.die()

    async def close(self):
        self.closed = True


@pytest.mark.parametrize("at_once", [True, False])
def test_an_engine_that_died_is_opened_again(at_once: bool) -> None:
    dead = Mortal(at_once=at_once)
    conversation = talk(dead, Parrot())
    heard: list[str] = []
    conversation.ask("One?")
    asyncio.run(conversation.reply(heard.append))
    assert heard == ["half an ans"] * (not at_once) + ["heard 1"]
    assert conversation.turns == [Message("user", "One?"), Message("assistant", "heard 1")]
    assert dead.closed


def test_an_engine_that_dies_twice_is_said_and_the_question_forgotten() -> None:
    conversation = talk(Mortal(at_once=True), Mortal(at_once=False), Parrot())
    with pytest.raises(EngineDied):
        say(conversation, "One?")
    assert conversation.turns == []
    assert say(conversation, "Two?") == "heard 1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb\x07\r\n\tç🦜", "a[2Jb\n\tç🦜"),
        ("\x9b2Jb\x7f\x00", "2Jb"),
        ("a\u202eb\u202c \u2066c\u2069 \u206ad", "ab c d"),  # what turns the direction
        ("a\x0bb\x85c\u2028d", "a\nb\nc\nd"),
        ("half \ud83d", "half "),
    ],
)
def test_answers_cannot_steer_the_terminal(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Screen().write(text)
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    "text",
    [
        "10\u00a0000\u202fkm, 3\u2009cm",
        "東京\u3000大阪",
        "می\u200cخواهم",
        "क\u094d\u200dष",
        "👩\u200d👩\u200d👧 🏳\ufe0f\u200d🌈",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # England
        "\U0001fae9 \U0001fac6",  # newer than the tables of this Python
        "\ue0b0 is an icon",
        "สวัสดี\u200bครับ, soft\u00adhyphen",
        "שלום\u200f!",
    ],
)
def test_what_text_is_spelled_with_is_printed(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Screen().write(text)
    assert capsys.readouterr().out == text


def test_a_pipe_gets_answers_and_nothing_else(starter: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHAT.format(tokens=6)],
        input="Say hi\n\n/reset\nWho \\\nare you?\n/reset\nSay hi\n/system\u00a0Be kind.\n/system",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"^I'm glad to make your$", done.stdout, re.M)) == 2
    assert done.stdout.endswith("\nThe model is told: Be kind.\n")
    assert "Talking to" not in done.stdout
    assert ">" not in done.stdout


class Talker(Terminal):
    """A person who chats."""

    def enter(self, line: str) -> None:
        """Type a line once readline listens, which then echoes it in the terminal's place; typed
        earlier it would be echoed by both."""
        if find_spec("readline"):  # a Python without it never switches the echo off
            wait_until(lambda: not termios.tcgetattr(self.screen)[3] & termios.ECHO)
        self.type(line + "\n")

    def wait_for_its_turn(self) -> None:
        """Until the chat waits for a key. A signal that comes while readline draws is missed, until
        the next key."""
        wait_until(lambda: self.process.status() == psutil.STATUS_SLEEPING)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def terminal(starter: Path) -> Iterator[Talker]:
    # Long enough to be stopped on a busy machine.
    person = Talker("chat", "starter", "--temperature", 0, "--max-tokens", 400, TERM="dumb")
    yield person
    person.close()


def answer_to(terminal: Talker, line: str) -> str:
    """Type a line and wait for the next prompt; what stood between."""
    terminal.enter(line)
    return terminal.see(r"\n> ").split("\n", 1)[1].removesuffix("\n> ")


def test_a_session_on_a_terminal(terminal: Talker) -> None:
    """One process for the whole story, as a person would use it."""
    terminal.see(r"Talking to starter \(SmolLM2-135M-Instruct\)\. /help for commands\.\n> ")

    assert "There is no command /foo" in answer_to(terminal, "/foo")
    assert "/system TEXT" in answer_to(terminal, "/help")
    assert "Nothing was asked yet" in answer_to(terminal, "/retry")

    hi = answer_to(terminal, "Say hi")
    assert hi
    assert answer_to(terminal, "/retry") == hi  # greedy, and the same history

    assert answer_to(terminal, "/system Answer in capital letters.") == (
        "The model is told: Answer in capital letters."
    )
    assert "capital letters" in answer_to(terminal, "/system")
    assert "forgotten" in answer_to(terminal, "/reset")
    assert answer_to(terminal, "Say hi") != hi

    # Ctrl-C during an answer stops the answer.
    terminal.enter("Write a very long story about a lighthouse.")
    terminal.see(r"lighthouse\.\n.+")
    terminal.type("\x03")
    assert "…\n(stopped)" in terminal.see(r"\n> ")
    assert answer_to(terminal, "Say hi")

    # Ctrl-C at the prompt forgets the line.
    terminal.type("half a li")
    terminal.see("half a li")
    terminal.wait_for_its_turn()
    terminal.type("\x03")
    terminal.see(r"\(Ctrl-D or /exit leaves\.\)\n> ")

    terminal.type("```\nSay\n")
    terminal.see(r"\. .*\. ")
    assert answer_to(terminal, "hi\n```")

    terminal.type("\x04")
    assert terminal.leave() == 0


@pytest.mark.parametrize("answering", [False, True])
def test_sigterm_ends_a_session(terminal: Talker, answering: bool) -> None:
    """At once and quietly, and llama.cpp with it."""
    terminal.see(r"/help for commands\.\n> ")
    if answering:
        terminal.enter("Write a very long story about a lighthouse.")
        terminal.see(r"lighthouse\.\n.+")
    else:
        terminal.wait_for_its_turn()
    (engine,) = terminal.process.children()
    terminal.process.terminate()
    said = terminal.rest()
    assert terminal.leave() == 128 + signal.SIGTERM
    assert not re.search("Traceback|Error|exception", said), said
    engine.wait(PATIENCE)


def test_ctrl_c_between_questions_from_a_pipe(starter: Path) -> None:
    """There is nobody to go on with: it ends, quietly."""
    command = ignoring("-m", "guildgpt", "chat", "starter", "--max-tokens", 4)
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("Say hi\n")
        process.stdin.flush()
        assert process.stdout.readline()
        chat = psutil.Process(process.pid)
        (engine,) = chat.children()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 128 + signal.SIGINT
        assert (process.stdout.read(), process.stderr and process.stderr.read()) == ("", "")
    engine.wait(PATIENCE)


def engine_of(terminal: Talker) -> psutil.Process:
    """The process that llama.cpp runs in, once there is one that lives."""

    def living() -> list[psutil.Process]:
        children = terminal.process.children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    wait_until(living)
    return living()[0]


@pytest.mark.slow
def test_an_engine_that_is_killed_under_a_terminal(terminal: Talker) -> None:
    terminal.see(r"/help for commands\.\n> ")
    engine_of(terminal).kill()
    assert answer_to(terminal, "Say hi").strip()  # killed while idle: nothing is seen of it

    terminal.enter("Write a very long story about a lighthouse.")
    terminal.see(r"lighthouse\.\n.{40}")
    engine_of(terminal).kill()
    told = terminal.see(r"\n> ")
    assert "…\n(The model broke down and was started again; it begins anew.)\n" in told
    assert told.partition("anew.)\n")[2].strip("\n> ")
