"""From sequences to losses: whichever model it is, only what is trained is computed.

A `Trunk` gives the hidden states of sequences that do not see each other. `LeanTrunk` runs
Llama-shaped models without padding; `PaddedTrunk` runs every other causal model of transformers,
sequences padded on the right, where no real token can look.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from guildgpt.data.examples import Example
from guildgpt.errors import ModelError
from guildgpt.model.lean import LeanLlama
from guildgpt.model.losses import head_cross_entropy


class Trunk(Protocol):
    """A model up to its head."""

    padded: bool
    model: nn.Module

    def hidden(self, examples: Sequence[Example], rows: Tensor) -> Tensor:
        """Final hidden states (K, d) at `rows` (K,), places in the examples laid end to end."""


class LeanTrunk:
    """`LeanLlama` behind the trunk's interface."""

    padded = False

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        self.model = model
        self.dtype = dtype
        self.lean = LeanLlama(model)

    def hidden(self, examples: Sequence[Example], rows: Tensor) -> Tensor:
        """See `Trunk.hidden`."""
        ids = torch.from_numpy(np.concatenate([e.ids for e in examples])).to(rows.device)
        h = self.lean.hidden(ids.long(), [len(e) for e in examples], self.dtype)
        return self.lean.norm(h[rows]).to(self.dtype)


class PaddedTrunk:
    """Any causal language model of transformers, its own forward up to the head."""

    padded = True

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        self.model = model
        self.dtype = dtype
        causal = causal_model(model)
        self.body: nn.Module = getattr(causal, causal.base_model_prefix)

    def hidden(self, examples: Sequence[Example], rows: Tensor) -> Tensor:
        """See `Trunk.hidden`. The causal mask alone keeps padding out: it stands to the right."""
        longest = max(len(e) for e in examples)
        ids = torch.zeros(len(examples), longest, dtype=torch.long)
        for row, example in enumerate(examples):
            ids[row, : len(example)] = torch.from_numpy(example.ids)
        places = torch.cat(
            [torch.arange(len(e)) + row * longest for row, e in enumerate(examples)]
        ).to(rows.device)
        device = rows.device.type
        mixed = torch.autocast(device, self.dtype) if self.dtype != torch.float32 else nullcontext()
        with mixed:
            out = self.body(input_ids=ids.to(rows.device), use_cache=False)
        hidden: Tensor = out.last_hidden_state.flatten(0, 1)[places[rows]]
        return hidden.to(self.dtype)


def causal_model(model: Any) -> Any:
    """The transformers model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


# What a configuration calls a head that is more than one matrix product.
ODD_HEADS = (
    "final_logit_softcapping",
    "lm_head_multiplier",
    "logits_scaling",
    "logits_soft_cap",
    "output_logit_soft_cap",
)


def trunk_for(model: nn.Module, dtype: torch.dtype) -> Trunk:
    """The leanest trunk this model allows."""
    config = causal_model(model).config
    for odd in ODD_HEADS:
        if getattr(config, odd, None) not in (None, 1, 1.0):
            raise ModelError(
                f"this model's head applies {odd}, which training does not know yet",
                remedy="Llama-shaped models, GPT-NeoX, MPT and most others have a plain head.",
            )
    try:
        return LeanTrunk(model, dtype)
    except TypeError:
        return PaddedTrunk(model, dtype)


def summed_loss(trunk: Trunk, examples: Sequence[Example]) -> Tensor:
    """The summed next-token loss in nats over all predicted tokens of `examples`, a scalar.

    -sum log p(x_t | x_<t), within each example.
    """
    causal = causal_model(trunk.model)
    head = causal.get_output_embeddings()
    weight, bias = head.weight, getattr(head, "bias", None)
    mask = np.concatenate([np.concatenate([[False], e.mask[1:]]) for e in examples])
    places = torch.from_numpy(mask.nonzero()[0]).to(weight.device)
    ids = torch.from_numpy(np.concatenate([e.ids for e in examples])).to(weight.device).long()
    hidden = trunk.hidden(examples, places - 1)
    if bias is not None:  # as one more column, under a hidden state that is always 1
        hidden = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], dim=1)
        weight = torch.cat([weight, bias[:, None].to(weight.dtype)], dim=1)
    # Only the models that apply a scale hold it; some configurations name one that is ignored.
    scale = getattr(causal, "logit_scale", None) or 1.0
    return head_cross_entropy(hidden, weight, ids[places], float(scale))


def micro_batches(examples: Sequence[Example], limit: int, *, padded: bool) -> list[list[Example]]:
    """Split into groups of similar length, each of at most `limit` tokens, padding included.

    A single example that is longer than the limit stands alone.
    """
    groups: list[list[Example]] = []
    for example in sorted(examples, key=len):
        group = groups[-1] if groups else []
        total = len(example) * (len(group) + 1) if padded else sum(map(len, group)) + len(example)
        if group and total <= limit:
            group.append(example)
        else:
            groups.append([example])
    return groups
