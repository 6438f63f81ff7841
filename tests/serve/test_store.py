"""The store beside the server: while it does not open, the API answers all the same."""

from __future__ import annotations

from pathlib import Path

import httpx

from .slow import until
from .test_command import ASKED, command


def test_a_store_that_does_not_open_is_told_of_and_opened_later(
    starter: Path, tmp_path: Path
) -> None:
    there = tmp_path / "folder"
    there.write_text("a file where a folder should be")
    process = command(starter, "--port", 0, "--context", 512, "--store", there / "feedback.db")
    try:
        assert process.stdout
        said = ""
        while "API at " not in said:
            said += (line := process.stdout.readline())
            assert line, said
        assert "The store does not open: " in said
        assert said.count("tried again") == 1
        body = {"messages": ASKED, "max_tokens": 2}
        url = f"{said.split()[-1]}/chat/completions"
        assert httpx.post(url, json=body, timeout=120).status_code == 200
        there.unlink()
        there.mkdir()
        until((there / "feedback.db").exists)
        assert httpx.post(url, json=body, timeout=120).status_code == 200
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=120)
    assert "Traceback" not in said
