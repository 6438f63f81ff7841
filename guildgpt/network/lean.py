"""A lean pass for Llama-shaped models: transformers' weights, our own forward and backward.

Same function as `LlamaForCausalLM`, arranged so that small machines waste nothing: sequences lie
end to end without padding and share their prompts (`layout.py`), projections that share an input
are one matrix product, low-rank adapters are added in place, the backward pass is written out
(cheap things are computed again instead of stored), and the vocabulary head touches only the
positions that are trained.

Shapes: N tokens of all segments together, d hidden size, H query heads, G key-value heads, D head
size, r rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guildgpt.data.examples import Example
from guildgpt.network.layout import Layout, Segment, lay_out

EXPLICIT_ATTENTION = 512  # up to this length attention weights are kept; longer ones are recomputed
QUERY_BLOCK = 72  # queries that attend together: the fewer, the less is computed of what is masked


class Projection:
    """Linear layers that share one input, run as one: y = x Wᵀ + s (x Aᵀ) Bᵀ, columns side by side.

    Built from `nn.Linear` or peft's LoRA layers, whose parameters it uses where they are: the
    weights become views of one fused matrix, so optimizers, peft and saving see them as before.
    LoRA: Hu et al. 2021, arXiv 2106.09685, eq. 3.
    """

    def __init__(self, layers: Sequence[Any], adapter: str | None):
        weights: list[Any] = [_base(layer, adapter).weight for layer in layers]
        self.layers = layers
        self.sizes = [len(weight) for weight in weights]
        self.weights = weights
        self.trains_weights = bool(weights[0].requires_grad)
        self.fused = fused(weights)
        self.matrix = self.fused
        self.down = self.fused[:0]
        self.adapters: list[_Adapter] = []
        for index, layer in enumerate(self.layers):
            if adapter is not None and hasattr(layer, "lora_A"):
                first = sum(self.sizes[:index])
                columns = slice(first, first + self.sizes[index])
                down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
                rank = sum(len(one.down) for one in self.adapters)
                ranks = slice(rank, rank + len(down))
                scale = float(layer.scaling[adapter])
                self.adapters.append(_Adapter(down, up, scale, columns, ranks))
        uneven = any(weight.requires_grad != self.trains_weights for weight in weights)
        if uneven or (self.trains_weights and self.adapters):
            raise TypeError("weights that share an input must be trained alike")

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained here, in the order in which `backward` returns gradients."""
        if self.trains_weights:
            return list(self.weights)
        return [weight for adapter in self.adapters for weight in (adapter.down, adapter.up)]

    def prepare(self, dtype: torch.dtype) -> None:
        """Take the weights as they are now, in the dtype of the computation, for one pass."""
        self.matrix = self.fused.to(dtype)  # the same tensor where the dtype is
        if self.adapters:
            self.down = torch.cat([adapter.down.data for adapter in self.adapters]).to(dtype)

    def folded(self) -> Tensor:
        """The weights of one pass with their adapters folded in, (sum of outs, in); those that are
        there already where no adapter is worn. `prepare` must have been called."""
        if not self.adapters:
            return self.matrix
        whole = self.matrix.clone()
        for adapter in self.adapters:
            down = self.down[adapter.ranks]
            whole[adapter.columns].addmm_(adapter.up.to(whole.dtype), down, alpha=adapter.scale)
        return whole

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, in) to (N, sum of outs), and what `backward` reuses: x Aᵀ of all adapters."""
        y = x @ self.matrix.t()
        if not self.adapters:
            return y, None
        hidden = x @ self.down.t()
        for adapter in self.adapters:
            up = adapter.up.to(x.dtype).t()
            y[:, adapter.columns].addmm_(hidden[:, adapter.ranks], up, alpha=adapter.scale)
        return y, hidden

    def backward(
        self, x: Tensor, hidden: Tensor | None, grad: Tensor, need_input: bool = True
    ) -> _Gradients:
        """Gradients of the input (N, in) and of `parameters`, from that of the output."""
        inputs = grad @ self.matrix if need_input else None
        if self.trains_weights:
            fused = (grad.t() @ x).to(self.fused.dtype)
            return inputs, list(torch.split(fused, self.sizes))
        if hidden is None:
            return inputs, [None] * (2 * len(self.adapters))
        grad_hidden = torch.empty_like(hidden)
        ups = []
        for _, up, scale, columns, ranks in self.adapters:
            part = grad[:, columns]
            grad_hidden[:, ranks] = (part @ up.to(x.dtype)).mul_(scale)
            ups.append((part.t() @ hidden[:, ranks]).mul_(scale).to(up.dtype))
        downs = (grad_hidden.t() @ x).to(self.adapters[0].down.dtype)
        if inputs is not None:
            inputs.addmm_(grad_hidden, self.down)
        gradients: list[Tensor | None] = []
        for adapter, up_grad in zip(self.adapters, ups, strict=True):
            gradients += [downs[adapter.ranks], up_grad]
        return inputs, gradients


class _Adapter(NamedTuple):
    """LoRA's A (r, in) and B (out, r), the scale s, the columns of y that they change, and those
    of x Aᵀ that are theirs."""

    down: nn.Parameter
    up: nn.Parameter
    scale: float
    columns: slice
    ranks: slice


_Gradients = tuple[Tensor | None, Sequence[Tensor | None]]


def fused(weights: Sequence[Any]) -> Tensor:
    """The matrices (out, in) one below the other, as one of which each becomes a view.

    Where they are that already, because another pass over the same model was here, nothing moves.
    """
    first, rows = weights[0].data, sum(map(len, weights))
    width = first.shape[1]
    place = first.data_ptr()
    together = first.is_contiguous()
    for weight in weights:
        together = together and weight.data.is_contiguous() and weight.data_ptr() == place
        place += weight.numel() * weight.element_size()
    room = first.untyped_storage().nbytes() // first.element_size() - first.storage_offset()
    if together and room >= rows * width:
        view: Tensor = first.as_strided((rows, width), (width, 1))
        return view
    whole = torch.cat([weight.data for weight in weights])
    for weight, part in zip(weights, torch.split(whole, [len(w) for w in weights]), strict=True):
        weight.data = part
    return whole


def _base(layer: Any, adapter: str | None) -> nn.Linear:
    """The linear layer itself, inside peft's wrapper if it has one."""
    base = layer.base_layer if hasattr(layer, "base_layer") else layer
    if type(base) is not nn.Linear or base.bias is not None:
        raise TypeError(f"only plain linear layers without bias, not {base}")
    if hasattr(layer, "base_layer"):
        if not hasattr(layer, "lora_A") or layer.merged:
            raise TypeError("only unmerged LoRA adapters")
        if adapter is None:
            return base
        if adapter not in layer.lora_A:
            raise TypeError(f"no LoRA adapter named {adapter}")
        odd = (
            not isinstance(layer.lora_dropout[adapter], nn.Identity),
            layer.use_dora.get(adapter, False),
            layer.lora_bias.get(adapter, False),
        )
        if any(odd):
            raise TypeError("only LoRA without dropout, DoRA and bias")
    return base


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """y = w x / rms(x) and 1 / rms(x), shape (N, 1). Zhang & Sennrich 2019, arXiv 1910.07467."""
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale = scale.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * scale.to(x.dtype)).mul_(weight), scale


def rms_norm_backward(
    x: Tensor, scale: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of x (N, d) and of the weight (d,)."""
    normed = x * scale.to(x.dtype)
    weight_grad = (grad * normed).sum(0)
    grad = grad * weight
    share = (grad * normed).mean(-1, keepdim=True)
    return grad.sub_(normed.mul_(share)).mul_(scale.to(x.dtype)), weight_grad


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary position embedding in place, heads (N, H, D), cos and sin (N, 1, D/2).

    Su et al. 2021, arXiv 2104.09864, in the half-split layout of Llama; with -sin it is undone.
    """
    first, second = heads.chunk(2, dim=-1)
    kept = first.clone()
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(kept, sin)


class _Attention(torch.autograd.Function):
    """h + attention(norm(h)), for all sequences at once; none sees another."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, layer: _Layer, run: RunOf, *parameters: Tensor) -> Tensor:
        y, scale = rms_norm(h, layer.norm1, layer.eps)
        qkv, hidden_in = layer.qkv.forward(y)
        rotate(layer.query_key_heads(qkv), run.cos, run.sin)
        mixed, probabilities = layer.attend(qkv, run)
        out, hidden_out = layer.out.forward(mixed)
        ctx.layer, ctx.run, ctx.probabilities = layer, run, probabilities
        ctx.save_for_backward(h, scale, qkv, mixed, hidden_in, hidden_out)
        return out.add_(h)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,), layer, run = grads, ctx.layer, ctx.run
        h, scale, qkv, mixed, hidden_in, hidden_out = ctx.saved_tensors
        grad_mixed, grad_out = layer.out.backward(mixed, hidden_out, grad)
        grad_qkv = layer.attend_backward(qkv, grad_mixed, ctx.probabilities, run)
        ctx.probabilities = None
        rotate(layer.query_key_heads(grad_qkv), run.cos, -run.sin)
        y = (h * scale.to(h.dtype)).mul_(layer.norm1)
        need_input = ctx.needs_input_grad[0] or layer.norm1.requires_grad
        grad_y, grad_in = layer.qkv.backward(y, hidden_in, grad_qkv, need_input)
        grad_h, grad_norm = None, None
        if grad_y is not None:
            through, grad_norm = rms_norm_backward(h, scale, layer.norm1, grad_y)
            grad_h = through.add_(grad)
        return grad_h, None, None, *_with_norm(layer.norm1, grad_norm), *grad_in, *grad_out


class _Mlp(torch.autograd.Function):
    """h + down(silu(gate(norm(h))) * up(norm(h))). Shazeer 2020, arXiv 2002.05202, eq. 6."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, layer: _Layer, *parameters: Tensor) -> Tensor:
        y, scale = rms_norm(h, layer.norm2, layer.eps)
        gate_up, hidden_in = layer.gate_up.forward(y)
        gate, up = gate_up.chunk(2, dim=-1)
        out, hidden_out = layer.down.forward(F.silu(gate).mul_(up))
        ctx.layer = layer
        ctx.save_for_backward(h, scale, gate_up, hidden_in, hidden_out)
        return out.add_(h)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,), layer = grads, ctx.layer
        h, scale, gate_up, hidden_in, hidden_out = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        silu = F.silu(gate)
        grad_product, grad_down = layer.down.backward(silu * up, hidden_out, grad)
        assert grad_product is not None
        grad_gate_up = torch.empty_like(gate_up)
        grad_gate, grad_up = grad_gate_up.chunk(2, dim=-1)
        torch.mul(grad_product, silu, out=grad_up)
        grad_gate.copy_(torch.ops.aten.silu_backward(grad_product.mul_(up), gate))
        y = (h * scale.to(h.dtype)).mul_(layer.norm2)
        grad_y, grad_in = layer.gate_up.backward(y, hidden_in, grad_gate_up)
        assert grad_y is not None
        through, grad_norm = rms_norm_backward(h, scale, layer.norm2, grad_y)
        return (
            through.add_(grad),
            None,
            *_with_norm(layer.norm2, grad_norm),
            *grad_in,
            *grad_down,
        )


def _with_norm(weight: Tensor, grad: Tensor | None) -> list[Tensor | None]:
    return [grad] if weight.requires_grad else []


class RunOf:
    """What all layers of one pass share: where segments lie, rotary tables, causal masks."""

    def __init__(self, segments: Sequence[Segment], cos: Tensor, sin: Tensor):
        self.segments = segments
        half = cos.shape[-1] // 2
        self.cos, self.sin = (table[:, None, :half].contiguous() for table in (cos, sin))
        self._masks: dict[int, Tensor] = {}

    def mask(self, length: int) -> Tensor:
        """True where a query may not look, (length, length)."""
        if length not in self._masks:
            ones = torch.ones(length, length, dtype=torch.bool, device=self.cos.device)
            self._masks[length] = ones.triu_(1)
        return self._masks[length]


class _Layer:
    """One decoder layer's weights, fused, and its attention."""

    def __init__(self, layer: nn.Module, config: Any, adapter: str | None):
        attention: Any = layer.self_attn
        mlp: Any = layer.mlp
        self.qkv = Projection([attention.q_proj, attention.k_proj, attention.v_proj], adapter)
        self.out = Projection([attention.o_proj], adapter)
        self.gate_up = Projection([mlp.gate_proj, mlp.up_proj], adapter)
        self.down = Projection([mlp.down_proj], adapter)
        self.norm1: Tensor = layer.input_layernorm.weight  # type: ignore[assignment,union-attr]
        self.norm2: Tensor = layer.post_attention_layernorm.weight  # type: ignore[assignment,union-attr]
        self.eps = float(config.rms_norm_eps)
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        self.head_size = int(attention.head_dim)
        self.scale = float(attention.scaling)
        self.attention_parameters = self._parameters(self.norm1, self.qkv, self.out)
        self.mlp_parameters = self._parameters(self.norm2, self.gate_up, self.down)

    @staticmethod
    def _parameters(norm: Tensor, *projections: Projection) -> list[Tensor]:
        own = [norm] if norm.requires_grad else []
        return [*own, *(p for projection in projections for p in projection.parameters)]

    def prepare(self, dtype: torch.dtype) -> None:
        for projection in (self.qkv, self.out, self.gate_up, self.down):
            projection.prepare(dtype)

    def forward(self, h: Tensor, run: RunOf) -> Tensor:
        h = _Attention.apply(h, self, run, *self.attention_parameters)  # type: ignore[no-untyped-call]
        out: Tensor = _Mlp.apply(h, self, *self.mlp_parameters)  # type: ignore[no-untyped-call]
        return out

    def query_key_heads(self, qkv: Tensor) -> Tensor:
        """A view of the query and key heads, (N, H + G, D)."""
        both = (self.heads + self.kv_heads) * self.head_size
        return qkv[:, :both].view(len(qkv), -1, self.head_size)

    def key_value_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the key heads and of the value heads, (N, G, D) each."""
        heads = qkv.view(len(qkv), self.heads + 2 * self.kv_heads, self.head_size)[:, self.heads :]
        keys, values = heads.chunk(2, dim=1)
        return keys, values

    def _split(self, qkv: Tensor, segment: Segment) -> _Heads:
        """A segment's q (G, H/G, length, D), and k, v (G, first + length, D) of all it may look at.

        The query heads that share a key head lie together: they are one larger matrix product in
        place of several small ones, and keys are never repeated.
        """
        q = qkv[segment.rows, : self.heads * self.head_size]
        k, v = (heads.transpose(0, 1) for heads in self.key_value_heads(qkv[segment.rows]))
        if segment.first:
            earlier = self.key_value_heads(qkv[segment.before])
            k, v = (
                torch.cat([old.transpose(0, 1), new], dim=1)
                for old, new in zip(earlier, (k, v), strict=True)
            )
        return self._group(q), k, v

    def _group(self, heads: Tensor) -> Tensor:
        """A view (G, H/G, length, D) of query heads in rows, (length, H · D)."""
        return heads.view(len(heads), self.kv_heads, -1, self.head_size).permute(1, 2, 0, 3)

    def attend(
        self, qkv: Tensor, run: RunOf, keep: bool = True
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Causal attention within each sequence: (N, H · D), and what the backward pass reuses,
        if it is to be kept."""
        mixed = qkv.new_empty(len(qkv), self.heads * self.head_size)
        kept: list[list[Tensor]] = []
        for segment in run.segments:
            q, k, v = self._split(qkv, segment)
            out = self._group(mixed[segment.rows])
            if segment.first or (keep and segment.length <= EXPLICIT_ATTENTION):
                kept.append(self._by_blocks(q, k, v, out, run))
            else:
                out.copy_(self._flash(q, k, v))
                kept.append([])
        return mixed, kept

    def attend_backward(
        self, qkv: Tensor, grad: Tensor, kept: list[list[Tensor]], run: RunOf
    ) -> Tensor:
        """The gradient of `qkv` (N, (H + 2 G) · D) from that of `attend`'s answer."""
        result = torch.zeros_like(qkv)
        keys, values = self.key_value_heads(result)
        for segment, weights in zip(run.segments, kept, strict=True):
            inputs, asked = self._split(qkv, segment), self._group(grad[segment.rows])
            backward = self._by_blocks_backward if weights else self._flash_backward
            grad_q, grad_k, grad_v = backward(inputs, asked, weights)
            self._group(result[segment.rows, : self.heads * self.head_size]).copy_(grad_q)
            for heads, found in ((keys, grad_k), (values, grad_v)):  # others may look there too
                heads[segment.before] += found[:, : segment.first].transpose(0, 1)
                heads[segment.rows] += found[:, segment.first :].transpose(0, 1)
        return result

    def _by_blocks(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, run: RunOf) -> list[Tensor]:
        """Write the answer into `out` (like q); each block's attention weights."""
        kept = []
        first = k.shape[1] - q.shape[2]  # the position of the first query
        for block in query_blocks(q.shape[2]):
            seen, width = slice(first + block.stop), block.stop - block.start
            scores = (q[:, :, block].flatten(1, 2) @ k[:, seen].transpose(1, 2)).mul_(self.scale)
            newest = scores.view(self.kv_heads, -1, width, seen.stop)[..., first + block.start :]
            newest.masked_fill_(run.mask(width), float("-inf"))
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


_Heads = tuple[Tensor, Tensor, Tensor]  # q (G, H/G, length, D), k and v (G, first + length, D)


def query_blocks(length: int) -> list[slice]:
    """A sequence's queries in runs of about `QUERY_BLOCK`, each of which sees the keys up to its
    end."""
    count = max(1, round(length / QUERY_BLOCK))
    edges = [length * i // count for i in range(count + 1)]
    return [slice(*edge) for edge in pairwise(edges)]


class LeanLlama:
    """The trunk of a `LlamaForCausalLM` (peft-wrapped or not) over sequences that lie end to end.

    Of several adapters it uses the one named, or none. Passes over one model share its weights.
    Raises `TypeError` where the model has something this pass does not know (biases, dropout, other
    adapters): the caller then uses the model's own forward.
    """

    def __init__(self, model: Any, adapter: str | None = None):
        from transformers import LlamaForCausalLM, LlamaForSequenceClassification

        causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        if type(causal) not in (LlamaForCausalLM, LlamaForSequenceClassification):
            raise TypeError(f"only LlamaForCausalLM, not {type(causal).__name__}")
        config = causal.config
        if config.hidden_act != "silu" or config.attention_dropout:
            raise TypeError("only silu and no dropout")
        if type(causal.model.embed_tokens) is not nn.Embedding:
            raise TypeError("only a plain embedding")
        self.trunk: Any = causal.model
        self.layers = [_Layer(layer, config, adapter) for layer in causal.model.layers]
        self.eps = float(config.rms_norm_eps)

    @staticmethod
    def lay_out(examples: Sequence[Example]) -> Layout:
        """What is computed of `examples`: prompts are shared where attention keeps its weights."""
        return lay_out(examples, EXPLICIT_ATTENTION)

    def hidden(self, ids: Tensor, segments: Sequence[Segment], dtype: torch.dtype) -> Tensor:
        """Hidden states (N, d) after the last layer and before the final norm; ids (N,)."""
        h: Tensor = self.trunk.embed_tokens(ids).to(dtype)
        run = self.run_of(segments, h)
        for layer in self.layers:
            layer.prepare(dtype)
            h = layer.forward(h, run)
        return h

    def run_of(self, segments: Sequence[Segment], h: Tensor) -> RunOf:
        """What the layers share of a pass over `segments`, from the embedded tokens (N, d)."""
        positions = torch.cat([torch.arange(s.first, s.first + s.length) for s in segments])
        cos, sin = self.trunk.rotary_emb(h, positions[None].to(h.device))
        return RunOf(segments, cos[0], sin[0])

    def norm(self, h: Tensor) -> Tensor:
        """The final norm, of whichever rows the head will see."""
        normed: Tensor = self.trunk.norm(h)
        return normed
