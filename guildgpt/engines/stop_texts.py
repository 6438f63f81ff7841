"""Stop texts, for every engine: an answer ends before the first of them that is whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from guildgpt.engines.engine import Chunk


def until_stop(
    chunks: AsyncGenerator[Chunk, None], stops: Sequence[str]
) -> AsyncGenerator[Chunk, None]:
    """`chunks` up to the text of `stops` that is whole first; then the work is ended. All of them
    as they are where there are no `stops`.

    Text that a stop text may begin with is held back. A token comes with the beginning of its text;
    those whose text begins with the stop text or behind it are left out.
    """
    return _until_stop(chunks, stops) if stops else chunks


async def _until_stop(
    chunks: AsyncGenerator[Chunk, None], stops: Sequence[str]
) -> AsyncGenerator[Chunk, None]:
    waiting: list[Chunk] = []
    async with aclosing(chunks):
        async for chunk in chunks:
            waiting.append(chunk)
            text = "".join(one.text for one in waiting)
            # The one that is whole first, so that it does not matter how the text was cut.
            found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
            if found:
                yield replace(_split(waiting, min(found)[1])[0], stop="stop")
                return
            if chunk.stop:
                yield replace(_split(waiting, len(text) + 1)[0], stop=chunk.stop)
                return
            shown, waiting = _split(waiting, len(text) - _begun(text, stops))
            if shown.text:
                yield shown


def _begun(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of a stop text."""
    longest = min(len(text), max(map(len, stops)) - 1)
    ends = (size for size in range(longest, 0, -1))
    return next((n for n in ends if any(one.startswith(text[-n:]) for one in stops)), 0)


def _split(chunks: Sequence[Chunk], place: int) -> tuple[Chunk, list[Chunk]]:
    """The text before a place, with the tokens that begin there, and what is left of `chunks`."""
    before, after, left = Chunk((), ""), list[Chunk](), place
    for chunk in chunks:
        rest = chunk
        if left > 0:
            before = Chunk(
                before.ids + chunk.ids,
                before.text + chunk.text[:left],
                logprobs=before.logprobs + chunk.logprobs,
            )
            rest = Chunk((), chunk.text[left:])
        if rest.ids or rest.text:
            after.append(rest)
        left -= len(chunk.text)
    return before, after
