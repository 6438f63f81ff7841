"""What a failed write means to a person."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from guildgpt.errors import GuildError, disk_error


def test_a_full_disk_is_told_of_wherever_the_folder_was_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for where in (tmp_path, tmp_path / "a" / "b" / "c", tmp_path / "file" / "a" / "b"):
        error = disk_error(OSError(28, "No space left on device"), "the model", where)
        assert isinstance(error, GuildError)
        assert "No space left on device" in error.what
        assert "GB free" in error.what
        assert error.remedy is not None
        assert error.remedy.startswith("Make room")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_no_room_is_asked_for_where_nothing_may_be_written(tmp_path: Path, number: int) -> None:
    error = disk_error(OSError(number, os.strerror(number)), "the model", tmp_path)
    assert error.remedy is not None
    assert "Make room" not in error.remedy
    assert "may write" in error.remedy
