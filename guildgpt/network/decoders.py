"""One step of generation for a batch: the next hidden state of each row, past keys and values kept.

Rows are padded on the left, where no real token looks, so that all of them take their next token at
the same place. `LeanDecoder` runs Llama-shaped models over our own fused weights; `CachedDecoder`
runs every other causal model of transformers with its own cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from guildgpt.network.layout import apart
from guildgpt.network.lean import rms_norm, rotate
from guildgpt.network.packed import packed
from guildgpt.network.trunk import LeanTrunk, PaddedTrunk, Trunk, causal_model, wearing


class Decoder(Protocol):
    """A batch of sequences that grow by a token a step."""

    def start(self, prompts: Sequence[Tensor], steps: int) -> Tensor:
        """Read the prompts (each (L,)), with room for `steps` more tokens; the final hidden states
        (B, d) of their last tokens."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row (B,); the final hidden states (B, d) there."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone (indices, (B',))."""


def decoder_for(trunk: Trunk) -> Decoder:
    """The decoder of a trunk, wearing the same adapter."""
    if isinstance(trunk, LeanTrunk):
        return LeanDecoder(trunk)
    assert isinstance(trunk, PaddedTrunk)
    return CachedDecoder(trunk)


class _Step:
    """One layer and its matrices, adapters folded in: two more small products for each matrix would
    cost more than they compute."""

    def __init__(self, layer: Any, dtype: torch.dtype, rows: int):
        layer.prepare(dtype)
        gate_up = layer.gate_up.folded()
        gate, up = gate_up.chunk(2)
        self.layer = layer
        self.qkv = packed(layer.qkv.folded(), rows)
        self.out = packed(layer.out.folded(), rows)
        self.gate, self.up = packed(gate, rows), packed(up, rows)
        self.down = packed(layer.down.folded(), rows)

    def heads(self, h: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Queries, keys and values of the next tokens, rotated, (N, (H + 2 G) · D)."""
        qkv = self.qkv(rms_norm(h, self.layer.norm1, self.layer.eps)[0])
        rotate(self.layer.query_key_heads(qkv), cos, sin)
        return qkv

    def feed_forward(self, h: Tensor) -> Tensor:
        """h + down(silu(gate) * up), (N, d)."""
        y = rms_norm(h, self.layer.norm2, self.layer.eps)[0]
        return self.down.plus(self.up.times(y, self.gate.silu(y)), h)


class _Past(NamedTuple):
    """One layer's keys (B, G, D, T) and values (B, G, T, D) so far, T the room for them."""

    keys: Tensor
    values: Tensor

    def take(self, rows: Tensor, columns: slice) -> _Past:
        """Those of some sequences, and of some places."""
        return _Past(self.keys[rows][..., columns], self.values[rows][:, :, columns])


class LeanDecoder:
    """Llama-shaped models: prompts are read without padding, each different one once."""

    def __init__(self, trunk: LeanTrunk):
        self.trunk = trunk
        self.lean = trunk.lean
        self.dtype = trunk.dtype

    def start(self, prompts: Sequence[Tensor], steps: int) -> Tensor:
        """See `Decoder.start`."""
        unique, index = _distinct(prompts)
        lengths = [len(prompt) for prompt in unique]
        ids = torch.cat(list(unique))
        longest = max(lengths)
        self.layers = [_Step(layer, self.dtype, len(prompts)) for layer in self.lean.layers]

        h = self.lean.trunk.embed_tokens(ids).to(self.dtype)
        run = self.lean.run_of(apart(lengths), h)
        self.past = []
        for step in self.layers:
            layer = step.layer
            qkv = step.heads(h, run.cos, run.sin)
            past = self._room(len(unique), longest + steps, layer)
            for row, (prompt, length) in enumerate(zip(run.segments, lengths, strict=True)):
                keys, values = layer.key_value_heads(qkv[prompt.rows])
                past.keys[row, :, :, longest - length : longest] = keys.permute(1, 2, 0)
                past.values[row, :, longest - length : longest] = values.transpose(0, 1)
            h = step.out.plus(layer.attend(qkv, run, keep=False)[0], h)
            h = step.feed_forward(h)
            self.past.append(past.take(index, slice(None)) if len(unique) < len(index) else past)

        last = torch.tensor(lengths, device=ids.device).cumsum(0) - 1
        self.position = torch.tensor(lengths, device=ids.device)[index]
        self.begin = longest - self.position  # the first real key of each row
        self.filled = longest
        return self.lean.norm(h[last][index]).to(self.dtype)

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        h = self.lean.trunk.embed_tokens(tokens).to(self.dtype)
        cos, sin = self.lean.trunk.rotary_emb(h, self.position[:, None])
        half = cos.shape[-1] // 2
        cos, sin = cos[..., :half], sin[..., :half]  # (B, 1, D/2)
        here, self.filled = self.filled, self.filled + 1
        unseen = self._unseen(h)
        for step, past in zip(self.layers, self.past, strict=True):
            layer = step.layer
            qkv = step.heads(h, cos, sin)
            past.keys[..., here], past.values[:, :, here] = layer.key_value_heads(qkv)
            query = qkv[:, : layer.heads * layer.head_size]
            query = query.reshape(len(h) * layer.kv_heads, -1, layer.head_size)
            keys = past.keys.flatten(0, 1)[..., : self.filled]
            values = past.values.flatten(0, 1)[:, : self.filled]
            scores = torch.baddbmm(unseen, query, keys, alpha=layer.scale)
            mixed = torch.softmax(scores, dim=-1) @ values
            h = step.out.plus(mixed.view(len(h), -1), h)
            h = step.feed_forward(h)
        self.position = self.position + 1
        return self.lean.norm(h).to(self.dtype)

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`; columns that none of the rows needs go as well."""
        unneeded = int(self.begin[rows].min())
        self.past = [past.take(rows, slice(unneeded, None)) for past in self.past]
        self.begin, self.position = self.begin[rows] - unneeded, self.position[rows]
        self.filled -= unneeded

    def _room(self, rows: int, places: int, layer: Any) -> _Past:
        new = {"dtype": self.dtype, "device": self.lean.trunk.embed_tokens.weight.device}
        keys = torch.zeros(rows, layer.kv_heads, layer.head_size, places, **new)
        return _Past(keys, torch.zeros(rows, layer.kv_heads, places, layer.head_size, **new))

    def _unseen(self, h: Tensor) -> Tensor:
        """What is added to a row's scores: -inf at its padding, (B · G, 1, places filled)."""
        padding = torch.arange(self.filled, device=h.device) < self.begin[:, None]
        added = h.new_zeros(padding.shape).masked_fill_(padding, float("-inf"))
        groups = self.lean.layers[0].kv_heads
        return added.repeat_interleave(groups, 0)[:, None]


class CachedDecoder:
    """Any causal language model of transformers, with its own cache."""

    def __init__(self, trunk: PaddedTrunk):
        self.trunk = trunk
        self.causal = causal_model(trunk.model)
        self.takes_positions = "position_ids" in inspect.signature(trunk.body.forward).parameters

    def start(self, prompts: Sequence[Tensor], steps: int) -> Tensor:
        """See `Decoder.start`."""
        from transformers import DynamicCache

        longest = max(len(prompt) for prompt in prompts)
        device = prompts[0].device
        ids = torch.zeros(len(prompts), longest, dtype=torch.long, device=device)
        self.mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = prompt
            self.mask[row, longest - len(prompt) :] = 1
        self.cache = DynamicCache(config=self.causal.config)
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


def _distinct(prompts: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The different ones among the prompts, and which of them each prompt is."""
    places: dict[bytes, int] = {}
    unique: list[Tensor] = []
    index = []
    for prompt in prompts:
        key = prompt.cpu().numpy().tobytes()
        if key not in places:
            places[key] = len(unique)
            unique.append(prompt)
        index.append(places[key])
    return unique, torch.tensor(index, device=prompts[0].device)
