"""peft's wrapper around a model: what is inside it, and one of its adapters worn at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn


def causal_model(model: Any) -> Any:
    """The transformers model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


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
