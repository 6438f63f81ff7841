"""What the model wrote, fit to be shown."""

from __future__ import annotations

import re

from guildgpt.bot.text.formatting import open_fence
from guildgpt.bot.text.tables import tables_as_code
from guildgpt.text.visible import SELECTOR, UNSEEN, harmless, pairs_joined

NOTHING_YET = "…"

_SHOWS_NOTHING = re.compile(
    rf"(?:\s|{UNSEEN.pattern}|{SELECTOR}|[\u200c\u200d\U000e0000-\U000e007f])*"
)


def answer_text(text: str, *, growing: bool = False) -> str:
    """What the model wrote, so far if it is `growing`, fit to be shown; '…' while there is nothing
    to see.

    What would steer a screen is taken out, tables become code blocks. A code fence that is open at
    the end is closed, one that has only just been opened is left away, as are the first marks of
    one that is being closed.
    """
    shown = tables_as_code(harmless(pairs_joined(text)), growing=growing).strip()
    while fence := open_fence(shown):
        head, _, last = shown.rpartition("\n")
        if open_fence(head) is None:  # the last line opened it; words may stand before it there
            words = last[: last.rindex(fence.run)] if fence.late else ""
            shown = f"{head}\n{words}".strip()
        elif fence.may_close(last):
            shown = head.rstrip()
        else:
            shown += fence.closing
            break
    return NOTHING_YET if _SHOWS_NOTHING.fullmatch(shown) else shown
