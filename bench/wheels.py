"""What wheels that bring llama.cpp make of the same file on this machine: tokens a second.

    python bench/wheels.py FOLDER [--rounds 5] [--threads 1 2]

Each wheel is installed in a virtual environment of its own under FOLDER, without a compiler, and
stays there. All have the starter open and are asked in turns, the order turned round each time, so
that the machine's noise falls on all: a prompt of 512 token ids, and 96 tokens after it, greedily.
What is printed is the median. Servers tell their own times, libraries are timed from outside.
Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import textwrap
from pathlib import Path

from guildgpt.engines.llamacpp_process import SPINS
from guildgpt.model.starter import starter_gguf

PROMPT, ANSWER, CONTEXT = 512, 96, 1024  # tokens

# Each defines `ask(ids, tokens)`: tokens a second while the prompt is read, and after it.
OVER_HTTP = """
import urllib.request
def ask(ids, tokens):
    body = {"prompt": ids, "n_predict": tokens, "temperature": 0, "ignore_eos": True}
    body["cache_prompt"] = False
    request = urllib.request.Request(
        at + "/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    told = json.load(urllib.request.urlopen(request))["timings"]
    return told["prompt_per_second"], told["predicted_per_second"]
"""
TIMED = """
import time
def ask(ids, tokens):
    begun = time.perf_counter()
    read(ids)
    halfway = time.perf_counter()
    write(tokens)
    return len(ids) / (halfway - begun), tokens / (time.perf_counter() - halfway)
"""
WHEELS = {
    "xllamacpp": OVER_HTTP
    + """
import xllamacpp
options = xllamacpp.CommonParams()
options.model.path, options.n_ctx, options.n_parallel, options.port = model, context, 1, 0
options.verbosity, options.warmup, options.fit_params = 1, False, False
options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(options)
at = server.listening_address
""",
    "llama-cpp-py-sync": TIMED
    + """
import llama_cpp_py_sync
llama = llama_cpp_py_sync.Llama(model, n_ctx=context, n_threads=threads)
def read(ids):
    llama._clear_context_state()
    llama.at = llama._eval_tokens(ids, 0)
def write(tokens):
    for token in range(100, 100 + tokens):
        llama.at = llama._eval_tokens([token], llama.at)
""",
    "ik-llama-cpp-python": TIMED
    + """
from ik_llama_cpp import IkLlama
from ik_llama_cpp._internals import C, make_batch_range, make_batch_single
llama = IkLlama(model, n_ctx=context, n_threads=threads, verbose=False)
def decode(batch):
    assert llama._context.decode(batch) == 0
    C.llama_batch_free(batch)
def read(ids):
    llama._context.kv_cache_clear()
    decode(make_batch_range(ids, pos_start=0, logits_last=True))
    llama.at = len(ids)
def write(tokens):  # its own way of choosing one, in Python, takes as long as computing it
    for token in range(100, 100 + tokens):
        decode(make_batch_single(token, llama.at))
        llama.at += 1
""",
}
CHILD = """
import json, os, sys
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
model, context, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
{wheel}
print("ready", file=told, flush=True)
for line in sys.stdin:
    print(json.dumps(ask(*json.loads(line))), file=told, flush=True)
"""


def python_with(wheel: str, folder: Path) -> Path:
    """The interpreter of an environment that has the wheel."""
    python = folder / wheel / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / wheel], check=True)
    install = [str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:", wheel]
    subprocess.run(install, check=True, capture_output=True)
    return python


class Opened:
    """A wheel with the starter open, in a process of its own."""

    def __init__(self, python: Path, wheel: str, threads: int):
        code = CHILD.format(wheel=textwrap.dedent(WHEELS[wheel]))
        self._process = subprocess.Popen(
            [python, "-c", code, starter_gguf(), str(CONTEXT), str(threads)],
            env={**os.environ, "GOMP_SPINCOUNT": SPINS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout
        self.starts = bool(self._process.stdout.readline())

    def ask(self, ids: list[int]) -> tuple[float, float]:
        """Tokens a second of the prompt, and of the answer."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([ids, ANSWER]), file=self._process.stdin, flush=True)
        prompt, answer = json.loads(self._process.stdout.readline())
        return prompt, answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    pythons = {wheel: python_with(wheel, asked.folder) for wheel in WHEELS}
    for threads in asked.threads:
        opened = {wheel: Opened(python, wheel, threads) for wheel, python in pythons.items()}
        for wheel in [wheel for wheel, one in opened.items() if not one.starts]:
            print(f"{threads} threads, {wheel} does not start here")
            opened.pop(wheel).close()
        seen: dict[str, list[tuple[float, float]]] = {wheel: [] for wheel in opened}
        for number in range(-1, asked.rounds):  # the first reads the weights, and counts not
            ids = [100 + (7 * place + number) % 40_000 for place in range(PROMPT)]
            for wheel in sorted(opened, reverse=bool(number % 2)):
                rates = opened[wheel].ask(ids)
                if number >= 0:
                    seen[wheel].append(rates)
        for wheel, rows in seen.items():
            opened[wheel].close()
            prompt, answer = (statistics.median(row[side] for row in rows) for side in (0, 1))
            print(
                f"{threads} threads, {wheel:20s} prompt {prompt:6.0f} tokens/s, "
                f"answer {answer:5.1f} tokens/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
