"""Tokens a second of llama.cpp: one engine, and two on the same cores, as in a canary.

Each engine is opened with a thread for every core, which is what one gets that was alone when it
started. Run on an otherwise idle machine: python bench/engines.py [MODEL]
GOMP_SPINCOUNT in the environment stands for the value that GuildGPT sets.
"""

from __future__ import annotations

import asyncio
import sys
import time

from guildgpt.engines.cores import usable_cores
from guildgpt.engines.engine import SamplingParams, complete
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.model.locate import locate

PARAMS = SamplingParams(temperature=1.0, max_tokens=48)
PROMPT = list(range(100, 130))


async def rate(model: str, engines: int, answers: int) -> float:
    """Tokens a second of so many engines, each at work on so many answers at once."""
    gguf = locate(model).gguf
    assert gguf
    opened = [
        LlamaCppEngine(gguf, context=512, slots=8, threads=usable_cores()) for _ in range(engines)
    ]

    async def tokens(engine: LlamaCppEngine) -> int:
        return len((await complete(engine, PROMPT, PARAMS)).ids)

    try:
        await asyncio.gather(*map(tokens, opened))  # the first answer reads the weights
        begun = time.perf_counter()
        counts = await asyncio.gather(*map(tokens, opened * answers))
        return sum(counts) / (time.perf_counter() - begun)
    finally:
        for engine in opened:
            await engine.close()


def main() -> None:
    """Print the rates."""
    model = sys.argv[1] if len(sys.argv) > 1 else "starter"
    for engines, answers in ((1, 1), (1, 8), (2, 4)):
        found = asyncio.run(rate(model, engines, answers))
        print(
            f"{engines} engines, {answers} answers at once each: {found:.1f} tokens/s", flush=True
        )


if __name__ == "__main__":
    main()
