"""What the machine has: device, native number formats, measured peak, memory in use."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable

import psutil
import torch

from guildgpt.model.config import Dtype


def pick_device() -> torch.device:
    """The GPU if torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products run in hardware; elsewhere they are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return any(features.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def pick_dtype(wanted: Dtype, device: torch.device) -> torch.dtype:
    """The dtype of the computation."""
    if wanted == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def peak_flops(
    device: torch.device,
    dtype: torch.dtype,
    size: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Floating-point operations a second of a large matrix product, the best of a few.

    `size` is that of its square matrices: by default one that keeps the device busy for longer than
    it takes to start, and that a GPU whose memory is nearly full still has room for.
    """
    size = size or (4096 if device.type == "cuda" else 1536)
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):
        start = clock()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, clock() - start)
    return 2 * size**3 / best


def memory_in_use(device: torch.device) -> int:
    """Bytes the process holds now: resident memory, or what torch reserved on the GPU, which it
    keeps between steps and other programs cannot have."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return int(psutil.Process().memory_info().rss)


def describe(device: torch.device) -> str:
    """The machine in words."""
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"{cores} CPU cores ({platform.machine()}), {memory}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; {cpu}"
    return f"{cpu}, no GPU"
