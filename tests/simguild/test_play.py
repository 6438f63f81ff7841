"""`make guild-demo`, with a paced engine in the model's place."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from simguild.play import SETTINGS, play


async def test_one_sees_a_guild_and_then_its_statistics(tmp_path: Path) -> None:
    seen = io.StringIO()
    console = Console(file=seen, width=120, no_color=True)
    settings = {key: value for key, value in SETTINGS.items() if key != "model"}
    broken = await play(
        console, tmp_path, 8.0, 0, settings={**settings, "workers": 16}, engine="paced:200"
    )
    text = seen.getvalue()
    # On a machine that is busy with other things an answer may come late: that is not looked at.
    assert [one for one in broken if "waited in vain" not in one and "too fast" not in one] == []
    assert "You wrote: " in text
    assert "each answered exactly once" in text
    assert "all of them in the store" in text
    [answers] = re.findall(r"^messages +\d+ +(\d+) answers", text, re.M)
    assert int(answers) > 3
    assert "stand-in" in text
