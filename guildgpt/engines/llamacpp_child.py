"""The process that llama.cpp runs in: `LlamaCppEngine` starts it and kills it.

A process of its own, since llama.cpp ends the process it lives in when something is badly wrong,
and its destructor now and then waits for ever. Run as a plain script, it imports nothing of ours.

It reads one line of JSON (path, key, context, slots, threads) from standard input, writes one
with the server's address, or with what went wrong, and lives until standard input ends: with its
parent at the latest. Without options it only says whether llama.cpp can be loaded. Why a model
cannot be, llama.cpp says on standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

ANY_PORT = 0
ERRORS = 1  # llama.cpp's verbosity
PROMPT_CACHE_MIB = 256  # prompts set aside in memory; llama.cpp's own default is 8 GiB


def start(
    path: str, key: str, context: int, slots: int, threads: int | None
) -> Any:  # an xllamacpp.Server
    """A running llama.cpp server on a loopback port of its own, closed to strangers."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = path
    options.n_parallel = slots
    options.n_ctx = context * slots
    options.verbosity = ERRORS
    options.port = ANY_PORT
    # Any user of the machine and any page in a browser can reach a loopback port.
    options.api_keys = [key]
    options.cors_origins = "localhost"
    options.ui = False
    options.enable_chat_template = False  # the template is ours
    options.prefill_assistant = False  # a template that is read writes whole conversations
    options.cache_ram_mib = PROMPT_CACHE_MIB
    # Both would cost the first answer more than they give it: a trial run, and a second load of
    # the model to measure it.
    options.warmup = False
    options.fit_params = False
    if threads is not None:
        options.cpuparams.n_threads = threads
        options.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(options)


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops an answer, not the engine
    options = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    try:
        import xllamacpp  # noqa: F401 - a library that it needs may not be there

        reply: dict[str, Any] = {"ready": True}
        if options:
            server = start(**options)  # which lives as long as it has a name
            reply = {"address": server.listening_address}
    except ImportError as error:  # the parent puts it into words
        reply = {"import": str(error)}
    except Exception as error:
        reply = {"error": str(error)}
    print(json.dumps(reply), file=answers, flush=True)
    if options:
        sys.stdin.read()
    os._exit(0)  # without the destructor


if __name__ == "__main__":
    try:
        main()
    except Exception:  # its parent is gone, say
        try:
            traceback.print_exc()
        finally:
            os._exit(1)  # as long as the server has a name: without the destructor, too
