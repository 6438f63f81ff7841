"""The lowest layers, which no hat changes: what they make of a sequence is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from guildgpt.data.examples import Example
from guildgpt.network.attention import Layout


@dataclass
class SharedLayers:
    """The `depth` lowest layers of a model and its hats. Inside `kept` they read a sequence once,
    whichever hats go on from there. Nothing is trained in them, nor through them."""

    depth: int
    _known: dict[bytes, Tensor] | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """While the block runs, hidden states are kept: d values a token of every sequence."""
        outer, self._known = self._known, {}
        try:
            yield
        finally:
            self._known = outer

    def states(
        self, examples: Sequence[Example], layout: Layout, run: Callable[[], Tensor]
    ) -> Tensor:
        """The hidden states (N, d) of what is laid out of `examples`, kept ones or by `run`."""
        known, keys = self._known, [example.ids.tobytes() for example in examples]
        if known is not None and all(key in known for key in keys):
            sources = torch.from_numpy(layout.sources)
            states = torch.cat([known[key] for key in keys])
            return states[sources.to(states.device)]
        with torch.no_grad():
            states = run()
        if known is not None:
            flat = states[torch.from_numpy(layout.places).to(states.device)]
            parts = torch.split(flat, [len(example) for example in examples])
            known.update(zip(keys, parts, strict=True))
        return states
