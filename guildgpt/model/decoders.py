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
from torch.nn import functional as F

from guildgpt.model.lean import RunOf, rms_norm, rotate
from guildgpt.model.trunk import LeanTrunk, PaddedTrunk, Trunk, causal_model, wearing


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


class _Folded(NamedTuple):
    """A layer and its four matrices, (outs, in), adapters folded in: a step of generation has few
    rows, and two more small products for each matrix would cost more than they compute."""

    layer: Any
    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor

    def feed_forward(self, h: Tensor) -> Tensor:
        """h + down(silu(gate) * up), (N, d)."""
        gate_up = rms_norm(h, self.layer.norm2, self.layer.eps)[0] @ self.gate_up.t()
        gate, up = gate_up.chunk(2, dim=-1)
        return torch.addmm(h, F.silu(gate).mul_(up), self.down.t())


def _fold(layer: Any, dtype: torch.dtype) -> _Folded:
    layer.prepare(dtype)
    return _Folded(layer, *(p.folded() for p in (layer.qkv, layer.out, layer.gate_up, layer.down)))


class LeanDecoder:
    """Llama-shaped models: prompts are read without padding, each different one once.

    Keys and values: (layers, B, G, longest prompt + steps, D).
    """

    def __init__(self, trunk: LeanTrunk):
        self.trunk = trunk
        self.lean = trunk.lean
        self.dtype = trunk.dtype

    def start(self, prompts: Sequence[Tensor], steps: int) -> Tensor:
        """See `Decoder.start`."""
        unique, index = _distinct(prompts)
        lengths = [len(prompt) for prompt in unique]
        ids = torch.cat(list(unique))
        longest, first = max(lengths), self.lean.layers[0]
        shape = (len(unique), first.kv_heads, longest + steps, first.head_size)
        kept = [ids.new_zeros((2, *shape), dtype=self.dtype) for _ in self.lean.layers]
        self.layers = [_fold(layer, self.dtype) for layer in self.lean.layers]

        positions = torch.cat([torch.arange(length, device=ids.device) for length in lengths])
        h = self.lean.trunk.embed_tokens(ids).to(self.dtype)
        cos, sin = self.lean.trunk.rotary_emb(h, positions[None])
        run = RunOf(lengths, cos[0], sin[0])
        for folded, cache in zip(self.layers, kept, strict=True):
            layer = folded.layer
            qkv = rms_norm(h, layer.norm1, layer.eps)[0] @ folded.qkv.t()
            rotate(layer.query_key_heads(qkv), run.cos, run.sin)
            for row, (span, length) in enumerate(zip(run.rows, lengths, strict=True)):
                keys, values = layer.key_value_heads(qkv[span])
                cache[0, row, :, longest - length : longest] = keys.transpose(0, 1)
                cache[1, row, :, longest - length : longest] = values.transpose(0, 1)
            h = torch.addmm(h, layer.attend(qkv, run, keep=False)[0], folded.out.t())
            h = folded.feed_forward(h)

        last = torch.tensor(lengths, device=ids.device).cumsum(0) - 1
        self.cache = [cache[:, index] for cache in kept] if len(unique) < len(index) else kept
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
        end = self.filled + 1
        hidden = torch.arange(end, device=h.device) < self.begin[:, None]  # padding, (B, end)
        unseen = hidden[:, None, None] if bool(hidden.any()) else None
        for folded, cache in zip(self.layers, self.cache, strict=True):
            layer = folded.layer
            qkv = rms_norm(h, layer.norm1, layer.eps)[0] @ folded.qkv.t()
            rotate(layer.query_key_heads(qkv), cos, sin)
            keys, values = layer.key_value_heads(qkv)  # (B, G, D)
            cache[0, :, :, self.filled], cache[1, :, :, self.filled] = keys, values
            query = qkv[:, : layer.heads * layer.head_size]
            query = query.view(len(h), layer.kv_heads, -1, layer.head_size)
            scores = (query @ cache[0, :, :, :end].transpose(2, 3)).mul_(layer.scale)
            if unseen is not None:
                scores.masked_fill_(unseen, float("-inf"))
            mixed = torch.softmax(scores, dim=-1) @ cache[1, :, :, :end]
            h = torch.addmm(h, mixed.view(len(h), -1), folded.out.t())
            h = folded.feed_forward(h)
        self.filled = end
        self.position = self.position + 1
        return self.lean.norm(h).to(self.dtype)

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`; columns that none of the rows needs go as well."""
        unneeded = int(self.begin[rows].min())
        self.cache = [cache[:, rows, :, unneeded:] for cache in self.cache]
        self.begin, self.position = self.begin[rows] - unneeded, self.position[rows]
        self.filled -= unneeded


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
