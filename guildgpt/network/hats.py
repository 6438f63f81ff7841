"""One base, several hats: policy, reference, reward and value model on one copy of the weights.

Each hat is a low-rank adapter, and a scalar head where it needs one; the reference is the base with
no hat on. Memory holds the base once.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from guildgpt.errors import ModelError
from guildgpt.model.adapter import MERGE, plain_settings, put_on
from guildgpt.model.config import AdapterConfig
from guildgpt.network.lean import causal_model, in_format
from guildgpt.network.shared import SharedLayers
from guildgpt.network.trunk import Trunk, trunk_for

SFT, POLICY, REWARD, JUDGE, VALUE = "sft", "policy", "reward", "judge", "value"  # their names
LINEAR = (nn.Linear, Conv1D)  # what has an adapter

# Layers of state-space models whose weights are read past the module, by transformers or by fused
# kernels: an adapter there would not be seen. And those where peft refuses one, of these kinds.
READ_PAST = ("dt_proj", "x_proj")
REFUSED = ("out_proj", "conv1d")
REFUSED_IN = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")


class Hats:
    """A frozen base in `dtype`, on `device`, and the float32 adapters that were put on it (peft).

    What is frozen is the plain transformers model that is given; it is wrapped, not copied.
    """

    def __init__(self, model: Any, dtype: torch.dtype, device: torch.device):
        self.base: Any = in_format(model, dtype).to(device).requires_grad_(False).eval()
        self.model: Any = None  # peft's wrapper, from the first hat on
        self._linear = _linear_by_layer(self.base)
        self.shared = SharedLayers(len(self._linear))
        self._configs: dict[str, AdapterConfig] = {}
        self.dtype = dtype
        self.device = device

    @property
    def width(self) -> int:
        """The hidden size d."""
        return int(causal_model(self.base).get_input_embeddings().weight.shape[1])

    def add(
        self,
        name: str,
        config: AdapterConfig,
        *,
        seed: int,
        weights: Mapping[str, Tensor] | None = None,
        new_tokens: Sequence[int] = (),
    ) -> None:
        """A new hat, which changes nothing until it is trained (its second matrices are zero), or
        one with the `weights` that `adapter_weights` gave of another.

        Rows of tokens that the base never saw (`new_tokens`) are trained as well, in the embedding
        and in the head.
        """
        from peft import LoraConfig, get_peft_model

        self._configs[name] = config
        lowest = max(len(self._linear) - (config.layers or len(self._linear)), 0)  # with an adapter
        self.shared.depth = min(self.shared.depth, 0 if new_tokens else lowest)
        settings = LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=0.0,
            target_modules=self._targets(lowest),
            trainable_token_indices=self._rows(new_tokens),
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # transformers', about its own names
            warnings.filterwarnings("ignore", "fan_in_fan_out")  # peft's, which sees to it itself
            torch.manual_seed(seed)
            if self.model is None:
                self.model = get_peft_model(self.base, settings, adapter_name=name)
            else:
                self.model.add_adapter(name, settings)
        parameters = self.parameters(name)
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.data = parameter.data.float()
                if weights is not None:
                    parameter.copy_(_fitting(weights, key, parameter))
        self.model.eval()

    def take_up(self, name: str, folder: Path, *, new_tokens: Sequence[int] = ()) -> None:
        """Another's low-rank adapter as the first hat, to be trained further; rows of `new_tokens`
        come to it. ModelError for one that is more than such matrices."""
        settings = plain_settings(folder)
        settings.trainable_token_indices = self._rows(new_tokens)
        self.shared.depth = 0  # it may have matrices in any layer
        self.model = put_on(self.base, folder, name, settings)
        if hasattr(causal_model(self.model).get_output_embeddings(), "lora_A"):
            raise ModelError(
                "this adapter changes the head of the vocabulary, which training here leaves alone",
                where=folder,
                remedy=MERGE,
            )
        for parameter in self.parameters(name).values():
            parameter.data = parameter.data.float()
        self.model.eval()

    def _targets(self, lowest: int) -> list[str] | str:
        """peft's word for the layers that have an adapter, from the layer `lowest` on."""
        named = [*chain(*self._linear[lowest:])]
        out = READ_PAST + (REFUSED if self.base.config.model_type in REFUSED_IN else ())
        left = [name for name in named if name.rpartition(".")[2] not in out]
        return left if lowest or len(left) < len(named) else "all-linear"

    def _rows(self, tokens: Sequence[int]) -> dict[str, list[int]] | None:
        """peft's word for rows of the embedding and of the head that are trained."""
        tables = (self.base.get_input_embeddings(), self.base.get_output_embeddings())
        names = [key for key, module in self.base.named_modules() if module in tables]
        return {key: [*tokens] for key in names} if tokens else None

    def config(self, name: str) -> AdapterConfig:
        """A hat's rank, scale and layers."""
        return self._configs[name]

    def trunk(self, name: str | None) -> Trunk:
        """The model up to its head, wearing the hat `name`, or none."""
        model = self.base if self.model is None else self.model
        return trunk_for(model, self.dtype, name, self.shared)

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        """A hat's own weights by their place in the base; they can be trained from here on.

        peft switches gradients off for adapters that are not active: here they all have them.
        """
        mark = re.compile(rf"\.{name}(\.weight)?$")  # the rows of new tokens are no module's weight
        found = {
            mark.sub("", key): parameter
            for key, parameter in self.model.named_parameters()
            if mark.search(key)
        }
        for parameter in found.values():
            parameter.requires_grad_(True)
        return found

    def adapter_weights(self, name: str) -> dict[str, Tensor]:
        """Copies of a hat's weights, for a file or for another hat."""
        return {key: p.detach().cpu().clone() for key, p in self.parameters(name).items()}

    def merged(self, name: str) -> Any:
        """The plain transformers model in float32 on the CPU with one hat folded into its weights.

        The others are gone afterwards: this is a run's last step.
        """
        self.model.set_adapter(name)  # before the others go, or peft warns of losing the active one
        for other in [one for one in self.model.peft_config if one != name]:
            self.model.delete_adapter(other)
        return self.model.to("cpu").float().merge_and_unload()


def _linear_by_layer(model: nn.Module) -> list[list[str]]:
    """The names of the linear modules in each of a model's layers, the lowest first."""
    lists = {name: one for name, one in model.named_modules() if isinstance(one, nn.ModuleList)}
    nested = {name for name in lists for outer in lists if name.startswith(f"{outer}.")}
    name = max(lists.keys() - nested, key=lambda name: len(lists[name]))  # not a layer's experts
    return [
        [f"{name}.{place}.{key}" for key, one in layer.named_modules() if type(one) in LINEAR]
        for place, layer in enumerate(lists[name])
    ]


def _fitting(weights: Mapping[str, Tensor], key: str, parameter: Tensor) -> Tensor:
    tensor = weights.get(key)
    if tensor is None or tensor.shape != parameter.shape:
        raise ModelError(
            f"an adapter does not fit this base: {key} is "
            + ("missing" if tensor is None else f"{tuple(tensor.shape)}, "
               f"not {tuple(parameter.shape)}"),
            remedy="It was made for another base, or with another rank.",
        )  # fmt: skip
    return tensor
