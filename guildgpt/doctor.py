"""What this machine can run, and what is missing: `guildgpt doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from guildgpt import __version__
from guildgpt.engines.cores import usable_cores
from guildgpt.engines.llamacpp_process import check_llamacpp
from guildgpt.errors import EngineError
from guildgpt.model.locate import RUNS, model_folders
from guildgpt.model.starter import is_cached
from guildgpt.paths import CACHE_VARIABLE, cache_dir
from guildgpt.rewards.sandbox import check

TRAINING = ("torch", "transformers", "peft", "safetensors", "sentencepiece", "psutil", "jinja2")
PACKAGES = ("xllamacpp", "tokenizers", *TRAINING)


def examine() -> dict[str, Any]:
    """Facts about this machine as plain values, sizes in bytes."""
    packages = {name: _version(name) for name in PACKAGES}
    cache = cache_dir()
    existing = next(p for p in (cache, *cache.parents) if os.path.exists(p))
    findings: dict[str, Any] = {
        "guildgpt": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "memory": _memory(),
        "disk_free": shutil.disk_usage(existing).free,
        "cache": str(cache),
        "starter_cached": is_cached(cache),
        "packages": packages,
        "sandbox": check().words,
    }
    has_starter = findings["starter_cached"] or _can_write(existing)
    advice = []
    findings["can_chat"] = has_starter or any(model_folders(RUNS))
    if not has_starter:
        advice.append(
            f"The starter model cannot be fetched: {cache} cannot be written to. Make it a folder "
            f"that you may write to, or choose another one with the variable {CACHE_VARIABLE}."
        )
    try:
        check_llamacpp()
    except EngineError as error:
        findings["can_chat"] = False
        advice.append(f"{error.what}. {error.remedy}")
    findings["can_train"] = all(packages[name] for name in TRAINING)
    if not findings["can_train"]:
        advice.append("To train here: pip install 'guildgpt[train]'")
    else:
        try:
            findings |= _torch()
        except (ImportError, OSError, RuntimeError) as error:
            findings["can_train"] = False
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            advice.append(
                f"torch is installed but does not work ({reason}). "
                "To install it anew: pip install --force-reinstall 'guildgpt[train]'"
            )
    hints = {
        "This processor has no native bfloat16: training runs in float32, which is fine.": (
            findings.get("device") == "cpu" and findings["dtype"] == "float32"
        ),
        "The starter model (93 MB) is fetched when it is first needed.": (
            has_starter and not findings["starter_cached"]
        ),
        "Less than 5 GB of disk are free; a run of the starter takes about 3 GB.": (
            findings["disk_free"] < 5e9
        ),
        "Less than 4 GB of memory: chat works, training may not.": 0 < findings["memory"] < 4e9,
    }
    return findings | {"advice": advice + [hint for hint, holds in hints.items() if holds]}


def show(findings: dict[str, Any], console: Console) -> None:
    """The findings as a table, the advice below it."""
    memory = f", {findings['memory'] / 2**30:.0f} GiB of memory" if findings["memory"] else ""
    missing = [name for name, found in findings["packages"].items() if found is None]
    rows: dict[str, str | Text] = {
        "GuildGPT": f"{findings['guildgpt']}, Python {findings['python']}",
        "Machine": f"{findings['system']}, {findings['cores']} cores{memory}",
        "Training on": f"{findings['device']} in {findings['dtype']}, "
        f"{findings['gflops']:,.0f} GFLOP/s measured"
        if "device" in findings
        else "",
        # A path may hold what looks like markup.
        "Disk": Text(f"{findings['disk_free'] / 1e9:.0f} GB free at {findings['cache']}"),
        "Chat": _tick(findings["can_chat"]),
        "Train": _tick(findings["can_train"]),
        "Sandbox": Text(findings["sandbox"]),
        "Not installed": ", ".join(missing),
    }
    table = Table("", "", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.columns[0].style = "bold"
    for what, says in rows.items():
        if says:
            table.add_row(what, says)
    console.print(table, highlight=False)
    for line in findings["advice"]:
        console.print(f"· {line}", highlight=False, markup=False, emoji=False, soft_wrap=True)


def _tick(good: bool) -> str:
    return "[green]ready[/]" if good else "[yellow]not ready[/]"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _can_write(folder: Path) -> bool:
    """Whether files can be made there; the folder's mode alone does not tell."""
    try:
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _memory() -> int:
    """The machine's memory in bytes, 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def _torch() -> dict[str, Any]:
    from guildgpt.network.hardware import peak_flops, pick_dtype
    from guildgpt.network.world import World

    device = World().device
    dtype = pick_dtype("auto", device)
    return {
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "gflops": peak_flops(device, dtype) / 1e9,
    }
