"""One step of generation for a batch: the next hidden state of each row, past keys and values kept.

Rows are padded on the left, where no real token looks, so that all of them take their next token at
the same place. `LeanDecoder` runs Llama-shaped models over our own fused weights; `CachedDecoder`
runs other causal models of transformers with its own cache. What carries a state along in place of
keys and values would take the padding into it: `RereadingDecoder` reads such rows anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from guildgpt.network.attention import apart, rotate
from guildgpt.network.lean import Layer, LeanTrunk, causal_model
from guildgpt.network.prepacked import prepacked
from guildgpt.network.trunk import PaddedTrunk, Trunk, wearing

ROOM = 16  # places by which the past grows


class Decoder(Protocol):
    """A batch of sequences that grow by a token a step."""

    def start(self, prompts: Sequence[Tensor]) -> Tensor:
        """Read the prompts (each (L,)); the final hidden states (B, d) of their last tokens."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row (B,); the final hidden states (B, d) there."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone (indices, (B',))."""


def decoder_for(trunk: Trunk) -> Decoder:
    """The decoder of a trunk, wearing the same adapter."""
    if isinstance(trunk, LeanTrunk):
        return LeanDecoder(trunk)
    assert isinstance(trunk, PaddedTrunk)
    return CachedDecoder(trunk) if keeps_keys_and_values(trunk) else RereadingDecoder(trunk)


def keeps_keys_and_values(trunk: PaddedTrunk) -> bool:
    """Whether all that a model remembers are keys and values, of which padding can be hidden and
    rows be left out. State-space and recurrent models, and those in part, remember a state."""
    from transformers import DynamicCache

    causal = causal_model(trunk.model)
    if causal._is_stateful or "past_key_values" not in _parameters(trunk):
        return False
    layers = DynamicCache(config=causal.config).layers
    return all(hasattr(layer, "batch_select_indices") for layer in layers)


class _Past(NamedTuple):
    """One layer's keys (B, G, D, T) and values (B, G, T, D) so far, T the room for them.

    oneDNN multiplies whole tensors, and copies what is a part of one. So all of the room takes part
    in a step, what is not filled yet unseen, and it grows by a little at a time.
    """

    keys: Tensor
    values: Tensor

    def take(self, rows: Tensor, columns: slice) -> _Past:
        """Those of some sequences, and of some places."""
        keys, values = self.keys[rows][..., columns], self.values[rows][:, :, columns]
        return _Past(keys.contiguous(), values.contiguous())

    @property
    def room(self) -> int:
        """Places, filled or not."""
        return self.keys.shape[-1]

    def widened(self) -> _Past:
        """With room for `ROOM` more."""
        return _Past(F.pad(self.keys, (0, ROOM)), F.pad(self.values, (0, 0, 0, ROOM)))


class _Step:
    """One layer, its past, and its matrices, adapters folded in: two more small products for each
    matrix would cost more than they compute."""

    past: _Past

    def __init__(self, layer: Layer, dtype: torch.dtype, rows: int):
        attention, feed_forward = layer
        for half in layer:
            half.prepare(dtype)
        gate, up = feed_forward.into.folded().chunk(2)
        self.layer = layer
        self.attention: Any = attention.middle
        self.qkv, self.out = (
            prepacked(of.folded(), rows) for of in (attention.into, attention.out)
        )
        self.gate, self.up = prepacked(gate, rows), prepacked(up, rows)
        self.down = prepacked(feed_forward.out.folded(), rows)

    def forward(self, h: Tensor, attend: Callable[[_Step, Tensor], Tensor]) -> Tensor:
        """The next tokens (N, d) through the layer; `attend` takes its queries, keys and values
        (N, (H + 2 G) · D) to what they mix to (N, H · D)."""
        qkv = self.qkv(self.layer.attention.normed(h)[0])
        h = self.out.plus(attend(self, qkv), h)
        y = self.layer.feed_forward.normed(h)[0]
        return self.down.plus(self.up.times(y, self.gate.silu(y)), h)


@dataclass
class LeanDecoder:
    """Llama-shaped models: prompts are read without padding, each different one once."""

    trunk: LeanTrunk

    def start(self, prompts: Sequence[Tensor]) -> Tensor:
        """See `Decoder.start`."""
        unique, index = _distinct(prompts)
        lengths = [len(prompt) for prompt in unique]
        longest = self.filled = max(lengths)
        h = self.trunk.embedded(torch.cat(unique))
        run = self.trunk.pass_over(apart(lengths), h)

        def read(step: _Step, qkv: Tensor) -> Tensor:
            attention = step.attention
            mixed: Tensor = attention.forward(qkv, run, keep=False)[0]
            rows, room = (len(unique), attention.kv_heads), longest + ROOM
            past = _Past(
                h.new_zeros(*rows, attention.size, room), h.new_zeros(*rows, room, attention.size)
            )
            for row, segment in enumerate(run.segments):
                keys, values = attention.key_value_heads(qkv[segment.rows])
                places = slice(longest - segment.length, longest)
                past.keys[row, :, :, places] = keys.permute(1, 2, 0)
                past.values[row, :, places] = values.transpose(0, 1)
            step.past = past.take(index, slice(None)) if len(unique) < len(index) else past
            return mixed

        self.steps = [_Step(layer, self.trunk.dtype, len(prompts)) for layer in self.trunk.layers]
        for step in self.steps:
            h = step.forward(h, read)
        size = torch.tensor(lengths, device=h.device)
        self.position = size[index]
        self.begin = longest - self.position  # the first real key of each row
        return self.trunk.norm(h[size.cumsum(0) - 1][index])

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        h = self.trunk.embedded(tokens)
        tables = self.trunk.body.rotary_emb(h, self.position[:, None])
        cos, sin = (table.chunk(2, dim=-1)[0] for table in tables)  # (B, 1, D/2)
        here, self.filled = self.filled, self.filled + 1
        if here == self.steps[0].past.room:
            for step in self.steps:
                step.past = step.past.widened()
        places = torch.arange(self.steps[0].past.room, device=h.device)
        empty = (places < self.begin[:, None]) | (places >= self.filled)
        unseen = h.new_zeros(empty.shape).masked_fill_(empty, float("-inf"))
        unseen = unseen.repeat_interleave(self.steps[0].attention.kv_heads, 0)[:, None]

        def look_back(step: _Step, qkv: Tensor) -> Tensor:
            attention, past = step.attention, step.past
            rotate(attention.query_key_heads(qkv), cos, sin)
            past.keys[..., here], past.values[:, :, here] = attention.key_value_heads(qkv)
            query = qkv[:, : attention.heads * attention.size]
            query = query.reshape(len(unseen), -1, attention.size)
            scores = torch.baddbmm(unseen, query, past.keys.flatten(0, 1), alpha=attention.scale)
            mixed: Tensor = torch.softmax(scores, dim=-1) @ past.values.flatten(0, 1)
            return mixed.view(len(qkv), -1)

        for step in self.steps:
            h = step.forward(h, look_back)
        self.position = self.position + 1
        return self.trunk.norm(h)

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`; columns that none of the rows needs go as well."""
        unneeded = int(self.begin[rows].min())
        for step in self.steps:
            step.past = step.past.take(rows, slice(unneeded, None))
        self.begin, self.position = self.begin[rows] - unneeded, self.position[rows]
        self.filled -= unneeded


@dataclass
class CachedDecoder:
    """Any causal language model of transformers, with its own cache."""

    trunk: PaddedTrunk

    def __post_init__(self) -> None:
        self.takes_positions = "position_ids" in _parameters(self.trunk)

    def start(self, prompts: Sequence[Tensor]) -> Tensor:
        """See `Decoder.start`."""
        from transformers import DynamicCache

        ids = pad_sequence(list(prompts), batch_first=True, padding_side="left")
        there = [torch.ones_like(prompt) for prompt in prompts]
        self.mask = pad_sequence(there, batch_first=True, padding_side="left")
        self.cache = DynamicCache(config=causal_model(self.trunk.model).config)
        return self._run(ids)

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        return self._run(tokens[:, None])

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`."""
        self.mask = self.mask[rows]
        self.cache.batch_select_indices(rows)

    def _run(self, ids: Tensor) -> Tensor:
        extra = {}
        if self.takes_positions:
            extra["position_ids"] = (self.mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        with self.trunk.mixed(ids.device), wearing(self.trunk.model, self.trunk.adapter):
            out = self.trunk.body(
                input_ids=ids,
                attention_mask=self.mask,
                past_key_values=self.cache,
                use_cache=True,
                **extra,
            )
        hidden: Tensor = out.last_hidden_state[:, -1]
        return hidden.to(self.trunk.dtype)


@dataclass
class RereadingDecoder:
    """Any model whose trunk is right, at the price of reading every row again for each token: rows
    are padded on the right, where a state has passed all real tokens already."""

    trunk: PaddedTrunk

    def start(self, prompts: Sequence[Tensor]) -> Tensor:
        """See `Decoder.start`."""
        self.rows = list(prompts)
        return self._read()

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        self.rows = [
            torch.cat([row, token[None]]) for row, token in zip(self.rows, tokens, strict=True)
        ]
        return self._read()

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`."""
        self.rows = [self.rows[row] for row in rows.tolist()]

    def _read(self) -> Tensor:
        ids = pad_sequence(self.rows, batch_first=True)
        last = torch.tensor([len(row) - 1 for row in self.rows], device=ids.device)
        with self.trunk.mixed(ids.device), wearing(self.trunk.model, self.trunk.adapter):
            out = self.trunk.body(input_ids=ids, use_cache=False)
        hidden: Tensor = out.last_hidden_state[torch.arange(len(ids), device=ids.device), last]
        return hidden.to(self.trunk.dtype)


def _parameters(trunk: PaddedTrunk) -> Mapping[str, Any]:
    """What a model's forward takes, by name."""
    return inspect.signature(trunk.body.forward).parameters


def _distinct(prompts: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The different ones among the prompts, and which of them each prompt is."""
    keys = [prompt.cpu().numpy().tobytes() for prompt in prompts]
    unique = dict(zip(keys, prompts, strict=True))
    places = {key: place for place, key in enumerate(unique)}
    index = torch.tensor([places[key] for key in keys], device=prompts[0].device)
    return list(unique.values()), index
