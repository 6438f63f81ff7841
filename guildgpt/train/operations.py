"""How many floating-point operations a pass takes, for its share of the machine's peak."""

from __future__ import annotations

from collections.abc import Sequence

from guildgpt.data.examples import Example
from guildgpt.network.adapters import causal_model
from guildgpt.network.trunk import Trunk


class Shape:
    """Sizes that the count of operations needs."""

    def __init__(self, trunk: Trunk):
        self.trunk = trunk
        causal = causal_model(trunk.model)
        config = causal.config
        table = causal.get_input_embeddings().weight
        modules = [m for m in (causal.get_input_embeddings(), causal.get_output_embeddings()) if m]
        tables = {parameter for module in modules for parameter in module.parameters()}
        self.all_trained = all(p.requires_grad for p in trunk.model.parameters())
        self.body = sum(p.numel() for p in trunk.model.parameters() if p not in tables)
        self.head = table.numel()
        layers = getattr(config, "num_hidden_layers", None) or config.n_layers
        self.attention = 4 * layers * table.shape[1]

    def flops(self, batch: Sequence[Example], *, logits: int, backward: bool = True) -> float:
        """2 per weight and token forward, 2 for the gradient of what flows back, and 2 more where
        weights are trained; attention's products (4 L² d a layer forward, twice that backward).
        `logits` is the number of tokens that the vocabulary head sees. What the trunk computes once
        for several examples counts once."""
        per_weight = (6 if self.all_trained else 4) if backward else 2
        tokens, pairs = self.trunk.work(batch)
        products = tokens * self.body + logits * self.head
        return float(per_weight * products + (3 if backward else 1) * pairs * self.attention)
