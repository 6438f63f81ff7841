"""Sequences end to end for one pass, without padding, and their causal attention, forward and
backward; none sees another.

A prompt that neighbours share is there once: answers to one prompt come together wherever answers
are compared, in groups, rankings and pairs.

Shapes: N tokens of all segments together, H query heads, G key-value heads, D head size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from guildgpt.data.examples import Example

NOTHING = slice(0, 0)
EXPLICIT_ATTENTION = 512  # up to this length attention weights are kept; longer ones are recomputed
QUERY_BLOCK = 72  # queries that attend together: the fewer, the less is computed of what is masked


class Segment(NamedTuple):
    """Tokens of a sequence that lie together, and where those lie that stand before them in it."""

    rows: slice
    before: slice = NOTHING

    @property
    def first(self) -> int:
        """The position of its first token in the sequence."""
        return int(self.before.stop - self.before.start)

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return int(self.rows.stop - self.rows.start)


@dataclass(frozen=True)
class Layout:
    """What is computed of some sequences: `ids` (N,) in `segments`; `places` (M,) says in which of
    these rows each token of the sequences, one after the other, is found."""

    ids: NDArray[np.int32]
    segments: list[Segment]
    places: NDArray[np.int64]

    @property
    def sources(self) -> NDArray[np.int64]:
        """For each row (N,) a token of the sequences, one after the other, that it stands for."""
        found = np.empty(len(self.ids), dtype=np.int64)
        found[self.places] = np.arange(len(self.places))
        return found

    @property
    def attention_pairs(self) -> int:
        """How many (query, key) pairs attention has, those it masks among them."""
        return sum(one.length * (one.first + one.length) for one in self.segments)


def apart(lengths: Sequence[int]) -> list[Segment]:
    """Sequences that share nothing."""
    return [Segment(slice(*edge)) for edge in pairwise(accumulate(lengths, initial=0))]


def lay_out(examples: Sequence[Example], longest: int) -> Layout:
    """Each run of neighbours with the same tokens before the first that is predicted shares these.

    Sequences of more than `longest` tokens are left whole.
    """
    ids: list[NDArray[np.int32]] = []
    segments: list[Segment] = []
    places: list[NDArray[np.int64]] = []
    filled = 0

    def add(tokens: NDArray[np.int32], before: slice) -> slice:
        nonlocal filled
        rows = slice(filled, filled + len(tokens))
        filled = rows.stop
        ids.append(tokens)
        segments.append(Segment(rows, before))
        return rows

    for common, group in _neighbours(examples, longest):
        shared = add(group[0].ids[:common], NOTHING) if common else NOTHING
        for example in group:
            own = add(example.ids[common:], shared)
            places += [np.arange(shared.start, shared.stop), np.arange(own.start, own.stop)]
    return Layout(np.concatenate(ids), segments, np.concatenate(places))


def _neighbours(
    examples: Sequence[Example], longest: int
) -> Iterable[tuple[int, Sequence[Example]]]:
    """Runs of neighbours, each with the number of tokens that they share at the beginning."""

    def prompt(example: Example) -> bytes:
        common = int(example.mask.argmax()) if len(example) <= longest else 0
        return example.ids[:common].tobytes()

    for key, run in groupby(examples, prompt):
        group = list(run)
        yield (len(key) // group[0].ids.itemsize if len(group) > 1 else 0), group


# --- attention -----------------------------------------------------------------------------------

# Of one segment: q (G, H/G, length, D), and k and v (G, first + length, D).
_Heads = tuple[Tensor, Tensor, Tensor]
# Attention weights, of each segment's blocks of queries; none where they are computed again.
Weights = list[list[Tensor]]
Kept = tuple[Tensor, Weights]  # with the mixed values (N, H · D)


class Pass(NamedTuple):
    """What all layers of one pass share."""

    segments: Sequence[Segment]
    cos: Tensor  # rotary tables (N, 1, D/2)
    sin: Tensor
    mask: Tensor  # true where a query may not look; a block's is its upper left corner

    @classmethod
    def over(cls, segments: Sequence[Segment], cos: Tensor, sin: Tensor) -> Pass:
        """A pass over `segments`, with transformers' rotary tables (N, D)."""
        half = cos.shape[-1] // 2
        cos, sin = (table[:, None, :half].contiguous() for table in (cos, sin))
        size = min(max(segment.length for segment in segments), 2 * QUERY_BLOCK)
        mask = torch.ones(size, size, dtype=torch.bool, device=cos.device)
        return cls(segments, cos, sin, mask.triu_(1))


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary position embedding in place, heads (N, H, D), cos and sin (N, 1, D/2).

    Su et al. 2021, arXiv 2104.09864, in the half-split layout of Llama; with -sin it is undone.
    """
    first, second = heads.chunk(2, dim=-1)
    kept = first.clone()
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(kept, sin)


class Attention:
    """The attention of one layer, between the projections: from `qkv` (N, (H + 2 G) · D), queries,
    keys and values side by side, to (N, H · D)."""

    def __init__(self, module: Any, config: Any):
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        self.size = int(module.head_dim)
        self.scale = float(module.scaling)

    def query_key_heads(self, qkv: Tensor) -> Tensor:
        """A view of the query and key heads, (N, H + G, D)."""
        both = (self.heads + self.kv_heads) * self.size
        return qkv[:, :both].view(len(qkv), -1, self.size)

    def key_value_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the key heads and of the value heads, (N, G, D) each."""
        heads = qkv.view(len(qkv), self.heads + 2 * self.kv_heads, self.size)[:, self.heads :]
        keys, values = heads.chunk(2, dim=1)
        return keys, values

    def grouped_queries(self, rows: Tensor) -> Tensor:
        """A view (G, H/G, length, D) of the query heads in rows that begin with them.

        Those that share a key head lie together: they are one larger matrix product in place of
        several small ones, and keys are never repeated.
        """
        queries = rows[:, : self.heads * self.size]
        return queries.view(len(rows), self.kv_heads, -1, self.size).permute(1, 2, 0, 3)

    def _split(self, qkv: Tensor, segment: Segment) -> _Heads:
        """A segment's queries, and the keys and values of all that it may look at."""
        k, v = (heads.transpose(0, 1) for heads in self.key_value_heads(qkv[segment.rows]))
        if segment.first:
            earlier = [heads.transpose(0, 1) for heads in self.key_value_heads(qkv[segment.before])]
            k, v = (torch.cat(pair, dim=1) for pair in zip(earlier, (k, v), strict=True))
        return self.grouped_queries(qkv[segment.rows]), k, v

    def forward(self, qkv: Tensor, run: Pass, keep: bool = True) -> tuple[Tensor, Kept]:
        """The mixed values, and what the backward pass reuses; without `keep` no weights. `qkv` is
        rotated in place."""
        rotate(self.query_key_heads(qkv), run.cos, run.sin)
        mixed = qkv.new_empty(len(qkv), self.heads * self.size)
        weights = []
        for segment in run.segments:
            q, k, v = self._split(qkv, segment)
            out = self.grouped_queries(mixed[segment.rows])
            if segment.first or (keep and segment.length <= EXPLICIT_ATTENTION):
                weights.append(self._by_blocks(q, k, v, out, run.mask))
            else:
                out.copy_(self._flash(q, k, v))
                weights.append([])
        return mixed, (mixed, weights)

    def recall(self, qkv: Tensor, kept: Kept) -> Kept:
        """The mixed values again, and the weights."""
        return kept

    def backward(self, qkv: Tensor, grad: Tensor, weights: Weights, run: Pass) -> Tensor:
        """The gradient of `qkv`, before it was rotated, from that of the mixed values."""
        result = torch.zeros_like(qkv)
        keys, values = self.key_value_heads(result)
        for segment, kept in zip(run.segments, weights, strict=True):
            inputs, asked = self._split(qkv, segment), self.grouped_queries(grad[segment.rows])
            backward = self._by_blocks_backward if kept else self._flash_backward
            grad_q, grad_k, grad_v = backward(inputs, asked, kept)
            self.grouped_queries(result[segment.rows]).copy_(grad_q)
            for heads, found in ((keys, grad_k), (values, grad_v)):  # others may look there too
                heads[segment.before] += found[:, : segment.first].transpose(0, 1)
                heads[segment.rows] += found[:, segment.first :].transpose(0, 1)
        rotate(self.query_key_heads(result), run.cos, -run.sin)
        return result

    def _by_blocks(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, mask: Tensor
    ) -> list[Tensor]:
        """Write the answer into `out` (like q); each block's attention weights."""
        kept = []
        first = k.shape[1] - q.shape[2]  # the position of the first query
        for block in query_blocks(q.shape[2]):
            seen, width = slice(first + block.stop), block.stop - block.start
            scores = (q[:, :, block].flatten(1, 2) @ k[:, seen].transpose(1, 2)).mul_(self.scale)
            newest = scores.view(self.kv_heads, -1, width, seen.stop)[..., first + block.start :]
            newest.masked_fill_(mask[:width, :width], float("-inf"))
            weights = torch.softmax(scores, dim=-1)
            out[:, :, block] = (weights @ v[:, seen]).view_as(out[:, :, block])
            kept.append(weights)
        return kept

    def _by_blocks_backward(self, inputs: _Heads, grad: Tensor, kept: list[Tensor]) -> _Heads:
        """The gradients of q, k and v."""
        q, k, v = inputs
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for block, weights in zip(query_blocks(q.shape[2]), kept, strict=True):
            seen = slice(weights.shape[-1])
            asked, answer = (t[:, :, block].flatten(1, 2) for t in (q, grad))
            grad_scores = torch.ops.aten._softmax_backward_data(
                answer @ v[:, seen].transpose(1, 2), weights, -1, weights.dtype
            ).mul_(self.scale)
            grad_q[:, :, block] = (grad_scores @ k[:, seen]).view_as(grad_q[:, :, block])
            grad_k[:, seen] += grad_scores.transpose(1, 2) @ asked
            grad_v[:, seen] += weights.transpose(1, 2) @ answer
        return grad_q, grad_k, grad_v

    def _flash(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of a long sequence, whose weights would not fit: like q."""
        queries = q.flatten(0, 1)[None]
        answer = F.scaled_dot_product_attention(
            queries, k[None], v[None], is_causal=True, scale=self.scale, enable_gqa=True
        )
        return answer.view_as(q)

    def _flash_backward(self, inputs: _Heads, grad: Tensor, kept: list[Tensor]) -> _Heads:
        """The same, for which the answer is computed again."""
        with torch.enable_grad():
            q, k, v = (t.detach().requires_grad_() for t in inputs)
            answer = self._flash(q, k, v)
        return torch.autograd.grad(answer, (q, k, v), grad)  # type: ignore[return-value]


def query_blocks(length: int) -> list[slice]:
    """A sequence's queries in runs of about `QUERY_BLOCK`, each of which sees the keys up to its
    end."""
    count = max(1, round(length / QUERY_BLOCK))
    edges = [length * i // count for i in range(count + 1)]
    return [slice(*edge) for edge in pairwise(edges)]
