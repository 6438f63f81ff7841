"""A growing answer, written into a channel at the pace that Discord allows.

The text is cut into messages; as it grows only the last one changes. The edits on the way may be
skipped, the last one never is: it carries the whole text and the buttons.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from guildgpt.bot.answers.buttons import Action
from guildgpt.bot.answers.ending import Over, end_early
from guildgpt.bot.answers.outlet import Outlet, Undeliverable, Why
from guildgpt.bot.answers.pacing import ChannelWriter
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text.shown import answer_text
from guildgpt.bot.text.splitting import LIMIT, split

log = EventLog(__name__)

LOOK_SECONDS = 2.0  # between looks whether the bot is still shown typing
FIRST_WORDS_SECONDS = 0.5  # what comes in this time is shown together: half a word helps nobody
LONGEST_PAUSE = 30.0  # seconds between writes on the way while Discord cannot be reached
BROKEN_OFF = " …"  # ends an answer that was not finished


def broken_off(text: str) -> str:
    """An answer that was not finished, and shows it; a row of a table stays one."""
    whole = text.rstrip()
    return f"{whole}\n…" if whole.endswith("|") else whole + BROKEN_OFF


@dataclass
class Sent:
    """One message of an answer: its id, what it says (None: nobody knows), and its buttons."""

    id: int
    text: str | None = None
    buttons: Sequence[Action] = ()


@dataclass
class LiveAnswer:
    """One answer on its way into one outlet.

    `earlier` are its messages from before a crash, which are written over, and `was_begun` says
    that there may be more of them. `noted` is told of all messages' ids when there is a new one.
    What is not `allowed` is not shown while the answer grows.
    """

    outlet: Outlet
    writer: ChannelWriter
    noted: Callable[[Sequence[int]], Awaitable[object]]
    allowed: Callable[[str], bool]
    nonce: str
    earlier: Sequence[int] = ()
    was_begun: bool = False
    text: str = ""

    def __post_init__(self) -> None:
        self._sent = [Sent(id) for id in self.earlier]
        self._changed = asyncio.Event()

    @property
    def message_ids(self) -> list[int]:
        """The messages that it consists of by now."""
        return [one.id for one in self._sent]

    def grow(self, text: str) -> None:
        """The answer has grown to `text`."""
        self.text = text
        self._changed.set()

    @asynccontextmanager
    async def growing(self, stop_button: Action, over: Over) -> AsyncGenerator[None]:
        """Show in the block what there is of it, and the bot typing before the first word; that the
        answer has lost its place is told to `over`."""
        showing = asyncio.create_task(self._show(stop_button, over))
        try:
            yield
        finally:
            showing.cancel()
            # What it has begun to write is there before anything else is written.
            await asyncio.wait({showing})
            if not showing.cancelled() and (error := showing.exception()):
                log.unforeseen("showing failed", error)  # what counts is the last write

    async def finish(self, text: str, buttons: Sequence[Action] = ()) -> None:
        """Write the answer's last state, and take back what an earlier try wrote beyond it."""
        text = answer_text(text)
        while not await self._write(text, buttons):
            pass
        await self.take_back(len(split(text)))

    async def break_off(self, sentence: str) -> None:
        """Say why there is no answer, or no more of it; without a sentence, leave nothing."""
        if not sentence:
            await self.take_back()
        elif not self._sent:
            told = await self.writer.whisper(self.outlet, sentence)
            if told is not None:  # an answer may take its place one day
                self._sent.append(Sent(told, sentence))
                await self.noted(self.message_ids)
        elif self.text and self.allowed(self.text):
            try:
                await self.finish(broken_off(self.text))
            except Undeliverable as error:
                await self.give_up(error.why, sentence)
            else:
                await self.writer.whisper(self.outlet, sentence)
        else:  # nobody knows, or should know, what they say
            with suppress(Undeliverable):
                await self.finish(sentence)

    async def give_up(self, why: Why, sentence: str) -> None:
        """Discord did not take the answer: say so in its place, or else below what there is of it,
        and leave no button that does nothing."""
        if why in ("gone", "unreachable"):
            return  # there is nothing left to write to, or no way to it
        if why != "forbidden":
            try:
                await self.finish(sentence)
                return
            except Undeliverable:
                sentence = ""
        if self._sent:
            last = len(self._sent) - 1
            text = split(self._sent[last].text or BROKEN_OFF, LIMIT - len(sentence) - 2)[0]
            with suppress(Undeliverable):
                await self.writer.turn(self.outlet.channel_id)
                await self._put(last, f"{text}\n\n{sentence}".strip(), ())

    async def take_back(self, count: int = 0) -> None:
        """Delete the messages from `count` on."""
        while len(self._sent) > count:
            await self.writer.turn(self.outlet.channel_id)
            last = self._sent.pop()
            # It leaves the answer before it is deleted: who deletes a part of that means all.
            await self.noted(self.message_ids)
            with suppress(Undeliverable):
                await self.outlet.delete(last.id)

    async def _show(self, stop_button: Action, over: Over) -> None:
        channel = self.outlet.channel_id
        try:
            while not self.text:
                if not self.outlet.is_typing:
                    await self.writer.request()
                    await self.outlet.typing()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), LOOK_SECONDS)
            await asyncio.sleep(FIRST_WORDS_SECONDS)
            missed: int | None = 0
            while missed is not None:
                await self._changed.wait()
                if not self.writer.may_write(channel):
                    await asyncio.sleep(self.writer.wait(channel))
                    continue
                self._changed.clear()
                if self.allowed(self.text):
                    missed = await self._show_once(stop_button, missed)
        except Undeliverable as error:
            end_early(over, error)

    async def _show_once(self, stop_button: Action, missed: int) -> int | None:
        """Write the answer as far as it is; how many writes in a row did not get through, or None
        if it is not to be shown before it is whole.

        What does not get through now is made up for by the next write. What AutoMod stops may be
        half a word: the whole answer may pass.
        """
        try:
            await self._write(answer_text(self.text, growing=True), (stop_button,), on_the_way=True)
        except Undeliverable as error:
            if error.why == "unreachable":
                self._changed.set()
                await asyncio.sleep(min(2.0**missed, LONGEST_PAUSE))
                return missed + 1
            if error.why in ("withheld", "refused"):
                return None
            raise
        return 0

    async def _write(
        self, text: str, buttons: Sequence[Action], *, on_the_way: bool = False
    ) -> bool:
        """Make the messages say `text`, the buttons under the last; whether they surely do now.

        `on_the_way`: it is not the last state, tried only once, and one write is taken.
        """
        paid = on_the_way
        wanted = split(text)
        for index, words in enumerate(wanted):
            under = tuple(buttons) if index == len(wanted) - 1 else ()
            is_new = index >= len(self._sent)
            if not is_new and self._sent[index] == Sent(self._sent[index].id, words, under):
                continue
            if not paid:
                await self.writer.turn(self.outlet.channel_id, new=is_new and index == 0)
            paid = False
            # Half a write would be forgotten: it ends even when the answer is stopped meanwhile.
            await _to_its_end(self._put(index, words, under, patient=not on_the_way))
        return all(one.text is not None for one in self._sent[: len(wanted)])

    async def _put(
        self, index: int, words: str, buttons: Sequence[Action], *, patient: bool = True
    ) -> None:
        if index < len(self._sent):
            sent = self._sent[index]
            try:
                await self.outlet.edit(sent.id, words, buttons, patient=patient)
            except Undeliverable as error:
                if error.why == "unreachable":
                    sent.text = None  # it may say this or that
                raise
            sent.text, sent.buttons = words, buttons
            return
        try:
            id = await self.outlet.send(words, buttons, f"{self.nonce}{index}", patient=patient)
        except Undeliverable as error:
            self.was_begun |= error.why == "unreachable"  # it may be there all the same
            raise
        # Of what was begun it may be one that was sent before, and say what it said then.
        self._sent.append(Sent(id) if self.was_begun else Sent(id, words, buttons))
        await self.noted(self.message_ids)


async def _to_its_end(work: Awaitable[None]) -> None:
    """Await `work` whole, even when cancelled; the cancellation is raised after it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            with suppress(Undeliverable):
                await task
        raise
