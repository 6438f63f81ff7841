"""From sequences to losses: whichever model it is, only what is trained is computed.

A `Trunk` gives the hidden states of sequences that do not see each other. `LeanTrunk` (`lean.py`)
runs Llama-shaped models without padding; `PaddedTrunk` runs every other causal model of
transformers, sequences padded on the right, where no real token can look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from guildgpt.data.examples import Example
from guildgpt.network.head import Head, cap_of, head_cross_entropy, head_logprobs
from guildgpt.network.lean import LeanTrunk, causal_model
from guildgpt.network.shared import SharedLayers


class Trunk(Protocol):
    """A model up to its head."""

    padded: bool
    model: nn.Module
    dtype: torch.dtype

    def hidden(self, examples: Sequence[Example], rows: Tensor) -> Tensor:
        """Final hidden states (K, d) at `rows` (K,), places in the examples laid end to end."""

    def work(self, examples: Sequence[Example]) -> tuple[int, int]:
        """How many tokens and how many (query, key) pairs that takes, padding aside."""


class PaddedTrunk:
    """Any causal language model of transformers, its own forward up to the head."""

    padded = True

    def __init__(self, model: nn.Module, dtype: torch.dtype, adapter: str | None = None):
        self.model = model
        self.dtype = dtype
        self.adapter = adapter
        causal = causal_model(model)
        self.body: nn.Module = getattr(causal, causal.base_model_prefix)

    def hidden(self, examples: Sequence[Example], rows: Tensor) -> Tensor:
        """See `Trunk.hidden`. The causal mask alone keeps padding out: it stands to the right."""
        ids = pad_sequence([torch.from_numpy(e.ids).long() for e in examples], batch_first=True)
        starts = torch.arange(len(examples)) * ids.shape[1]
        places = torch.cat(
            [start + torch.arange(len(e)) for start, e in zip(starts, examples, strict=True)]
        )
        with self.mixed(rows.device), wearing(self.model, self.adapter):
            out = self.body(input_ids=ids.to(rows.device), use_cache=False)
        hidden: Tensor = out.last_hidden_state.flatten(0, 1)[places.to(rows.device)[rows]]
        return hidden.to(self.dtype)

    def work(self, examples: Sequence[Example]) -> tuple[int, int]:
        """See `Trunk.work`."""
        return sum(map(len, examples)), sum(len(e) ** 2 for e in examples)

    def mixed(self, device: torch.device) -> torch.autocast:
        """Automatic mixed precision, where the computation is not in float32."""
        return torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)


@contextmanager
def wearing(model: Any, adapter: str | None) -> Iterator[None]:
    """A peft model with one of its adapters on, or none; other models as they are.

    peft freezes whatever adapter it takes off, and a weight that is frozen when gradients arrive
    gets none of them, though it was worn in the pass that they come from: so that is undone.
    """
    if not hasattr(model, "peft_config"):
        yield
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with model.disable_adapter() if adapter is None else nullcontext():
        if adapter is not None:
            model.set_adapter(adapter)
            _train_only(model, trained)
        yield
    _train_only(model, trained)


def _train_only(model: nn.Module, trained: Sequence[nn.Parameter]) -> None:
    model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)


def capped(model: Any) -> Any:
    """The model itself, its attention computed so that a soft cap on attention's logits holds:
    transformers' eager way has it in every version, others leave it out or refuse."""
    if getattr(model.config, "attn_logit_softcapping", None) is not None:
        model.set_attn_implementation("eager")
    return model


def trunk_for(
    model: nn.Module,
    dtype: torch.dtype,
    adapter: str | None = None,
    shared: SharedLayers | None = None,
) -> Trunk:
    """The leanest trunk this model allows, with one of its adapters or none; `shared` are its
    layers below all adapters."""
    config = capped(causal_model(model)).config
    if cap_of(config) is not None:  # no Llama applies one: the proof looks whether the model does
        return PaddedTrunk(model, dtype, adapter)
    try:
        return LeanTrunk(model, dtype, adapter, shared)
    except TypeError:
        return PaddedTrunk(model, dtype, adapter)


def summed_loss(trunk: Trunk, examples: Sequence[Example]) -> Tensor:
    """The summed next-token loss in nats over all predicted tokens of `examples`, a scalar.

    -sum log p(x_t | x_<t), within each example.
    """
    head = Head(trunk.model)
    hidden, targets = _predicting(trunk, examples, head)
    return head_cross_entropy(*head.folded(hidden), targets, head.scale, head.cap)


def token_logprobs(trunk: Trunk, examples: Sequence[Example], temperature: float = 1.0) -> Tensor:
    """log p(x_t | x_<t) of every predicted token, laid end to end (K,).

    `temperature` divides the logits, as it did when the tokens were sampled. Gradients reach the
    trunk; the head itself is not trained here.
    """
    head = Head(trunk.model)
    hidden, targets = _predicting(trunk, examples, head)
    hidden, weight = head.folded(hidden)
    scale, cap = head.scale / temperature, head.cap and head.cap / temperature
    return head_logprobs(hidden, weight.detach(), targets, scale, cap)


def answer_logprobs(trunk: Trunk, examples: Sequence[Example]) -> Tensor:
    """Σ_t log p(a_t) of each example's predicted tokens, in nats: (examples,)."""
    parts = torch.split(token_logprobs(trunk, examples), [e.trained for e in examples])
    return torch.stack([part.sum() for part in parts])


def _predicting(trunk: Trunk, examples: Sequence[Example], head: Head) -> tuple[Tensor, Tensor]:
    """Hidden states (K, d) that predict, and the tokens that come (K,)."""
    device = head.weight.device
    places = predicted(examples).to(device)
    ids = torch.from_numpy(np.concatenate([e.ids for e in examples])).to(device).long()
    return trunk.hidden(examples, places - 1), ids[places]


def predicted(examples: Sequence[Example]) -> Tensor:
    """Where the predicted tokens stand (K,) in the examples laid end to end."""
    mask = np.concatenate([np.concatenate([[False], e.mask[1:]]) for e in examples])
    return torch.from_numpy(mask.nonzero()[0])


def micro_batches(examples: Sequence[Example], limit: int, *, padded: bool) -> list[list[Example]]:
    """Split into groups of at most `limit` tokens: where there is padding, which counts, of similar
    length, elsewhere of neighbours, who may share a prompt.

    A single example that is longer than the limit stands alone.
    """
    groups = length_groups([len(example) for example in examples], limit, padded=padded)
    return [[examples[index] for index in group] for group in groups]


def length_groups(lengths: Sequence[int], limit: int, *, padded: bool) -> list[list[int]]:
    """The same for lengths: which places of the list go together."""
    groups: list[list[int]] = []
    total = 0
    places = range(len(lengths))
    for index in sorted(places, key=lengths.__getitem__) if padded else places:
        count = len(groups[-1]) if groups else 0
        total = lengths[index] * (count + 1) if padded else total + lengths[index]
        if count and total <= limit:
            groups[-1].append(index)
        else:
            groups.append([index])
            total = lengths[index]
    return groups
