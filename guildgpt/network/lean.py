"""A lean pass for Llama-shaped models: transformers' weights, our own forward and backward.

Same function as `LlamaForCausalLM`, arranged so that small machines waste nothing: sequences lie
end to end without padding and share their prompts (`attention.py`), projections that share an input
are one matrix product to which low-rank adapters are added in place (`projection.py`), the backward
pass is written out (cheap things are computed again instead of stored), and the vocabulary head
touches only the positions that are trained.

Shapes: N tokens of all segments together, d hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guildgpt.data.examples import Example
from guildgpt.network import attention
from guildgpt.network.attention import Attention, Pass, Segment, lay_out
from guildgpt.network.projection import Projection
from guildgpt.network.shared import SharedLayers


def causal_model(model: Any) -> Any:
    """The transformers model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def in_format(model: Any, dtype: torch.dtype) -> Any:
    """The model itself with its weights in `dtype`. What it computes of its own, and no file holds,
    stays exact: rotary frequencies in bfloat16 are up to 0.2 % too low or too high, which at the
    thousandth token is about a radian."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    saved = model.state_dict(keep_vars=True).values()
    for tensor in saved:
        if not isinstance(tensor, nn.Parameter) and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return model


class LeanTrunk:
    """The trunk (see `Trunk`) of a `LlamaForCausalLM`, peft-wrapped or not.

    Of several adapters it wears the one named, or none. Passes over one model share its weights.
    Raises `TypeError` where the model has something this pass does not know (biases, dropout, rows
    of new tokens): the caller then uses the model's own forward.
    """

    padded = False

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype,
        adapter: str | None = None,
        shared: SharedLayers | None = None,
    ):
        from transformers import LlamaForCausalLM, LlamaForSequenceClassification

        causal = causal_model(model)
        config = causal.config
        if type(causal) not in (LlamaForCausalLM, LlamaForSequenceClassification):
            raise TypeError(f"only LlamaForCausalLM, not {type(causal).__name__}")
        if config.hidden_act != "silu" or config.attention_dropout:
            raise TypeError("only silu and no dropout")
        if type(causal.model.embed_tokens) is not nn.Embedding:
            raise TypeError("only a plain embedding")
        self.model = model
        self.dtype = dtype
        self.body: Any = causal.model
        self.layers = [Layer.of(layer, config, adapter) for layer in self.body.layers]
        self.shared = shared or SharedLayers(0)

    def hidden(self, examples: Sequence[Example], rows: Tensor) -> Tensor:
        """See `Trunk.hidden`. Prompts are shared where attention keeps its weights."""
        layout = lay_out(examples, attention.EXPLICIT_ATTENTION)
        ids, places = (torch.from_numpy(t).to(rows.device) for t in (layout.ids, layout.places))
        h = self.embedded(ids.long())
        run, depth = self.pass_over(layout.segments, h), self.shared.depth
        if depth:
            h = self.shared.states(examples, layout, partial(_through, self.layers[:depth], h, run))
        return self.norm(_through(self.layers[depth:], h, run)[places[rows]])

    def work(self, examples: Sequence[Example]) -> tuple[int, int]:
        """See `Trunk.work`."""
        layout = lay_out(examples, attention.EXPLICIT_ATTENTION)
        return len(layout.ids), layout.attention_pairs

    def embedded(self, ids: Tensor) -> Tensor:
        """What the first layer reads, (N, d)."""
        h: Tensor = self.body.embed_tokens(ids).to(self.dtype)
        return h

    def pass_over(self, segments: Sequence[Segment], h: Tensor) -> Pass:
        """What the layers share of a pass over `segments`, from the embedded tokens (N, d)."""
        positions = torch.cat([torch.arange(s.first, s.first + s.length) for s in segments])
        cos, sin = self.body.rotary_emb(h, positions[None].to(h.device))
        return Pass.over(segments, cos[0], sin[0])

    def norm(self, h: Tensor) -> Tensor:
        """The final norm, of whichever rows the head will see."""
        normed: Tensor = self.body.norm(h).to(self.dtype)
        return normed


class Half:
    """One half of a decoder layer, its weights fused: h + out(middle(into(norm(h))))."""

    def __init__(
        self, norm: Any, into: Projection, middle: Attention | Gate, out: Projection
    ) -> None:
        self.norm: Tensor = norm.weight
        self.eps = float(norm.variance_epsilon)
        self.into, self.middle, self.out = into, middle, out
        own = [self.norm] if self.norm.requires_grad else []
        self.parameters = [*own, *into.parameters, *out.parameters]

    def normed(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """y = w h / rms(h) and 1 / rms(h), (N, 1). Zhang & Sennrich 2019, arXiv 1910.07467."""
        scale = torch.linalg.vector_norm(h, dim=-1, keepdim=True, dtype=torch.float32)
        scale = scale.square_().div_(h.shape[-1]).add_(self.eps).rsqrt_()
        return (h * scale.to(h.dtype)).mul_(self.norm), scale

    def through_norm(self, grad_y: Tensor, h: Tensor, scale: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The gradient of h (N, d) from that of y, and that of the norm's weight (d,) where it is
        trained."""
        normed = h * scale.to(h.dtype)
        grad_weight = [(grad_y * normed).sum(0)] if self.norm.requires_grad else []
        grad_y = grad_y * self.norm
        share = (grad_y * normed).mean(-1, keepdim=True)
        return grad_y.sub_(normed.mul_(share)).mul_(scale.to(h.dtype)), grad_weight

    def forward(self, h: Tensor, run: Pass) -> Tensor:
        """(N, d) to (N, d), with the weights as they are now."""
        self.prepare(h.dtype)
        out: Tensor = _Residual.apply(h, self, run, *self.parameters)  # type: ignore[no-untyped-call]
        return out

    def prepare(self, dtype: torch.dtype) -> None:
        """Take the weights as they are now, in the dtype of the computation."""
        self.into.prepare(dtype)
        self.out.prepare(dtype)


class Layer(NamedTuple):
    """A decoder layer."""

    attention: Half
    feed_forward: Half

    @classmethod
    def of(cls, layer: Any, config: Any, adapter: str | None) -> Layer:
        """transformers' layer, wearing an adapter or none."""
        own, mlp = layer.self_attn, layer.mlp
        qkv = Projection([own.q_proj, own.k_proj, own.v_proj], adapter)
        out = Projection([own.o_proj], adapter)
        gate_up = Projection([mlp.gate_proj, mlp.up_proj], adapter)
        down = Projection([mlp.down_proj], adapter)
        return cls(
            Half(layer.input_layernorm, qkv, Attention(own, config), out),
            Half(layer.post_attention_layernorm, gate_up, Gate(), down),
        )


def _through(layers: Sequence[Layer], h: Tensor, run: Pass) -> Tensor:
    """Hidden states (N, d) through some layers."""
    for layer in layers:
        h = layer.attention.forward(h, run)
        h = layer.feed_forward.forward(h, run)
    return h


class Gate:
    """silu(gate) · up of two halves side by side, (N, 2 m) to (N, m).

    Shazeer 2020, arXiv 2002.05202, eq. 6.
    """

    def forward(self, gate_up: Tensor, run: Pass) -> tuple[Tensor, None]:
        """The product; nothing is kept of it."""
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up), None

    def recall(self, gate_up: Tensor, kept: None) -> tuple[Tensor, Tensor]:
        """The product again, and silu(gate)."""
        gate, up = gate_up.chunk(2, dim=-1)
        silu = F.silu(gate)
        return silu * up, silu

    def backward(self, gate_up: Tensor, grad: Tensor, silu: Tensor, run: Pass) -> Tensor:
        """The gradient of `gate_up` from that of the product, which is overwritten."""
        gate, up = gate_up.chunk(2, dim=-1)
        result = torch.empty_like(gate_up)
        grad_gate, grad_up = result.chunk(2, dim=-1)
        torch.mul(grad, silu, out=grad_up)
        grad_gate.copy_(torch.ops.aten.silu_backward(grad.mul_(up), gate))
        return result


class _Residual(torch.autograd.Function):
    """h + f(norm(h)), f one half of a layer; cheap things are computed again on the way back."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, half: Half, run: Pass, *parameters: Tensor) -> Tensor:
        y, scale = half.normed(h)
        z, hidden_in = half.into.forward(y)
        mixed, kept = half.middle.forward(z, run)
        out, hidden_out = half.out.forward(mixed)
        ctx.half, ctx.run, ctx.kept = half, run, kept
        ctx.save_for_backward(h, scale, z, hidden_in, hidden_out)
        return out.add_(h)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,), half = grads, ctx.half
        h, scale, z, hidden_in, hidden_out = ctx.saved_tensors
        mixed, kept = half.middle.recall(z, ctx.kept)
        grad_mixed, grad_out = half.out.backward(mixed, hidden_out, grad)
        grad_z = half.middle.backward(z, grad_mixed, kept, ctx.run)
        ctx.kept = kept = None  # the largest tensors of all, not needed any more
        y = (h * scale.to(h.dtype)).mul_(half.norm)
        need_input = ctx.needs_input_grad[0] or half.norm.requires_grad
        grad_y, grad_in = half.into.backward(y, hidden_in, grad_z, need_input)
        if grad_y is None:
            return None, None, None, *grad_in, *grad_out
        grad_h, grad_norm = half.through_norm(grad_y, h, scale)
        return grad_h.add_(grad), None, None, *grad_norm, *grad_in, *grad_out
