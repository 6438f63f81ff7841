"""The terminal chat behind `guildgpt chat`.

Imports nothing heavy: from the start of the process to the first word of an answer there are two
seconds, and most of them belong to the model.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import TextIOWrapper

from guildgpt.chat import Message
from guildgpt.engines.engine import SamplingParams, StopReason, complete
from guildgpt.engines.served_at import ServedAt
from guildgpt.errors import GuildError
from guildgpt.model.locate import locate
from guildgpt.model.starter import MODEL, STARTER
from guildgpt.talk.fitting import keep_latest
from guildgpt.talk.fleet import Fleet, OpenedModel, open_model
from guildgpt.text.visible import harmless

PROMPT, CONTINUED = "> ", ". "
FENCE = "```"
BROKEN_OFF = "…"  # ends an answer that the person stopped, for the model to see as well
HELP = """\
/retry         ask the last question again
/reset         forget the conversation
/system TEXT   tell the model who it is; without TEXT, show what it was told
/help          this list
/exit          leave (Ctrl-D does too)
Ctrl-C         stop an answer
A line that ends in \\ goes on in the next. A line that starts with ``` opens
a block of lines, which a line of ``` closes."""


def chat(
    model: str | None,
    *,
    system: str | None = None,
    params: SamplingParams,
    at: ServedAt | None = None,
) -> None:
    """Talk to a model until the person leaves; `model` is what `locate` understands, `at` where it
    is served if it is.

    Without a terminal on standard input every line is a question, and the answers are all that is
    written. Raises `GuildError` when the model cannot be opened, and, without a terminal, when a
    question cannot be answered.
    """
    screen = Screen()
    found = locate(model, on_progress=screen.status)
    if screen.interactive:
        full = f"{found.name} ({MODEL})" if found.name == STARTER else found.name
        screen.note(f"Talking to {full}. /help for commands.")
        if at:
            screen.note(f"It answers from {at.url}.")
        elif found.weights:
            screen.note("It has no GGUF: torch answers, more slowly than llama.cpp.")
    first = open_model(found, at=at)
    for notice in first.notices:
        (screen.note if screen.interactive else screen.status)(notice)
    fleet = Fleet()
    fleet.add(first, lambda: open_model(found, at=at))
    with asyncio.Runner() as runner:
        try:
            Repl(Talk(fleet, params, system, first.template.system), screen, runner).run()
        finally:
            runner.run(_close(fleet))


@dataclass
class Talk:
    """A conversation with a model; it knows nothing of terminals.

    `turns` alternate between user and assistant; `stop` is why the last answer ended.
    """

    fleet: Fleet
    params: SamplingParams
    system: str | None
    default_system: str | None = None  # what the template says where `system` is None
    turns: list[Message] = field(default_factory=list)
    stop: StopReason | None = None
    context: int = 0  # tokens, as of the last question
    shortened: bool = False  # whether early exchanges had to be dropped

    def ask(self, question: str) -> None:
        """Add a question; `reply` answers it."""
        self.turns.append(Message("user", question))

    def retry(self) -> bool:
        """Take the last answer back; False if there is none."""
        if not self.turns:
            return False
        self.turns.pop()
        if self.params.seed is not None:  # else the same answer would come again
            self.params = replace(self.params, seed=self.params.seed + 1)
        return True

    async def reply(self, on_text: Callable[[str], None]) -> None:
        """Answer the last question; `on_text` gets the answer as it grows, cancelling stops it.

        It begins anew where the engine died on the way. What was said before it was cancelled
        stays in `turns`, marked. Raises `GuildError`, and then forgets the question.
        """
        said = ""
        self.stop = "cancelled"

        def listen(text: str) -> None:
            nonlocal said
            said = text
            on_text(text)

        try:
            completion = await self.fleet.ask(
                lambda model: complete(model.engine, self._prompt(model), self.params, listen)
            )
        except GuildError:
            self.turns.pop()
            raise
        except BaseException:
            self.turns.append(Message("assistant", said + BROKEN_OFF))
            raise
        self.stop = completion.stop
        self.turns.append(Message("assistant", completion.text))

    def _prompt(self, model: OpenedModel) -> list[int]:
        """The ids that ask for an answer, the earliest exchanges left out until there is room."""
        self.context = model.engine.context
        fitted = keep_latest(
            self.turns[:-1],
            self.turns[-1],
            system=self.system or "",
            count=model.count,
            room=model.room(self.params.max_tokens),
        )
        if fitted.dropped:
            del self.turns[: fitted.dropped]
            self.shortened = True
        return model.prompt(fitted.messages)


class Screen:
    """The person's terminal, or the pipe in its place."""

    def __init__(self) -> None:
        self.interactive = sys.stdin.isatty()
        for stream in (sys.stdin, sys.stdout):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")  # a stray byte must not end the chat
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self.shown = ""  # of the answer that is coming
        self._dim = "\033[2m{}\033[0m" if sys.stdout.isatty() and not plain else "{}"

    def show(self, said: str) -> None:
        """Show an answer as far as it has come: what is new of it, or all of another beginning."""
        if not said.startswith(self.shown):
            self.write(f" {BROKEN_OFF}\n")
            tell = self.note if self.interactive else self.status
            tell("(The model broke down and was started again; it begins anew.)")
            self.shown = ""
        self.write(said[len(self.shown) :])
        self.shown = said

    def write(self, text: str) -> None:
        """Write at once, without the characters that steer a terminal."""
        print(harmless(text), end="", flush=True)

    def note(self, text: str) -> None:
        """A line of our own, not the model's."""
        print(self._dim.format(text), flush=True)

    def status(self, text: str) -> None:
        """A line on what takes so long; never among the answers."""
        print(text, file=sys.stderr, flush=True)

    def read(self) -> str:
        """The next message, which may span lines; raises `EOFError` at the end of input."""
        lines = [self._line(PROMPT)]
        fenced = lines[0].startswith(FENCE)
        with suppress(EOFError):  # what was begun is still a message
            while (fenced and (len(lines) < 2 or lines[-1].rstrip() != FENCE)) or (
                not fenced and lines[-1].endswith("\\")
            ):
                if not fenced:
                    lines[-1] = lines[-1][:-1]
                lines.append(self._line(CONTINUED))
        return "\n".join(lines).strip()

    def _line(self, prompt: str) -> str:
        return input(prompt if self.interactive else "").rstrip("\r")


@dataclass
class Repl:
    """Reads, answers, prints, loops."""

    talk: Talk
    screen: Screen
    runner: asyncio.Runner

    def run(self) -> None:
        """Until /exit or the end of input."""
        commands: dict[str, Callable[[str], None]] = {
            "/retry": self.retry,
            "/reset": self.reset,
            "/system": self.system,
            "/help": lambda _: self.screen.note(HELP),
        }
        if self.screen.interactive:
            with suppress(ImportError):
                import readline  # noqa: F401 - importing it gives `input` its line editing
        while True:
            try:
                message = self.screen.read()
            except EOFError:
                if self.screen.interactive:
                    self.screen.write("\n")
                return
            except KeyboardInterrupt:
                if not self.screen.interactive:
                    raise
                self.screen.write("\n")
                self.screen.note("(Ctrl-D or /exit leaves.)")
                continue
            word, rest = [*message.split(None, 1), "", ""][:2]
            if word == "/exit":
                return
            if word in commands:
                commands[word](rest)
            elif word.startswith("/") and word[1:].isalpha():
                self.screen.note(f"There is no command {word}. There are:\n{HELP}")
            elif message:
                self.talk.ask(message)
                self.answer()

    def answer(self) -> None:
        """Show the answer to the last question; Ctrl-C stops it and nothing else."""
        interactive, was_shortened = self.screen.interactive, self.talk.shortened
        try:
            self.screen.shown = ""
            self.runner.run(self.talk.reply(self.screen.show))
            self.screen.write("\n")
        except KeyboardInterrupt:
            if not interactive:
                raise
            self.screen.write(f" {BROKEN_OFF}\n")
            self.screen.note("(stopped)")
        except GuildError as error:
            if not interactive:
                raise
            self.screen.note(str(error))
        if interactive and self.talk.stop == "length":
            self.screen.note("(cut off: the answer was as long as it may be)")
        if interactive and self.talk.shortened and not was_shortened:
            self.screen.note(
                f"(The conversation outgrew the model's {self.talk.context:,} tokens: from now on "
                "it forgets the earliest exchanges.)"
            )

    def retry(self, _: str) -> None:
        """Ask the last question again."""
        if self.talk.retry():
            self.answer()
        else:
            self.screen.note("Nothing was asked yet.")

    def reset(self, _: str) -> None:
        """Forget the conversation, but not the system text."""
        self.talk.turns.clear()
        if self.screen.interactive:
            self.screen.note("The conversation is forgotten.")

    def system(self, text: str) -> None:
        """Set or show the system text."""
        if text:
            self.talk.system = text
        if self.screen.interactive or not text:
            told = self.talk.system or self.talk.default_system
            self.screen.note(f"The model is told: {told}" if told else "The model is told nothing.")


async def _close(fleet: Fleet) -> None:
    """Give back the model, after an answer that a signal has left half done."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await fleet.close()
