"""What the commands share when they speak."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from guildgpt.terminal import busy


@pytest.mark.parametrize("terminal", [True, False])
def test_what_takes_its_time_is_said_everywhere(terminal: bool) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=80)
    with busy(console, "counting all of it") as status:
        status.update("counting the second half")
    if terminal:
        assert "⠋" in shown.getvalue()  # what turns
        assert "counting the second half" in shown.getvalue()
    else:
        assert shown.getvalue() == "counting all of it …\n"
